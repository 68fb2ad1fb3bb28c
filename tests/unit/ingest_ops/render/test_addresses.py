"""Links of reports lead where their readers are."""

import pytest

from ingest_ops.common.report_settings import ReportSettings
from ingest_ops.render import Link
from ingest_ops.render.addresses import Addresses, of


@pytest.mark.parametrize(
    ("public", "shown"),
    [("", "http://prometheus:9090"), ("https://example.org/prometheus/", "https://example.org/prometheus")],
)
def test_prometheus_is_linked_where_readers_find_it(public: str, shown: str) -> None:
    settings = ReportSettings(prometheus_url="http://prometheus:9090", prometheus_public_url=public)
    found = of(settings).query("up == 0", "2026-01-22T00:00:00Z")
    assert found is not None
    assert found.href == f"{shown}/graph?g0.expr=up%20%3D%3D%200&g0.tab=1&g0.end_input=2026-01-22T00%3A00%3A00Z"


def test_without_an_address_nothing_is_linked() -> None:
    nothing = Addresses()
    assert nothing.query("up", "2026-01-22T00:00:00Z") is None
    assert nothing.charts(1.0, 2.0) == nothing.runbook("IngestNoWriter") == []
    assert nothing.links(1.0, 2.0, failed=True) == []


def test_an_alert_leads_to_its_section_of_the_runbook() -> None:
    assert Addresses(docs="https://example.org/docs").runbook("IngestNoWriter") == [
        Link("IngestNoWriter", "https://example.org/docs/runbook.md#ingestnowriter")
    ]


def test_charts_begin_five_minutes_before() -> None:
    (link,) = Addresses(grafana="https://grafana.example").charts(1000.0, 2000.0)
    assert link.href == "https://grafana.example/d/k2-operations?from=700000&to=2300000"
