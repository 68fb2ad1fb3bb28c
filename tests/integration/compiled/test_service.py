"""The service as the image has it, on the real Kafka: killed, with holes in its feed, and audited."""

import time
from pathlib import Path

import pytest

from tests.harness.compiled import tree
from tests.harness.registry import Registry
from tests.harness.stack import Stack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]


def test_the_compiled_service_loses_and_doubles_nothing(tmp_path: Path, kafka: str, schema_registry: Registry) -> None:
    settings = {"K2_TAKEOVER_AFTER_SECONDS": "3", "K2_BINANCE_VOID_CONFIRM_SECONDS": "3"}
    with Stack(
        tmp_path, bootstrap_servers=kafka, registry_url=schema_registry.url, topic="trades.compiled", settings=settings,
        simulator=["--symbols", "10", "--rate", "2000"],
    ) as stack:  # fmt: skip
        service = stack.service("blue", start=False)
        service.working_directory = tree()
        service.start()
        stack.wait(stack.writing, "the service as writer")
        assert service.status()["compiled"] is True
        for fault, options in (("gap", {"count": 25}), ("duplicate", {"count": 30}), ("void", {"count": 3})):
            stack.simulator.fault(fault, **options)
            time.sleep(1.0)
        service.kill()
        service.start()
        stack.wait(stack.writing, "the service as writer once more")
        time.sleep(1.0)
        stack.simulator.market("stop")
        stack.wait(stack.caught_up, "the last trade in Kafka")
        assert service.terminate() == 0
        code, audit = stack.audit()
    totals = audit["totals"]
    assert code == 0, audit
    assert totals["committed"] > 1000
    assert (totals["missing"], totals["duplicated"], totals["reordered"], totals["altered"]) == (0, 0, 0, 0)
    assert totals["voids"] == 3
