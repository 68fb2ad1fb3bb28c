"""Section P: positions that are well-formed and wrong, at every kind of start."""

import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from confluent_kafka import Consumer, Producer

from ingest.core.streams import STREAMS as KINDS
from tests.campaigns.field.environment import (
    Environment,
    audited,
    begin,
    frozen,
    happens,
    ingest,
    logged,
    metric,
    order,
    recorded,
    until,
    wrong_in,
)
from tests.campaigns.field.example import cases, clean, example, require
from tests.harness.processes import ServiceProcess
from tests.harness.stack import Stack
from tests.harness.topics import beginning

BELIEVED = "a well-formed record is believed, whoever wrote it"
HALTED = (
    "the symbol is frozen and the log names `ingest positions rebuild --replace`; the others are written; after the "
    "command nothing is lost or doubled"
)
MARKET = ("--symbols", "3", "--rate", "100", "--seed", "31")
Stored = dict[str, Any]
Forge = Callable[[Stored], Stored]


def stored(stack: Stack) -> dict[str, Stored]:
    """Symbol -> its position of the trades, as the topic holds it."""
    found: dict[str, Stored] = {}
    consumer = Consumer({"bootstrap.servers": stack.bootstrap_servers, "group.id": "field", "log_level": 0,
                         "isolation.level": "read_committed", "enable.auto.commit": False,
                         "enable.partition.eof": True})  # fmt: skip
    try:
        places = beginning(consumer, f"{stack.topic}.positions")
        consumer.assign(places)
        ended: set[int] = set()
        while len(ended) < len(places):
            message = consumer.poll(10)
            require(message is not None, "the positions cannot be read")
            assert message is not None
            if message.error() is not None:
                ended.add(message.partition() or 0)
                continue
            kind, _, symbol = (message.key() or b"").decode().partition(":")
            if kind == "position" and ":" not in symbol and message.value():
                found[symbol] = json.loads(message.value() or b"")
    finally:
        consumer.close()
    return found


def write(stack: Stack, positions: Mapping[str, Stored | None]) -> None:
    """Write positions as any program with access can; None is a tombstone."""
    producer = Producer({"bootstrap.servers": stack.bootstrap_servers})
    for symbol, position in positions.items():
        value = None if position is None else json.dumps(position).encode()
        producer.produce(f"{stack.topic}.positions", key=f"position:{symbol}", value=value, partition=0)
    require(producer.flush(30) == 0, "the forged positions are not written")


def moved(position: Stored, ids: int) -> Stored:
    """The position so many ids further, with all that belongs to it."""
    return {**position, "last_id": position["last_id"] + ids, "count": position["count"] + ids}


def _exact(stack: Stack) -> str:
    """Audit the records. The forged position stays in its topic until compaction, and the auditor says so."""
    _, report = audited(stack)
    bad = {name: count for name, count in wrong_in(report["totals"]).items() if name != "position"}
    require(not bad and report["totals"]["committed"] > 0, f"{report['verdict']}: {report['reason']}")
    return f"{report['totals']['committed']} records, none missing, none twice"


def _mended(stack: Stack, service: ServiceProcess, wrong: list[str]) -> str:
    """The symbols are frozen, the others go on; the named command mends it; the audit is clean."""
    require(happens(lambda: frozen(stack, service) == wrong, 30.0), f"frozen: {frozen(stack, service)}, not {wrong}")
    require(logged(service, "ingest positions rebuild --replace", wrong[0]), "no log record names the command")
    others = [symbol for symbol in stored(stack) if symbol not in wrong]
    require(happens(lambda: service.healthy() == bool(others), 10.0), f"ready: {service.healthy()}, written: {others}")
    before = {symbol: recorded(service, symbol) for symbol in others}
    require(
        happens(lambda: all(recorded(service, one) > before[one] for one in others), 30.0), "the others are not written"
    )
    service.terminate()
    done = ingest("positions", "rebuild", "--replace", settings=stack.settings(), seconds=120)
    require(done.returncode == 0, f"the command exits {done.returncode}: {(done.stderr or done.stdout)[-300:]}")
    service.start()
    stack.wait(stack.writing, "the service as writer", seconds=60)
    verdict = _exact(stack)
    require(not frozen(stack, service), f"still frozen: {frozen(stack, service)}")
    return f"{', '.join(wrong)} frozen, mended by the command; {verdict}"


def _forged_while_down(environment: Environment, forge: Forge, every: bool = False) -> str:
    with environment.begun("forged", *MARKET) as (stack, service):
        time.sleep(4)
        service.terminate()
        right = stored(stack)
        wrong = sorted(right) if every else sorted(right)[:1]
        write(stack, {symbol: forge(right[symbol]) for symbol in wrong})
        service.start()
        stack.wait(stack.writing, "the service as writer", seconds=60)
        return _mended(stack, service, wrong)


cases(
    "P.1.", BELIEVED, HALTED,
    (
        partial(_forged_while_down, forge=lambda one: moved(one, 60)),
        partial(_forged_while_down, forge=lambda one: moved(one, 2_000_000)),
        partial(_forged_while_down, forge=lambda one: moved(one, -60)),
        partial(_forged_while_down, forge=lambda one: moved(one, -1)),
        partial(_forged_while_down, forge=lambda one: moved(one, 1)),
        partial(_forged_while_down, forge=lambda one: {**moved(one, 40), "first_id": one["last_id"] + 41, "count": 0}),
        partial(_forged_while_down, forge=lambda one: moved(one, -60), every=True),
    ),
)  # fmt: skip


@example("P.2", BELIEVED, HALTED + " (a backup of the positions topic is restored)")
def restored_backup(environment: Environment) -> str:
    """Every position of some seconds ago is written again, byte by byte."""
    with environment.begun("backup", *MARKET) as (stack, service):
        time.sleep(3)
        backup = stored(stack)
        time.sleep(3)
        service.terminate()
        write(stack, backup)
        service.start()
        stack.wait(stack.writing, "the service as writer", seconds=60)
        return _mended(stack, service, sorted(backup))


def _forged_before_take_over(environment: Environment, ids: int, *, killed: bool) -> str:
    with environment.begun("forged-standby", *MARKET) as (stack, blue):
        green = stack.service("green", start=True)
        stack.wait(lambda: green.status()["role"] == "standby", "a warm standby", seconds=60)
        time.sleep(3)
        # The market rests: a symbol that trades would have its position written again at once.
        stack.simulator.market("stop")
        stack.wait(stack.caught_up, "the last trade in Kafka", seconds=60)
        right = stored(stack)
        wrong = sorted(right)[0]
        write(stack, {wrong: moved(right[wrong], ids)})
        time.sleep(0.5)
        if killed:
            blue.kill()
        else:
            order(green, "promote", {"deployment_id": "forged", "generation": green.status()["generation"] + 1})
        stack.simulator.market("start")
        stack.wait(lambda: stack.writing("green"), "the standby as writer", seconds=60)
        require(
            happens(lambda: frozen(stack, green) == [wrong], 30.0), f"frozen: {frozen(stack, green)}, not {[wrong]}"
        )
        command = ("ingest positions rebuild --replace", wrong)
        require(happens(lambda: logged(green, *command), 10.0), "no log record names the command")
        if not killed:
            blue.terminate()
        green.terminate()
        done = ingest("positions", "rebuild", "--replace", settings=stack.settings(), seconds=120)
        require(done.returncode == 0, f"the command exits {done.returncode}: {(done.stderr or done.stdout)[-300:]}")
        blue.start()
        stack.wait(stack.writing, "the service as writer", seconds=60)
        return f"{wrong} frozen at the take-over, mended by the command; {_exact(stack)}"


cases(
    "P.3.", BELIEVED, HALTED + " (forged while a standby waits; take-over by a lease, and by a promotion)",
    (
        partial(_forged_before_take_over, ids=60, killed=True),
        partial(_forged_before_take_over, ids=-60, killed=False),
    ),
)  # fmt: skip


@example("P.4", "a check that halts what is right",
         "right positions never halt: of symbols far from the end of the topic, behind another program's open "
         "transaction, and with every record deleted")  # fmt: skip
def never_falsely(environment: Environment) -> str:
    """Everything that makes a record hard to find, one after the other."""
    with environment.begun("right", *MARKET) as (stack, service):
        busy = sorted(stack.simulator.state()["symbols"])[0]
        time.sleep(2)
        seen = []
        # Far from the end: other records of its partition are written behind it, by another program.
        stack.simulator.market("stop")
        stack.wait(stack.caught_up, "the last trade in Kafka", seconds=60)
        service.terminate()
        producer = Producer({"bootstrap.servers": stack.bootstrap_servers})
        for number in range(60_000):
            producer.produce(stack.topic, key="JUNK", value=b"x" * 20, partition=number % 2)
            if number % 5_000 == 0:
                producer.flush(30)
        producer.flush(30)
        service.start()
        stack.wait(stack.writing, "the service as writer", seconds=60)
        time.sleep(2)
        require(not frozen(stack, service), f"far from the end: frozen: {frozen(stack, service)}")
        seen.append(f"{metric(service, 'ingest_positions_unchecked'):.0f} of 3 unchecked far from the end")
        # Behind an open transaction of another program.
        other = Producer({"bootstrap.servers": stack.bootstrap_servers, "transactional.id": f"{stack.topic}-other"})
        other.init_transactions(30)
        other.begin_transaction()
        for partition in range(2):
            other.produce(stack.topic, key="JUNK", value=b"y", partition=partition)
        other.flush(30)
        stack.simulator.market("start")
        until(lambda: recorded(service, busy) > 20, "trades behind the open transaction", 30)
        stack.simulator.market("stop")
        time.sleep(2)
        service.terminate()
        service.start()
        stack.wait(stack.writing, "the service as writer", seconds=60)
        time.sleep(2)
        require(not frozen(stack, service), f"behind an open transaction: frozen: {frozen(stack, service)}")
        other.abort_transaction(30)
        seen.append("none frozen behind an open transaction")
        # As a retention does.
        service.terminate()
        _delete_everything(environment, stack)
        service.start()
        stack.wait(stack.writing, "the service as writer", seconds=60)
        time.sleep(2)
        require(not frozen(stack, service), f"after every record was deleted: frozen: {frozen(stack, service)}")
        seen.append("none after every record was deleted")
        stack.simulator.market("start")
        before = recorded(service)
        until(lambda: recorded(service) > before + 20, "trades after all of it", 30)
        _, report = audited(stack)
        bad = {name: count for name, count in wrong_in(report["totals"]).items() if name not in ("missing", "position")}
        require(not bad, f"{report['verdict']}: {report['reason']}")
        return "; ".join(seen)


def _delete_everything(environment: Environment, stack: Stack) -> None:
    """Delete every record of the trades."""
    from confluent_kafka import TopicPartition

    consumer = Consumer({"bootstrap.servers": stack.bootstrap_servers, "group.id": "field", "log_level": 0})
    ends = [
        TopicPartition(stack.topic, number, consumer.get_watermark_offsets(TopicPartition(stack.topic, number), 10)[1])
        for number in range(2)
    ]
    consumer.close()
    for future in environment.admin.delete_records(ends).values():
        future.result(30)


@example("P.5", "promised by a command, dropped in silence",
         "the positions topic is lost: a symbol that a command had added is named (log, metric, /status), after the "
         "rebuild; recorded again by a command, nothing of it is lost")  # fmt: skip
def added_by_command(environment: Environment) -> str:
    """The command is stored in the topic that is lost."""
    names = ("--symbols", "BTCUSDT,ETHUSDT", "--rate", "100", "--seed", "31")
    with environment.stack("command-lost", *names, symbols="BTCUSDT") as stack:
        service = begin(stack, symbols=1)
        order(service, "symbols", {"add": ["ETHUSDT"], "remove": []})
        until(lambda: recorded(service, "ETHUSDT") > 50, "trades of the added symbol", 30)
        service.terminate()
        environment.delete(f"{stack.topic}.positions")
        environment.create(f"{stack.topic}.positions", 1, cleanup_policy="compact")
        service.start()
        stack.wait(stack.writing, "the service as writer", seconds=60)
        _named(service, "after the loss")
        service.terminate()
        done = ingest("positions", "rebuild", settings=stack.settings(), seconds=120)
        require(done.returncode == 0, f"the command exits {done.returncode}: {(done.stderr or done.stdout)[-300:]}")
        require("POST /control/symbols: ETHUSDT" in done.stderr, "the rebuild does not name the symbol")
        service.start()
        stack.wait(stack.writing, "the service as writer", seconds=60)
        _named(service, "after the rebuild")
        order(service, "symbols", {"add": ["ETHUSDT"], "remove": []})
        require(service.status()["left_out"] == {}, f"still left out: {service.status()['left_out']}")
        return f"named twice, recorded again; {clean(stack)}"


def _named(service: ServiceProcess, when: str) -> None:
    said = happens(lambda: logged(service, "ETHUSDT", "/control/symbols"), 15.0)
    require(said, f"{when}: no log record names the symbol and the command")
    require(service.status()["left_out"] == {"ETHUSDT": "forgotten"}, f"{when}: {service.status()['left_out']}")
    require(metric(service, "ingest_symbols_left_out") == 1, f"{when}: the metric does not say so")


STREAMS = "trade,aggTrade,kline_1s,bookTicker,depth"


def _streams_lost(environment: Environment, *, recreated: bool) -> str:
    options = {"K2_BINANCE_STREAMS": STREAMS}
    with environment.stack("streams-lost", "--symbols", "2", "--rate", "80", "--seed", "31", **options) as stack:
        service = begin(stack)
        require(happens(lambda: _in_sync(service), 60.0), "the books are not in sync")
        time.sleep(4)
        service.terminate()
        if recreated:
            environment.delete(f"{stack.topic}.positions")
            environment.create(f"{stack.topic}.positions", 1, cleanup_policy="compact")
        else:
            names = [f"{stream}:{symbol}" for stream in STREAMS.split(",")[1:] for symbol in stored(stack)]
            write(stack, dict.fromkeys(names))
        service.start()
        stack.wait(lambda: service.status()["role"] == "active", "the service as writer", seconds=60)
        require(happens(lambda: logged(service, "books or quotes", "declared break"), 20.0), "no word about the breaks")
        numbered = ("aggTrade", "kline_1s")
        require(
            happens(lambda: all(_halted(service, name) for name in numbered), 60.0),
            f"not halted: {[_halted(service, name) for name in numbered]}",
        )
        require(logged(service, "ingest positions rebuild"), "no log record names the command")
        service.terminate()
        done = ingest("positions", "rebuild", settings=stack.settings(), seconds=120)
        require(done.returncode == 0, f"the command exits {done.returncode}: {(done.stderr or done.stdout)[-300:]}")
        service.start()
        require(happens(lambda: _in_sync(service), 90.0), "the books are not in sync again")
        time.sleep(3)
        halts = {name: halted for name in STREAMS.split(",")[1:] if (halted := _halted(service, name))}
        require(not halts and not frozen(stack, service), f"still halted: {halts}")
        stack.simulator.market("stop")
        time.sleep(3)
        service.terminate()
        for stream in ("aggTrade", "bookTicker", "depth"):  # bars may be corrected by the exchange after their end
            topics = ("--topic", f"{stack.topic}.{KINDS[stream].kind}", "--positions-topic", f"{stack.topic}.positions")
            code, report = stack.audit("--stream", stream, *topics, expect_to_head=False)
            require(code == 0, f"{stream}: {report['verdict']}: {report['reason']}")
        return f"{', '.join(STREAMS.split(',')[1:3])} halted and rebuilt, breaks declared; audits PASS"


def _halted(service: ServiceProcess, stream: str) -> dict[str, str]:
    found: dict[str, str] = service.status()["streams"][stream]["halted"]
    return found


def _in_sync(service: ServiceProcess) -> bool:
    books = service.status().get("streams", {}).get("depth", {}).get("books", {})
    return bool(books) and books["in_sync"] == books["recorded"] > 0


cases(
    "P.6.", "positions of other streams than the trades, lost in silence",
    "books and quotes go on with a declared break; numbered streams are halted until the rebuild; every audit passes",
    (partial(_streams_lost, recreated=False), partial(_streams_lost, recreated=True)),
)  # fmt: skip
