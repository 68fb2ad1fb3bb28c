"""A dashboard as we declare it, and as Grafana wants it: everything else of its JSON follows."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

SOURCE = {"type": "prometheus", "uid": "prometheus"}
WIDTH = 24


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One picture. ``queries``: (PromQL, legend). ``limit`` draws a line where an alert begins."""

    title: str
    queries: tuple[tuple[str, str], ...]
    description: str
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    limit: float | None = None
    quiet: str = ""
    """Why the panel may rightly be empty; empty where it must never be."""


@dataclass(frozen=True)
class Dashboard:
    """A page: rows of panels."""

    uid: str
    title: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]

    @property
    def panels(self) -> Iterator[Panel]:
        """All of them."""
        return (panel for _, panels in self.rows for panel in panels)


ANNOTATIONS = (
    ("Deployments", "ingest_deployment_created_timestamp_seconds * 1000", "blue", True),
    ("Hand-overs", 'changes(ingest_generation{job="ingest"}[1m]) > 0', "purple", False),
    ("Pages", 'ALERTS{alertstate="firing",severity="page"}', "red", False),
)
"""(name, query, colour, whether the value is the time in milliseconds)."""


def as_json(dashboard: Dashboard) -> dict[str, Any]:
    """Grafana's model of a dashboard."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in dashboard.rows:
        panels.append(
            {"type": "row", "title": title, "id": len(panels) + 1, "collapsed": False, "panels": [],
             "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1}}
        )  # fmt: skip
        y += 1
        x = 0
        height = 4 if row[0].kind == "stat" else 8
        for panel in row:
            if x + panel.width > WIDTH:
                x, y = 0, y + height
            panels.append(_panel(panel, len(panels) + 1, {"x": x, "y": y, "w": panel.width, "h": height}))
            x += panel.width
        y += height
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["k2-ingest"],
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "schemaVersion": 39,
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "utc",
        "annotations": {"list": [_annotation(*annotation) for annotation in ANNOTATIONS]},
        "templating": {"list": [_slots()]},
        "links": [{"type": "dashboards", "tags": ["k2-ingest"], "title": "K2 Ingest", "asDropdown": False}],
        "panels": panels,
    }


def _annotation(name: str, query: str, colour: str, value_is_time: bool) -> dict[str, Any]:  # noqa: FBT001
    return {
        "name": name, "datasource": SOURCE, "enable": True, "expr": query, "iconColor": colour,
        "useValueForTime": value_is_time, "titleFormat": name, "textFormat": "{{alertname}} {{slot}}",
    }  # fmt: skip


def _slots() -> dict[str, Any]:
    return {
        "name": "slot", "label": "Slot", "type": "query", "datasource": SOURCE, "multi": True, "includeAll": True,
        "allValue": ".*", "current": {"text": "All", "value": "$__all"}, "refresh": 2,
        "query": {"query": 'label_values(up{job="ingest"}, slot)', "refId": "slots"},
    }  # fmt: skip


def _panel(panel: Panel, number: int, position: dict[str, int]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    custom: dict[str, Any] = {}
    if panel.limit is not None:
        steps.append({"color": "red", "value": panel.limit})
        custom["thresholdsStyle"] = {"mode": "line"}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": position,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "thresholds": {"mode": "absolute", "steps": steps},
                "custom": custom if panel.kind == "timeseries" else {},
            },
            "overrides": [],
        },
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": SOURCE, "expr": expr, "legendFormat": legend}
            for at, (expr, legend) in enumerate(panel.queries)
        ],
    }
