"""Further cases of the document's kinds: what the exchange sends, and what observes and judges."""

import subprocess
import sys
import time
from functools import partial
from typing import Any

from tests.campaigns.field.environment import (
    Environment,
    audited,
    frozen,
    happens,
    logged,
)
from tests.campaigns.field.example import cases, clean, example, require
from tests.harness.processes import ROOT, inherited
from tests.harness.stack import Stack

# --- A: identity by id alone ---

IDENTITY = "identity by id alone"


@example("A.10", IDENTITY, "two symbols whose ids begin again at once are both frozen; a third one goes on")
def two_resets(environment: Environment) -> str:
    """The exchange begins the ids of two symbols anew at the same moment."""
    with environment.begun("two-resets", "--symbols", "BTCUSDT,ETHUSDT,BNBUSDT", "--rate", "150") as (stack, service):
        time.sleep(3)
        for symbol in ("BTCUSDT", "ETHUSDT"):
            stack.simulator.fault("id_reset", symbol=symbol, back=5000)
        require(
            happens(lambda: {"BTCUSDT", "ETHUSDT"} <= set(frozen(stack, service)), 30.0),
            f"frozen after 30 s: {frozen(stack, service)}",
        )
        before = stack.committed()["BNBUSDT"]
        require(happens(lambda: stack.committed().get("BNBUSDT", 0) > before + 20, 20.0), "BNBUSDT stands still, too")
        return f"frozen: {frozen(stack, service)}; BNBUSDT goes on"


@example("A.11", IDENTITY, "the same content under a lower id is no duplicate: the symbol is frozen")
def one_id_lower(environment: Environment) -> str:
    """After a reset by fewer ids than are remembered one by one."""
    with environment.begun("small-reset", "--symbols", "BTCUSDT,ETHUSDT", "--rate", "150") as (stack, service):
        time.sleep(3)
        stack.simulator.fault("id_reset", symbol="BTCUSDT", back=30)
        require(happens(lambda: "BTCUSDT" in frozen(stack, service), 30.0), "BTCUSDT is not frozen after 30 s")
        code, report = audited(stack, to_head=False)
        require(code != 0, f"the audit says {report['verdict']}")
        return f"frozen; audit {report['verdict']}"


@example(
    "A.12", IDENTITY, "a jump of the ids by 10^12 that the exchange really made is confirmed, and its symbol goes on"
)
def real_jump(environment: Environment) -> str:
    """The exchange goes on with ids far ahead."""
    with environment.begun("jump", "--symbols", "BTCUSDT,ETHUSDT", "--rate", "150") as (stack, service):
        time.sleep(2)
        stack.simulator.fault("giant_jump", symbol="BTCUSDT", ids=10**12)
        goes_on = happens(lambda: stack.committed().get("BTCUSDT", 0) > 10**12, 60.0)
        require(goes_on or "BTCUSDT" in frozen(stack, service), "BTCUSDT neither goes on nor is frozen")
        require(logged(service, "BTCUSDT"), "no warning names BTCUSDT")
        if not goes_on:
            return "frozen, with a warning"
        return f"goes on beyond the jump; {clean(stack)}"


# --- B: health is work ---

HEALTH = "a sign of life that does not depend on the work"


@example("B.5", HEALTH, "REST alone is away: trades go on, and nothing calls that unready")
def rest_away(environment: Environment) -> str:
    """REST answers nothing for a minute; the streams are well."""
    with environment.begun("rest-away") as (stack, service):
        stack.simulator.fault("rest_hang", calls=-1)
        unready = happens(lambda: not service.healthy(), 50.0)
        stack.simulator.fault("clear")
        require(not unready, "not ready although every trade was recorded")
        return f"ready throughout; {clean(stack)}"


@example(
    "B.6", HEALTH, "every symbol goes into BREAK while running: quiet is no failure; it goes on when trading begins"
)
def maintenance_while_running(environment: Environment) -> str:
    """A maintenance of the whole exchange begins and ends while the service runs."""
    with environment.begun("maintenance-running", "--symbols", "3", "--rate", "100") as (stack, service):
        names = sorted(stack.simulator.state()["symbols"])
        for name in names:
            stack.simulator.fault("symbol_status", symbol=name, status="BREAK")
        unready = happens(lambda: not service.healthy(), 50.0)
        for name in names:
            stack.simulator.fault("symbol_status", symbol=name, status="TRADING")
        require(not unready, "not ready although nothing was traded")
        return f"ready throughout; {clean(stack)}"


@example("B.7", HEALTH, "one of two groups of symbols gets no data: not ready within a minute, ready again afterwards")
def half_silent(environment: Environment) -> str:
    """The connections that carry one of the symbols deliver nothing."""
    with environment.begun("half-silent", "--symbols", "4", "--rate", "200") as (stack, service):
        symbol = sorted(stack.simulator.state()["symbols"])[0]
        began, unready = time.monotonic(), False
        lost = 0
        while time.monotonic() - began < 60.0 and not unready:
            stack.simulator.fault("stall", symbol=symbol, seconds=5)
            time.sleep(0.5)
            unready = not service.healthy()
        lost = stack.simulator.state()["symbols"][symbol]["last_id"] - stack.committed().get(symbol, 0)
        stack.simulator.fault("clear")
        require(unready or lost < 500, f"ready, and {symbol} is {lost} trades behind")
        require(happens(service.healthy, 60.0), "not ready 60 s after data came again")
        return f"{'not ready' if unready else f'filled by REST ({lost} behind)'}; {clean(stack)}"


# --- G: the exchange's state of today ---


@example("G.9", "a start that demands what a running service survives",
         "exchangeInfo refuses for 20 s at the start: the service waits and records everything")  # fmt: skip
def exchange_info_late(environment: Environment) -> str:
    """REST answers 500 while the service starts."""
    with environment.stack("late-info", "--symbols", "3", "--rate", "100") as stack:
        stack.simulator.fault("rest_status", status=500, calls=-1, path="/api/v3/exchangeInfo")
        service = stack.service(start=False)
        service.start(wait=False)
        require(service.wait(20) is None, f"the service ends with {service.returncode}")
        stack.simulator.fault("clear")
        service.wait_ready()
        stack.wait(lambda: len(stack.committed()) == 3, "every symbol in Kafka", seconds=60)
        return f"waits, then records; {clean(stack)}"


@example("G.10", "a start that demands what a running service survives",
         "three symbols listed at once, one of them Unicode, are recorded from their first ids")  # fmt: skip
def three_listings(environment: Environment) -> str:
    """Several coins are listed in the same second."""
    names = ("NEWUSDT", "新币USDT", "NEW2BTC")
    with environment.begun("listings", "--symbols", "3", "--rate", "200") as (stack, _):
        for name in names:
            stack.simulator.fault("list_symbol", symbol=name)
        stack.wait(lambda: set(names) <= set(stack.committed()), "the new symbols in Kafka", seconds=60)
        verdict = clean(stack)
        state = stack.simulator.state()["symbols"]
        positions = {name: entry.get("first_id") for name, entry in service_symbols(stack).items() if name in names}
        wrong = {name: first for name, first in positions.items() if first not in (None, state[name]["first_id"])}
        require(not wrong, f"begun late: {wrong}")
        return f"recorded; {verdict}"


def service_symbols(stack: Stack) -> dict[str, Any]:
    """The symbols of ``/status``."""
    found: dict[str, Any] = stack.services["blue"].status().get("symbols", {})
    return found


# --- H: absence of evidence ---


@example("H.14", "absence of evidence as evidence",
         "an audit while the writer writes: PASS or INCONCLUSIVE, three times in a row")  # fmt: skip
def audit_while_writing(environment: Environment) -> str:
    """The market goes on while the auditor reads."""
    with environment.begun("audit-live", "--symbols", "4", "--rate", "300") as (stack, _):
        seen = []
        for _ in range(3):
            code, report = stack.audit(expect_to_head=False)
            require(code in (0, 2), f"{report['verdict']}: {report['reason']}")
            seen.append(report["verdict"])
        return ", ".join(seen)


# --- M: what only observes ---


@example(
    "M.4", "what only observes stops what records", "the reader of the log is gone (a closed pipe): the feed goes on"
)
def log_without_reader(environment: Environment) -> str:
    """Standard error is a pipe whose reader ends after a second."""
    with environment.stack("closed-pipe", "--symbols", "2", "--rate", "100") as stack:
        ready = stack.directory / "closed.ready.json"
        process = subprocess.Popen(
            [sys.executable, "-m", "ingest", "run"],
            env={**inherited(), **stack.settings(), "K2_METRICS_PORT": "0", "K2_READY_FILE": str(ready),
                 "K2_LOG_LEVEL": "DEBUG"},
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            process.stdout.read(1)
            process.stdout.close()
            happens(lambda: ready.exists() or process.poll() is not None)
            time.sleep(8)
            require(process.poll() is None, f"the service ended with {process.returncode}")
            stack.simulator.market("stop")
            time.sleep(3)
            code, report = stack.audit()
            require(code == 0, f"{report['verdict']}: {report['reason']}")
        finally:
            process.terminate()
            process.wait(30)
        return f"goes on; audit {report['verdict']}"


# --- O: one refused request ---


@example("O.4", "a refusal of one request stops everything",
         "403 for exchangeInfo alone: trades go on and holes are filled")  # fmt: skip
def info_forbidden(environment: Environment) -> str:
    """A firewall refuses one path for good."""
    with environment.begun("waf-info", "--symbols", "2", "--rate", "100") as (stack, _):
        stack.simulator.fault("rest_status", status=403, calls=-1, path="/api/v3/exchangeInfo")
        time.sleep(6)
        stack.simulator.fault("gap", count=20)
        stack.simulator.market("stop")
        filled = happens(stack.caught_up, 60.0)
        stack.simulator.fault("clear")
        require(filled, "a hole is open 60 s after exchangeInfo was refused")
        code, report = stack.audit()
        require(code == 0, f"{report['verdict']}: {report['reason']}")
        return f"filled; audit {report['verdict']}"


# --- 3: wild numbers ---


def _wild(environment: Environment, text: str) -> str:
    with environment.begun("wild", "--symbols", "BTCUSDT,ETHUSDT", "--rate", "100") as (stack, service):
        now = int(time.time() * 1000)  # noqa: TID251 - the exchange's own clock
        last = stack.simulator.state()["symbols"]["BTCUSDT"]["last_id"]
        frame = text.replace("NOW", str(now)).replace("NEXT", str(last + 50))
        stack.simulator.fault("text", text=f'{{"stream":"btcusdt@trade","data":{frame}}}')
        time.sleep(8)
        require(service.alive, f"the service ended with {service.returncode}")
        before = stack.committed()["ETHUSDT"]
        require(happens(lambda: stack.committed().get("ETHUSDT", 0) > before, 20.0), "ETHUSDT stands still")
        halted = frozen(stack, service)
        if halted:
            require(logged(service, "BTCUSDT"), "frozen without a warning")
            return f"frozen with a warning: {halted}"
        return clean(stack)


_EVENT = '{"e":"trade","E":NOW,"s":"BTCUSDT","t":%s,"p":"%s","q":"0.01000000","T":%s,"m":true,"M":true}'
cases(
    "3.10.", "one frame that makes the service ask for ever",
    "one impossible frame halts its symbol with a warning or is rejected; the others are recorded",
    (
        partial(_wild, text=_EVENT % ("-7", "60000.0", "NOW")),
        partial(_wild, text=_EVENT % (2**63 - 1, "60000.0", "NOW")),
        partial(_wild, text=_EVENT % (2**64, "60000.0", "NOW")),
        partial(_wild, text=_EVENT % ("NEXT", "60000.0", "1")),
        partial(_wild, text=_EVENT % ("NEXT", "9" * 40, "NOW")),
        partial(_wild, text=_EVENT % ("NEXT", "60000.0", "99999999999999999")),
    ),
)  # fmt: skip
