"""Options of the soak tests: ``pytest tests/campaigns/soak -m soak --soak-seconds 120`` (the folder must be named)."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest_ops.soak.judge import Judgement
from ingest_ops.soak.plan import Plan
from ingest_ops.soak.record import Record
from tests.campaigns.soak.environment import Feed, soak
from tests.harness.kafka import KafkaUnavailable
from tests.harness.processes import ROOT
from tests.harness.prometheus import PrometheusUnavailable

Soak = Callable[[Plan], tuple[Judgement, Record]]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("soak")
    group.addoption("--soak-seconds", type=float, help="a trial, cut to this; it can never be a PASS")
    group.addoption("--soak-exchange", choices=("simulator", "binance"), default="simulator")
    group.addoption("--soak-rate", type=float, default=2000.0, help="trades per second of the simulator")
    group.addoption("--soak-symbols", type=int, default=50, help="symbols of the simulator")
    group.addoption("--soak-rotation-seconds", type=float, default=14_400.0, help="longest life of a connection")
    group.addoption("--soak-compressed", type=float, default=1.0, help="the market runs this much faster, labelled so")
    group.addoption("--soak-previous", type=Path, help="checkout of the previous release, run on the same feed")
    group.addoption("--soak-leak", type=int, default=0, help="plant a leak of so many bytes a trade")
    group.addoption("--soak-reports", type=Path, default=ROOT / "reports" / "soak", help="where the report goes")


@pytest.fixture
def run_soak(pytestconfig: pytest.Config, tmp_path: Path) -> Soak:
    """Run a whole soak by the options: the judgement and the record. The report is written before anything is said."""

    def run(plan: Plan) -> tuple[Judgement, Record]:
        option = pytestconfig.getoption
        factor = option("soak_compressed", 1.0)
        if factor != 1.0:
            plan = plan.compressed_by(factor)
        if (seconds := option("soak_seconds", None)) is not None:
            plan = plan.shortened(seconds)
        feed = Feed(
            exchange=option("soak_exchange", "simulator"),
            symbols=option("soak_symbols", 50),
            rate=option("soak_rate", 2000.0) * factor,
            rotation_seconds=option("soak_rotation_seconds", 14_400.0) / factor,
            previous=option("soak_previous", None),
            leak_bytes_per_trade=option("soak_leak", 0),
            scrape_seconds=min(5.0, plan.sample_seconds / 3),
        )
        run_id = time.strftime(f"soak-{plan.name}-%Y%m%d-%H%M%S", time.gmtime())
        try:
            judgement, record, _ = soak(tmp_path, feed, plan, run_id, option("soak_reports", ROOT / "reports" / "soak"))
        except (KafkaUnavailable, PrometheusUnavailable) as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))
        return judgement, record

    return run
