"""Entry H: what the auditor cannot know, it must not call wrong. What an adversary hid from it."""

import time
from functools import partial

from tests.campaigns.field.environment import Environment, begin, ingest, traceback_in
from tests.campaigns.field.example import cases, example, require
from tests.harness.stack import Stack

ABSENCE = "absence of evidence as evidence"


def _rest_audit(stack: Stack, *options: str, seconds: float = 120.0) -> tuple[int, str]:
    done = ingest(
        "audit", "--bootstrap-servers", stack.bootstrap_servers, "--schema-registry-url", stack.registry_url,
        "--topic", stack.topic, "--ledger-rest", stack.simulator.rest_url, "--timeout", "5", *options, seconds=seconds,
    )  # fmt: skip
    text = done.stdout + done.stderr
    require(not traceback_in(text), f"a traceback: {text[-200:]}")
    return done.returncode, text


def _recorded(environment: Environment, stack: Stack) -> None:
    service = begin(stack)
    time.sleep(4)
    stack.simulator.market("stop")
    stack.wait(stack.caught_up, "the last trade in Kafka", seconds=60)
    service.terminate()


def _with_fault(environment: Environment, kind: str, right: tuple[int, ...], **options: object) -> str:
    with environment.stack("audit-fault", "--symbols", "2", "--rate", "100") as stack:
        _recorded(environment, stack)
        code, text = _rest_audit(stack)
        require(code == 0, f"without a fault the audit exits {code}: {text[-200:]}")
        stack.simulator.fault(kind, **options)
        code, text = _rest_audit(stack)
        require(code in right, f"exit {code}: {text[-300:]}")
        return f"exit {code}"


cases(
    "H.", ABSENCE, "INCONCLUSIVE (exit 2) where the ledger cannot show it; never FAIL",
    (
        partial(_with_fault, kind="rest_status", right=(2,), status=400, calls=-1, path="/api/v3/historicalTrades"),
        partial(_with_fault, kind="rest_status", right=(2,), status=400, calls=-1, path=""),
        partial(_with_fault, kind="retention", right=(2,), trades=20),
        partial(_with_fault, kind="retention", right=(2,), trades=1),
        partial(_with_fault, kind="history_lag", right=(0, 2), seconds=3600.0),
        partial(_with_fault, kind="history_lag", right=(0, 2), seconds=6.0),
        partial(_with_fault, kind="rest_garbage", right=(0, 2), calls=-1),
        partial(_with_fault, kind="rest_status", right=(2,), status=503, calls=-1, path=""),
        partial(_with_fault, kind="rest_status", right=(2,), status=403, calls=-1, path=""),
        partial(_with_fault, kind="rest_hang", right=(2,), calls=-1),
    ),
)  # fmt: skip


@example("H.11", ABSENCE, "an unknown symbol at the exchange (delisted) is INCONCLUSIVE for its records, not `altered`")
def delisted_at_the_audit(environment: Environment) -> str:
    """A symbol is delisted before the audit: its history is gone."""
    with environment.stack("audit-delisted", "--symbols", "BTCUSDT,ETHUSDT", "--rate", "100") as stack:
        _recorded(environment, stack)
        stack.simulator.fault("delist", symbol="ETHUSDT")
        code, text = _rest_audit(stack)
        require(code == 2, f"exit {code}: {text[-300:]}")
        return "exit 2"


@example("H.12", ABSENCE, "an empty topic is INCONCLUSIVE")
def empty_topic(environment: Environment) -> str:
    """Nothing was recorded."""
    with environment.stack("audit-empty", "--symbols", "2", "--rate", "10") as stack:
        code, text = _rest_audit(stack)
        require(code == 2, f"exit {code}: {text[-300:]}")
        return "exit 2"


@example("H.13", ABSENCE, "a topic without a positions topic is judged by its trades; no false verdict")
def without_positions(environment: Environment) -> str:
    """The positions topic is gone: the trades themselves are right."""
    with environment.stack("audit-alone", "--symbols", "2", "--rate", "100") as stack:
        _recorded(environment, stack)
        environment.delete(f"{stack.topic}.positions")
        code, text = _rest_audit(stack, "--symbols", ",".join(stack.simulator.state()["symbols"]))
        require(code in (0, 2), f"exit {code}: {text[-300:]}")
        return f"exit {code}"
