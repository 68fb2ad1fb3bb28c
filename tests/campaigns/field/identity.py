"""Entry A, and what an adversary did to ids: identity by id alone, and one witness that overrules another."""

import time
import urllib.error
from functools import partial

from tests.campaigns.field.environment import (
    Environment,
    audited,
    frozen,
    happens,
    logged,
    metric,
    order,
    until,
    wrong_in,
)
from tests.campaigns.field.example import cases, clean, example, require
from tests.harness.processes import ServiceProcess
from tests.harness.stack import Stack

IDENTITY = "identity by id alone"
HALTS = "the symbol is frozen with a warning that names it, not ready or paging; the audit does not pass"


def _busiest(stack: Stack) -> tuple[str, int]:
    symbols = stack.simulator.state()["symbols"]
    symbol = max(symbols, key=lambda name: symbols[name]["last_id"] - symbols[name]["first_id"])
    return symbol, symbols[symbol]["last_id"]


def _halted(stack: Stack, service: ServiceProcess, symbol: str) -> str:
    begun = time.monotonic()
    require(
        happens(lambda: symbol in frozen(stack, service), 30.0),
        f"{symbol} is not frozen 30 s after its ids began again; "
        f"{metric(service, 'ingest_duplicates_dropped_total'):.0f} trades dropped as duplicates",
    )
    seconds = time.monotonic() - begun
    require(metric(service, "ingest_symbols_frozen") >= 1, "the metric ingest_symbols_frozen does not say so")
    require(logged(service, symbol), f"no warning names {symbol}")
    code, report = audited(stack, to_head=False)
    require(code != 0, f"the audit says {report['verdict']}")
    return f"{symbol} frozen after {seconds:.1f} s; audit {report['verdict']}"


def _reset(environment: Environment, back: int, seconds: float = 4.0) -> str:
    with environment.begun("id-reset", "--symbols", "BTCUSDT,ETHUSDT", "--rate", "100", "--seed", "7") as (
        stack,
        service,
    ):
        time.sleep(seconds)
        symbol, _ = _busiest(stack)
        first = stack.simulator.state()["symbols"][symbol]["first_id"]
        stack.simulator.fault("id_reset", symbol=symbol, to=first - back)
        return _halted(stack, service, symbol)


for _number, _back in enumerate((200_000, 500_000, 990_000, 20_000, 4_000, 2_000), 1):
    example(f"A.{_number}", IDENTITY, HALTS + f" (back by {_back:,})")(partial(_reset, back=_back))


@example("A.7", IDENTITY, HALTS + " (the ids begin again while the service is down)")
def reset_while_down(environment: Environment) -> str:
    """The exchange begins a symbol's ids anew between two lives of the service."""
    with environment.begun("reset-down", "--symbols", "BTCUSDT,ETHUSDT", "--rate", "100", "--seed", "7") as (
        stack,
        service,
    ):
        time.sleep(3)
        service.terminate()
        symbol, last = _busiest(stack)
        stack.simulator.fault("id_reset", symbol=symbol, to=last - 300_000)
        time.sleep(2)
        service.start()
        return _halted(stack, service, symbol)


@example("A.8", IDENTITY, HALTS + " (delisted, and listed again with ids from 1)")
def relisted(environment: Environment) -> str:
    """A coin is delisted and listed again; its ids begin anew."""
    with environment.begun("relisted", "--symbols", "BTCUSDT,ETHUSDT,BNBUSDT", "--rate", "100") as (stack, service):
        time.sleep(2)
        stack.simulator.fault("delist", symbol="BNBUSDT")
        time.sleep(5)
        stack.simulator.fault("list_symbol", symbol="BNBUSDT")
        return _halted(stack, service, "BNBUSDT")


@example("A.9", IDENTITY, "true repetitions and reordered trades stay duplicates: nothing is frozen, the audit passes")
def no_false_alarm(environment: Environment) -> str:
    """What is only sent again must not be taken for ids that begin again."""
    with environment.begun("no-false-alarm", "--symbols", "4", "--rate", "200") as (stack, service):
        for _ in range(3):
            stack.simulator.fault("replay", connections=2, trades=200)
            stack.simulator.fault("reset")
            stack.simulator.fault("duplicate", count=20)
            stack.simulator.fault("reorder", count=5)
            time.sleep(3)
        stack.wait(stack.writing, "the service as writer", seconds=60)
        require(not frozen(stack, service), f"frozen: {frozen(stack, service)}")
        verdict = clean(stack)
        return f"{verdict}, {metric(service, 'ingest_duplicates_dropped_total'):.0f} duplicates dropped"


VOID = "one witness overrules another that knows more"


def _void_keeps_memory(environment: Environment, retention: int, count: int, refusals: int) -> str:
    simulator = ("--symbols", "2", "--rate", "200", "--seed", "5", "--retention", str(retention))
    with environment.begun("void", *simulator, K2_BINANCE_VOID_CONFIRM_SECONDS="3") as (stack, _):
        time.sleep(2)
        symbol, _ = _busiest(stack)
        stack.simulator.fault("rest_status", status=503, calls=refusals, path="/api/v3/historicalTrades")
        stack.simulator.fault("gap", symbol=symbol, count=count)
        time.sleep(20)
        stack.simulator.fault("rest_status", status=503, calls=0)
        stack.simulator.market("stop")
        stack.wait(stack.caught_up, "the last trade in Kafka", seconds=120)
        _, report = stack.audit()
        totals = report["totals"]
        lost = totals["ledger"] - totals["committed"]
        require(lost <= count, f"{lost} trades lost although {count} were missing from the stream")
        bad = {
            name: number for name, number in wrong_in(totals).items() if name in ("duplicated", "reordered", "altered")
        }
        require(not bad, f"audit: {bad}")
        return f"{lost} of {totals['ledger']:,} lost, {totals['voids']} voids"


cases(
    "3.1.", VOID, "a void ends before the first held id: not more is lost than was missing",
    (
        partial(_void_keeps_memory, retention=300, count=1, refusals=7),
        partial(_void_keeps_memory, retention=100, count=3, refusals=12),
    ),
)  # fmt: skip


@example("3.4", "a rule that one entrance checks and another does not",
         "the control API refuses a symbol of another shard with 400 or 409")  # fmt: skip
def foreign_shard(environment: Environment) -> str:
    """The control API adds a symbol to a shard that does not own it."""
    with environment.stack("shards", "--symbols", "8", "--rate", "100") as stack:
        environment.grow(f"{stack.topic}.positions", 2)
        service = stack.service(K2_SHARD_INDEX="0", K2_SHARD_COUNT="2")
        stack.wait(stack.writing, "the service as writer", seconds=60)
        until(lambda: bool(stack.committed()), "trades in Kafka", 60)
        foreign = sorted(set(stack.simulator.state()["symbols"]) - set(service.status()["symbols"]))
        require(foreign, "every symbol belongs to shard 0")
        refused = 0
        for symbol in foreign:
            try:
                order(service, "symbols", {"add": [symbol], "remove": []})
            except urllib.error.HTTPError as error:
                refused += error.code in (400, 409)
        time.sleep(2)
        taken = set(foreign) & set(service.status()["symbols"])
        require(not taken, f"shard 0 records {sorted(taken)} of shard 1")
        require(refused == len(foreign), f"{len(foreign) - refused} of {len(foreign)} orders were not refused")
        return f"{refused} orders refused"


@example("3.6", "one frame that makes the service ask for ever",
         "a wild id costs a bounded weight of REST and a warning; the others are recorded")  # fmt: skip
def wild_id(environment: Environment) -> str:
    """One frame names an id far ahead of the symbol's."""
    with environment.begun("wild-id", "--symbols", "BTCUSDT,ETHUSDT", "--rate", "50") as (stack, service):
        last = stack.simulator.state()["symbols"]["BTCUSDT"]["last_id"]
        now = int(time.time() * 1000)  # noqa: TID251 - the exchange's own clock
        text = (
            f'{{"e":"trade","E":{now},"s":"BTCUSDT","t":{last + 500_000},"p":"60000.00000000","q":"0.01000000",'
            f'"T":{now},"m":true,"M":true}}'
        )
        stack.simulator.fault("text", text=f'{{"stream":"btcusdt@trade","data":{text}}}')
        before = _rest_calls(stack)
        time.sleep(20)
        calls = _rest_calls(stack) - before
        require(calls <= 60, f"{calls} REST calls in 20 s for one frame")
        require(logged(service, "BTCUSDT"), "no warning names BTCUSDT")
        return f"{calls} REST calls in 20 s; frozen: {frozen(stack, service)}"


def _rest_calls(stack: Stack) -> int:
    counters = stack.simulator.state()["counters"]
    return sum(value for name, value in counters.items() if name.startswith("rest_calls:"))


@example("S5", "one wrong number",
         "a symbol frozen by one old id is named in the log; it goes on at its own id without a void")  # fmt: skip
def old_id(environment: Environment) -> str:
    """One frame names an id far behind the symbol's."""
    with environment.begun("old-id", "--symbols", "BTCUSDT,ETHUSDT", "--rate", "50") as (stack, service):
        now = int(time.time() * 1000)  # noqa: TID251 - the exchange's own clock
        text = (
            f'{{"e":"trade","E":{now},"s":"BTCUSDT","t":5,"p":"60000.00000000","q":"0.01000000",'
            f'"T":{now},"m":true,"M":true}}'
        )
        stack.simulator.fault("text", text=f'{{"stream":"btcusdt@trade","data":{text}}}')
        time.sleep(3)
        if "BTCUSDT" not in frozen(stack, service):
            require(logged(service, "BTCUSDT") or metric(service, "ingest_rejected_total"), "the id left no trace")
            code, report = audited(stack)
            require(code == 0, f"{report['verdict']}: {report['reason']}")
            return f"rejected, not frozen; audit {report['verdict']}"
        require(logged(service, "BTCUSDT"), "BTCUSDT is frozen and no log record says so")
        last = service.status()["symbols"]["BTCUSDT"]["last_id"]
        order(service, "thaw", {"symbol": "BTCUSDT", "next_id": last + 1, "actor": "field"})
        code, report = audited(stack)
        require(code == 0, f"thawed at the right id: {report['verdict']}: {report['reason']}")
        return "frozen with a warning, resumed at the next id without a void"
