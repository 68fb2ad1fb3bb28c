"""Entry G: the exchange's state of today is not configuration. Entry O: a 403 concerns one request first."""

import time
import urllib.error
from functools import partial

from tests.campaigns.field.environment import (
    Environment,
    audited,
    begin,
    frozen,
    happens,
    logged,
    metric,
    order,
    recorded,
    until,
)
from tests.campaigns.field.example import cases, clean, example, require

STATE = "a start that demands what a running service survives"


def _unknown(environment: Environment, symbols: str, unknown: str) -> str:
    with environment.stack("unknown", "--symbols", "BTCUSDT,ETHUSDT", "--rate", "100", symbols=symbols) as stack:
        service = stack.service(start=False)
        service.start(wait=False)
        require(service.wait(10) is None, f"the service ends with {service.returncode}")
        service.wait_ready()
        stack.wait(lambda: "BTCUSDT" in stack.committed(), "BTCUSDT in Kafka", seconds=60)
        require(logged(service, unknown), f"no warning names {unknown}")
        verdict = clean(stack, "--symbols", "BTCUSDT")
        return f"BTCUSDT is recorded, a warning names {unknown}; {verdict}"


cases(
    "G.1.", STATE, "the rest is recorded; a warning names the symbol that the exchange does not list",
    (
        partial(_unknown, symbols="BTCUSDT,ETHUSDT,GONEUSDT", unknown="GONEUSDT"),
        partial(_unknown, symbols="GONEUSDT,BTCUSDT,币安人生USDT", unknown="币安人生USDT"),
    ),
)  # fmt: skip


@example("G.2", STATE, "`*` while every symbol is in BREAK: it waits, and records when trading begins")
def maintenance(environment: Environment) -> str:
    """The service is started during a maintenance of the whole exchange."""
    with environment.stack("maintenance", "--symbols", "3", "--rate", "100") as stack:
        names = sorted(stack.simulator.state()["symbols"])
        for name in names:
            stack.simulator.fault("symbol_status", symbol=name, status="BREAK")
        service = stack.service(start=False)
        service.start(wait=False)
        require(service.wait(12) is None, f"the service ends with {service.returncode}")
        service.wait_ready()
        for name in names:
            stack.simulator.fault("symbol_status", symbol=name, status="TRADING")
        stack.wait(lambda: len(stack.committed()) == 3, "every symbol in Kafka", seconds=60)
        return f"waited, then recorded; {clean(stack)}"


def _status(environment: Environment, status: str) -> str:
    with environment.stack("status", "--symbols", "3", "--rate", "100") as stack:
        name = sorted(stack.simulator.state()["symbols"])[0]
        stack.simulator.fault("symbol_status", symbol=name, status=status)
        service = begin(stack, symbols=2)
        require(
            happens(lambda: recorded(service, name) > 0, 30), f"{name} in {status} is not recorded although it trades"
        )
        return f"{name} in {status} is recorded; {clean(stack)}"


cases(
    "G.3.", STATE, "symbols in HALT and CANCEL_ONLY that trade are recorded under `*`",
    (partial(_status, status="HALT"), partial(_status, status="CANCEL_ONLY")),
)  # fmt: skip


def _listed(environment: Environment, symbol: str) -> str:
    with environment.begun("listing", "--symbols", "3", "--rate", "200") as (stack, service):
        stack.simulator.fault("list_symbol", symbol=symbol)
        stack.wait(lambda: symbol in stack.committed(), f"{symbol} in Kafka", seconds=60)
        time.sleep(3)
        code, report = audited(stack)
        first = stack.simulator.state()["symbols"][symbol]["first_id"]
        entry = report.get("symbols", {}).get(symbol, {}) if isinstance(report.get("symbols"), dict) else {}
        begins = entry.get("first_id", entry.get("committed_first"))
        require(code == 0, f"{report['verdict']}: {report['reason']}")
        lost = report["totals"]["ledger"] - report["totals"]["committed"]
        begun = _first_record(stack.bootstrap_servers, stack.topic, symbol)
        require(begun == first, f"{symbol} is recorded from id {begun}; its first id is {first}")
        require(not frozen(stack, service), f"frozen: {frozen(stack, service)}")
        return f"{symbol} from id {begun} on, ledger minus committed {lost}, audit {report['verdict']} {begins or ''}"


def _first_record(bootstrap_servers: str, topic: str, symbol: str) -> int | None:
    from confluent_kafka import Consumer

    from tests.harness.topics import beginning

    consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "field", "log_level": 0,
                         "isolation.level": "read_committed", "enable.auto.commit": False})  # fmt: skip
    try:
        consumer.assign(beginning(consumer, topic))
        marker = f"-{symbol}-".encode()
        while (message := consumer.poll(5)) is not None:
            value = message.value() or b""
            if message.error() is None and (message.key() or b"") == symbol.encode():
                text = value[value.index(marker) + len(marker) :]
                digits = text[: next(n for n, one in enumerate(text) if not 48 <= one <= 57)]
                return int(digits)
        return None
    finally:
        consumer.close()


cases(
    "G.4.", STATE, "a symbol listed while running is recorded from its first id, Unicode names too",
    (partial(_listed, symbol="NEWUSDT"), partial(_listed, symbol="币安人生USDT")),
)  # fmt: skip


@example("G.5", STATE, "a Unicode symbol that trades at the start is recorded under `*`", quick=True)
def unicode_at_start(environment: Environment) -> str:
    """`*` means every symbol, whatever its name."""
    with environment.stack("unicode", "--symbols", "2", "--rate", "100") as stack:
        stack.simulator.fault("list_symbol", symbol="币安人生USDT")
        begin(stack, symbols=2)
        require(happens(lambda: "币安人生USDT" in stack.committed(), 30), "币安人生USDT is not recorded")
        return f"recorded; {clean(stack)}"


@example("G.6", STATE, "symbols changed by the control API survive a restart")
def symbols_survive(environment: Environment) -> str:
    """An operator adds a symbol by the control API; the service is restarted."""
    with environment.stack(
        "survive", "--symbols", "BTCUSDT,ETHUSDT,BNBUSDT", "--rate", "100", symbols="BTCUSDT"
    ) as stack:
        service = begin(stack, symbols=1)
        order(service, "symbols", {"add": ["ETHUSDT"], "remove": []})
        stack.wait(lambda: "ETHUSDT" in stack.committed(), "ETHUSDT in Kafka", seconds=60)
        service.terminate()
        service.start()
        stack.wait(stack.writing, "the service as writer", seconds=60)
        time.sleep(3)
        recorded = set(service.status()["symbols"])
        require("ETHUSDT" in recorded, f"after the restart it records {sorted(recorded)}")
        verdict = clean(stack, "--symbols", "BTCUSDT,ETHUSDT")
        return f"after the restart: {sorted(recorded)}; {verdict}"


@example("G.7", STATE, "a symbol delisted between two lives of the service: the start records the rest and says so")
def delisted_while_down(environment: Environment) -> str:
    """A configured symbol is delisted while the service is down."""
    names = "BTCUSDT,ETHUSDT,BNBUSDT"
    with environment.begun("delisted", "--symbols", names, "--rate", "100", symbols=names) as (stack, service):
        service.terminate()
        stack.simulator.fault("delist", symbol="BNBUSDT")
        service.start(wait=False)
        require(service.wait(12) is None, f"the start ends with {service.returncode}")
        service.wait_ready()
        stack.wait(stack.writing, "the service as writer", seconds=60)
        time.sleep(3)
        require(logged(service, "BNBUSDT"), "no warning names BNBUSDT")
        verdict = clean(stack, "--symbols", "BTCUSDT,ETHUSDT")
        return f"the others are recorded; {verdict}"


@example("3.7", "two orders at once", "twelve `symbols` orders at once are served one by one; the writer goes on")
def orders_at_once(environment: Environment) -> str:
    """Several operators change the symbols at the same moment."""
    from concurrent.futures import ThreadPoolExecutor

    with environment.begun("orders", "--symbols", "8", "--rate", "200") as (stack, service):
        names = sorted(service.status()["symbols"])

        def change(number: int) -> int:
            name = names[1 + number % (len(names) - 1)]
            try:
                body = {"add": [name], "remove": []} if number % 2 else {"add": [], "remove": [name]}
                order(service, "symbols", body)
            except urllib.error.HTTPError as error:
                return error.code
            return 200

        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(change, range(12)))
        order(service, "symbols", {"add": names[1:], "remove": []})
        time.sleep(2)
        require(service.alive, f"the service ended with {service.returncode}")
        require(stack.writing(), "the service does not write any more")
        require(all(code < 500 or code == 503 for code in answers), f"answers: {answers}")
        verdict = clean(stack)
        return f"answers {sorted(set(answers))}; {verdict}"


ONE_REQUEST = "a refusal of one request stops everything"


def _one_403(environment: Environment, calls: int, path: str) -> str:
    with environment.begun("waf", "--symbols", "2", "--rate", "100") as (stack, service):
        stack.simulator.fault("rest_status", status=403, calls=calls, path=path)

        def refused() -> bool:
            stack.simulator.fault("gap", count=5)
            return int(stack.simulator.state()["counters"].get("rest_403", 0)) >= calls

        until(refused, f"{calls} refusals", 60, every=1.0)
        began = time.monotonic()
        stack.simulator.market("stop")
        require(happens(stack.caught_up, 60.0), f"a hole is open 60 s after {calls} answers 403")
        code, report = stack.audit()
        require(code == 0, f"{report['verdict']}: {report['reason']}")
        require(logged(service, "403", least="INFO"), "no log record names HTTP 403")
        return f"filled after {time.monotonic() - began:.0f} s; audit {report['verdict']}"


cases(
    "O.", ONE_REQUEST, "a 403 for one request charges that request: the hole is filled within a minute",
    (
        partial(_one_403, calls=1, path="/api/v3/historicalTrades"),
        partial(_one_403, calls=3, path="/api/v3/aggTrades"),
        partial(_one_403, calls=1, path=""),
    ),
)  # fmt: skip


@example("G.8", STATE, "what `*` leaves out is named in a warning, counted in a metric and shown by /status")
def left_out(environment: Environment) -> str:
    """A configured symbol that is not recorded must be visible in three places."""
    with environment.stack("left-out", "--symbols", "2", "--rate", "100", symbols="*") as stack:
        name = sorted(stack.simulator.state()["symbols"])[0]
        stack.simulator.fault("symbol_status", symbol=name, status="BREAK")
        service = begin(stack, symbols=1)
        time.sleep(2)
        status = service.status()
        known = name in status.get("symbols", {}) or name in str(status)
        require(known, f"/status does not name {name}")
        require(
            logged(service, name, least="INFO") or metric(service, "ingest_symbols_left_out") > 0,
            f"neither log nor metric names {name} in BREAK",
        )
        return f"{name} in BREAK is visible"
