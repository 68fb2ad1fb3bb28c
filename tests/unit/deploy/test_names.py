"""Every name and label in rules, dashboards and gates is one that something really exposes: a dead rule fails here."""

import re
import string
from pathlib import Path

import httpx2
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from deploy.checks import ALERTS
from deploy.dashboards import DASHBOARDS
from deploy.generate import ROOT, files
from deploy.grafana_model import ANNOTATIONS
from deploy.records import RECORDS
from ingest.audit.check_base import Totals
from ingest.audit.run import Outcome
from ingest.audit.watch import Figures
from ingest.fleet.metrics import FleetMetrics
from ingest.metrics import Metrics
from ingest.service.lane_counters import StreamCounters
from ingest_ops.agent.process_slots import ProcessConfig, ProcessSlots
from ingest_ops.agent.server import AgentServer
from ingest_ops.deployment.gate_inputs import Scope, selector_of
from ingest_ops.deployment.gates import GATES
from ingest_ops.deployment.journal import Journal
from ingest_ops.deployment.plan import Plan, parse
from ingest_ops.exporter.collector import Operations
from tests.unit.deploy.promql import Selector, grouped, selectors

TARGET = {"job", "instance"}
SERVICE = TARGET | {"slot", "shard"}
"""Labels by the scrape configuration; ``shard`` where there are several."""

Known = dict[str, dict[str, set[str]]]
"""Metric -> label -> the values that exist from the start; empty where they come with the data."""

PROMETHEUS: Known = {
    "up": {label: set() for label in SERVICE},
    "ALERTS": {"alertname": {alert.name for alert in ALERTS}, "alertstate": {"firing", "pending"}, "severity": set()},
    "prometheus_rule_evaluation_failures_total": {"rule_group": set()},
    "prometheus_notifications_errors_total": {"alertmanager": set()},
}


def exposed(families: list[Metric], labels: set[str], known: Known) -> None:
    for family in families:
        for sample in family.samples:
            values = known.setdefault(sample.name, {label: set() for label in labels})
            for label, value in sample.labels.items():
                values.setdefault(label, set()).add(value)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    """What the service, the auditor, the agent, the exporter and Prometheus expose, and the recording rules."""
    found: Known = {name: dict(labels) for name, labels in PROMETHEUS.items()}
    metrics = Metrics(symbols=["BTCUSDT"])
    metrics.build.info({"version": "1", "revision": "x"})
    for by_name in (
        metrics.connection_status, metrics.connection_age, metrics.last_pong, metrics.stable_offset_stuck
    ):  # fmt: skip
        by_name.labels("any")
    metrics.topic_problems.labels("any", "any")
    for stream in ("aggTrade", "bookTicker", "depth"):
        StreamCounters(metrics, stream).gauges(0, 0, 0)
        metrics.stream_committed.labels(stream)
    exposed(list(metrics.registry.collect()), SERVICE, found)
    fleet = FleetMetrics("any")
    fleet.writing.labels("any", "0")
    exposed(list(fleet.registry.collect()), TARGET, found)
    figures = Figures()
    figures.show(Outcome("FAIL", "one is missing", Totals(ledger=2, committed=1, missing=1)), 1000.0)
    exposed(list(figures.registry.collect()), TARGET, found)
    folder = tmp_path_factory.mktemp("operations")
    (folder / "validation").mkdir()
    (folder / "validation" / "one.json").write_text('{"verdict": "PASS"}')
    (folder / "archive").mkdir()
    days = '[{"day": "1970-01-01", "verdict": "PASS"}]'
    (folder / "archive" / "one.json").write_text(f'{{"verdict": "PASS", "days": {days}}}')
    url = f"sqlite:///{folder}/journal.db"
    journal = Journal(url, lambda: 0.0)
    journal.create("one", Plan(version="1"))
    registry = CollectorRegistry()
    registry.register(Operations(folder, lambda: Journal(url, lambda: 0.0), lambda: 0.0))
    exposed(list(registry.collect()), TARGET, found)
    journal.close()
    slots = ProcessSlots(folder / "agent", ProcessConfig())
    with AgentServer("127.0.0.1", 0, slots=slots, token="x" * 16) as agent:
        text = httpx2.get(f"{agent.url}/metrics", trust_env=False).text
    exposed(list(text_string_to_metric_families(text)), TARGET, found)
    for record in RECORDS:
        found[record.name] = {label: set() for label in SERVICE}
    return found


GATE_SCOPE = Scope(plan=parse({"version": "v2"}), candidate="green", live="blue", start=0.0, end=600.0)
EXPRESSIONS: dict[str, tuple[str, ...]] = {
    **{record.name: (record.expr,) for record in RECORDS},
    **{alert.name: (alert.expr,) for alert in ALERTS},
    **{f"{d.title}: {panel.title}": tuple(q for q, _ in panel.queries) for d in DASHBOARDS for panel in d.panels},
    **{f"annotation {name}": (query,) for name, query, *_ in ANNOTATIONS},
    **{f"gate {gate.id}": tuple(selector_of(one, GATE_SCOPE) for one in gate.inputs.values()) for gate in GATES},
}


def problems(selector: Selector, known: Known) -> list[str]:
    labels = known.get(selector.metric)
    if labels is None:
        return [f"nothing exposes {selector.metric}"]
    found = []
    for label, operator, value in selector.matchers:
        values = labels.get(label)
        if values is None:
            found.append(f"{selector.metric} has no label {label}")
        elif values and not label.endswith("slot") and operator in ("=", "=~"):
            pattern = re.escape(value) if operator == "=" else value
            if not any(re.fullmatch(pattern, one) for one in values):
                found.append(f"{selector.metric} never has {label}={value!r}: there are {sorted(values)}")
    return found


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_what_is_asked_for_exists(where: str, known: Known) -> None:
    for expression in EXPRESSIONS[where]:
        text = string.Template(expression).safe_substitute(window="10m", step="15s", range="1m")
        asked = list(selectors(text))
        assert asked or expression == "vector(1)", f"nothing found in {expression}"
        assert [problem for selector in asked for problem in problems(selector, known)] == []
        labels = {label for selector in asked for label in known[selector.metric]} | {"le"}
        labels |= {"shard"} if "ingest:expected_shard:info" in text else set()
        assert grouped(text) <= labels, f"grouped by a label that none of its series has: {expression}"


@pytest.mark.parametrize(
    "broken",
    [
        "ingest_no_such_series > 0",
        'sum(rate(binance_reconnects_total{cause="dns"}[5m]))',
        'binance_reconnects_total{reason="never"}',
        'rate(ingest_log_events_total{level=~"FATAL|PANIC"}[5m])',
    ],
)
def test_a_dead_rule_is_found(broken: str, known: Known) -> None:
    assert [problem for selector in selectors(broken) for problem in problems(selector, known)]


def test_what_is_committed_is_what_is_generated() -> None:
    stale = [str(path.relative_to(ROOT)) for path, text in files().items() if path.read_text("utf-8") != text]
    assert not stale, "run `make rules`"


def test_every_alert_has_its_section_in_the_runbook_and_no_section_is_left_over() -> None:
    text = Path(ROOT / "docs/runbook.md").read_text("utf-8")
    sections = set(re.findall(r"^## (\w+)$", text, re.MULTILINE))
    assert {alert.name for alert in ALERTS} == sections
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        name = section.splitlines()[0]
        for part in ("**Means:**", "**How bad:**", "**Look at:**", "**Do:**"):
            assert part in section, f"{name}: no {part}"
