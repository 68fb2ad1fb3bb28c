"""Entries E and F: permanent refusals of records, and topics that others change."""

import time
from collections.abc import Callable
from functools import partial

from confluent_kafka import Consumer, Producer

from tests.campaigns.field.environment import (
    Environment,
    audited,
    begin,
    frozen,
    happens,
    ingest,
    logged,
    metric,
    records,
    traceback_in,
    wrong_in,
)
from tests.campaigns.field.example import NotPlayable, cases, clean, example, require
from tests.harness.preloaded import NoCompilerError
from tests.harness.processes import ServiceProcess
from tests.harness.stack import Stack
from tests.harness.topics import beginning
from tests.harness.wall_clock import WallClock

PERMANENT = "permanent errors treated as passing ones, without back-off"
EVIDENCE = "evidence that holds up the data"
CHANGED = "what others can change is checked once, or never"
REFUSED = "`ingest topics` exits 3 and `ingest run` does not write (exit 3, or not ready); both name the setting"


@example(
    "E.1", PERMANENT, "a clock two hours ahead: back-off, a log line that says why; all is in Kafka once it is right"
)
def clock_ahead(environment: Environment) -> str:
    """The service's clock is two hours ahead of the broker's, which refuses such time stamps."""
    with environment.stack("clock") as stack:
        environment.configure(stack.topic, message_timestamp_after_max_ms="3600000")
        try:
            clock = WallClock(stack.directory / "clock")
        except NoCompilerError as error:
            raise NotPlayable(str(error)) from error
        service = begin(stack, symbols=None, **clock.environment)
        before = metric(service, "ingest_producer_recycles_total")
        lines = len(records(service))
        clock.jump(7200.0)
        time.sleep(20)
        recycles = metric(service, "ingest_producer_recycles_total") - before
        new = len(records(service)) - lines
        reason = logged(service, "timestamp|time stamp|clock")
        clock.jump(0.0)
        stack.wait(lambda: stack.writing() and service.healthy(), "a healthy writer", seconds=90)
        _, report = audited(stack)
        bad = wrong_in(report["totals"])
        require(not bad.keys() - {"altered"}, f"{report['verdict']}: {report['reason']}")
        require(
            not bad or reason,
            f"{bad.get('altered')} records carry a time of ingestion two hours ahead without a warning",
        )
        require(new <= 40, f"{new} warnings in 20 s")
        require(recycles <= 12, f"{recycles:.0f} recycles in 20 s")
        require(reason or not recycles, "no log record names the time stamp or the clock")
        return f"{recycles:.0f} recycles, {new} warnings in 20 s; audit {report['verdict']}"


def _refused_letters(environment: Environment, **policy: str) -> str:
    with environment.stack("letters") as stack:
        environment.configure(f"{stack.topic}.dlq", **policy)
        service = begin(stack)
        stack.simulator.fault("missing_field", count=5, field="p")
        stack.simulator.fault("malformed", count=5, form="cut")
        time.sleep(10)
        require(stack.writing(), "the service does not write any more")
        recycles = metric(service, "ingest_producer_recycles_total")
        verdict = clean(stack)
        require(logged(service, "dlq|dead letter"), "no warning says that dead letters are refused")
        require(recycles <= 15, f"{recycles:.0f} producers replaced for ten dead letters")
        return f"trades flow, {recycles:.0f} producers replaced, {verdict}"


cases(
    "E.2.", EVIDENCE, "trades are committed although the broker refuses every dead letter; a warning says so",
    (
        partial(_refused_letters, max_message_bytes="10"),
        partial(_refused_letters, cleanup_policy="compact"),
    ),
)  # fmt: skip


@example("E.3", EVIDENCE, "trades are committed after the dead letters' topic was deleted; a warning names it")
def letters_deleted(environment: Environment) -> str:
    """Somebody deletes the topic of dead letters."""
    with environment.begun("letters-gone") as (stack, service):
        environment.delete(f"{stack.topic}.dlq")
        stack.simulator.fault("missing_field", count=5, field="p")
        time.sleep(15)
        verdict = clean(stack)
        require(logged(service, f"{stack.topic}.dlq|dead letter"), "no warning names the topic")
        return f"{verdict}"


@example(
    "E.4", PERMANENT, "a trades topic that refuses every record by size: not ready, back-off, the reason in the log"
)
def records_too_large(environment: Environment) -> str:
    """The trades topic takes records of 100 bytes at most: no trade, but the marker that ends a transaction (78)."""
    with environment.begun("too-large") as (stack, service):
        before = metric(service, "ingest_producer_recycles_total")
        environment.configure(stack.topic, max_message_bytes="100")
        time.sleep(25)
        recycles = metric(service, "ingest_producer_recycles_total") - before
        ready = service.healthy()
        environment.configure(stack.topic, max_message_bytes="1048588")
        stack.wait(lambda: stack.writing() and service.healthy(), "a healthy writer", seconds=120)
        verdict = clean(stack)
        require(recycles <= 25, f"{recycles:.0f} recycles in 25 s")
        require(not ready, "ready while nothing can be written")
        require(logged(service, "size|large"), "no warning names the size")
        return f"{recycles:.0f} recycles in 25 s; {verdict}"


# --- F ---


def _wrong_at_start(environment: Environment, which: str, name: str, value: str) -> str:
    with environment.stack("policy") as stack:
        topic = stack.topic + which
        environment.configure(topic, **{name.replace(".", "_"): value})
        done = ingest("topics", "--partitions", "2", "--replication-factor", "1", settings=stack.settings())
        text = done.stdout + done.stderr
        require(not traceback_in(text), "`ingest topics` ends with a traceback")
        require(done.returncode == 3, f"`ingest topics` exits {done.returncode} on {name}={value} of {topic}")
        require(topic in text and name in text, f"`ingest topics` does not name {topic} and {name}")
        service = stack.service(start=False)
        service.start(wait=False)
        ended = service.wait(40)
        log = service.log.read_text(errors="replace")
        require(not traceback_in(log), "`ingest run` ends with a traceback")
        require(ended in (None, 3), f"`ingest run` exits {ended}")
        require(name in log and topic in log, f"`ingest run` (exit {ended}) does not name {name} of {topic}")
        if ended is None:
            service.wait_ready()
            require(not service.healthy(), f"`ingest run` is ready with {name}={value}")
        return f"topics exits 3, run {'exits 3' if ended == 3 else 'is not ready'}"


cases(
    "F.1.", CHANGED, REFUSED,
    (
        partial(_wrong_at_start, which="", name="cleanup.policy", value="compact"),
        partial(_wrong_at_start, which=".positions", name="cleanup.policy", value="delete"),
        partial(_wrong_at_start, which=".positions", name="cleanup.policy", value="compact,delete"),
        partial(_wrong_at_start, which="", name="cleanup.policy", value="compact,delete"),
        partial(_wrong_at_start, which="", name="min.insync.replicas", value="2"),
        partial(_wrong_at_start, which="", name="unclean.leader.election.enable", value="true"),
    ),
)  # fmt: skip

RUNNING = "within 90 s an ERROR or WARNING names topic and setting; a metric or readiness says so, too"


def _wrong_while_running(environment: Environment, which: str, name: str, value: str) -> str:
    with environment.begun("policy-running") as (stack, service):
        topic = stack.topic + which
        environment.configure(topic, **{name.replace(".", "_"): value})
        began = time.monotonic()
        require(
            happens(lambda: logged(service, topic, name) or not service.alive, 90.0),
            f"no word about {name}={value} of {topic} in 90 s",
        )
        return f"reported after {time.monotonic() - began:.0f} s"


cases(
    "F.2.", CHANGED, RUNNING,
    (
        partial(_wrong_while_running, which="", name="cleanup.policy", value="compact"),
        partial(_wrong_while_running, which=".positions", name="cleanup.policy", value="delete"),
        partial(_wrong_while_running, which="", name="unclean.leader.election.enable", value="true"),
    ),
)  # fmt: skip


@example("F.3", CHANGED, "`ingest topics` sets every policy explicitly, whatever the broker's defaults")
def explicit_policies(environment: Environment) -> str:
    """A broker's defaults must not decide what is deleted."""
    with environment.stack("explicit") as stack:
        wanted = {
            stack.topic: {"cleanup.policy": "delete", "unclean.leader.election.enable": "false"},
            f"{stack.topic}.positions": {"cleanup.policy": "compact", "unclean.leader.election.enable": "false"},
            f"{stack.topic}.dlq": {"cleanup.policy": "delete"},
        }
        for topic, policies in wanted.items():
            found = environment.configuration(topic)
            for name, value in policies.items():
                entry = found[name]
                require(entry.value == value, f"{topic}: {name} is {entry.value}")
                require(not entry.is_default and int(entry.source) == 1, f"{topic}: {name} is the broker's default")
        return "cleanup.policy and unclean.leader.election.enable are set on each topic"


def _deleted_running(environment: Environment, which: str) -> str:
    with environment.begun("deleted") as (stack, service):
        environment.delete(stack.topic + which)
        began = time.monotonic()
        require(
            happens(lambda: logged(service, "ingest topics") or service.returncode == 3, 90.0),
            "no log record says to create the topics with `ingest topics` in 90 s",
        )
        seconds = time.monotonic() - began
        if service.alive:
            require(happens(lambda: not service.healthy(), 45.0), "ready although the topic is gone")
        return f"said after {seconds:.0f} s, {'not ready' if service.alive else 'exit 3'}"


cases(
    "F.4.", CHANGED, "a topic deleted while running: not ready (or exit 3), and the log says `ingest topics`",
    (partial(_deleted_running, which=""), partial(_deleted_running, which=".positions")),
)  # fmt: skip


@example(
    "F.5", CHANGED, "a trades topic deleted and created anew while running is an alarm: ERROR or WARNING, or exit 3"
)
def created_anew(environment: Environment) -> str:
    """Somebody deletes the trades topic and creates it again at once."""
    with environment.begun("anew") as (stack, service):
        environment.delete(stack.topic)
        environment.create(stack.topic, 2)
        alarm = "created anew|created again|recreated|re-created|was deleted|has been deleted|another topic|topic id"
        require(
            happens(lambda: logged(service, stack.topic, alarm) or service.returncode == 3, 90.0),
            "no alarm in 90 s",
        )
        return "an alarm names the topic"


@example(
    "3.5",
    CHANGED,
    "more partitions on a live topic: the service stops writing or says so within 90 s, naming the number",
)
def more_partitions(environment: Environment) -> str:
    """A live topic gets more partitions: a symbol's trades would go to another one."""
    with environment.begun("partitions") as (stack, service):
        environment.grow(stack.topic, 5)
        require(
            happens(lambda: logged(service, stack.topic, "partition") or service.returncode == 3, 90.0),
            "no word about the partitions in 90 s",
        )
        code, report = audited(stack, to_head=False)
        require(not wrong_in(report["totals"]).get("reordered"), f"{report['totals']['reordered']} reordered")
        return (
            f"reported; {'runs' if service.alive else f'exit {service.returncode}'}, audit {report['verdict']} ({code})"
        )


ANEW = "a new beginning for a symbol that has records is an alarm, not a baseline"
NEVER_SILENT = "nothing is lost, or the start refuses (exit 3, frozen, not ready) and names `ingest positions rebuild`"


def _lost_positions(environment: Environment, lose: Callable[[Environment, Stack], None]) -> str:
    with environment.begun("lost-positions", "--symbols", "3", "--rate", "100") as (stack, service):
        time.sleep(3)
        service.terminate()
        lose(environment, stack)
        time.sleep(4)
        service.start(wait=False)
        ended = service.wait(20)
        if ended is not None:
            log = service.log.read_text(errors="replace")
            require(ended == 3, f"the start ends with {ended}")
            require("positions" in log, "the log does not name the positions")
            return _rebuilt(stack, service)
        service.wait_ready()
        halted = frozen(stack, service)
        ready = service.healthy()
        if halted or not ready:
            require(logged(service, "position"), "frozen or not ready, and no warning names the positions")
            return f"frozen: {halted}, ready: {ready}"
        _, report = audited(stack)
        lost = report["totals"]["ledger"] - report["totals"]["committed"]
        missing = wrong_in(report["totals"])
        require(
            lost <= 0 and not missing, f"began anew without a word: {lost} trades never written; audit says {missing}"
        )
        return "recovered without loss"


def _rebuilt(stack: Stack, service: ServiceProcess) -> str:
    done = ingest("positions", "rebuild", settings=stack.settings(), seconds=120)
    require(done.returncode == 0, f"the start refuses; `ingest positions rebuild` exits {done.returncode}: "
            f"{(done.stderr or done.stdout)[-200:]}")  # fmt: skip
    service.start()
    stack.wait(stack.writing, "the service as writer", seconds=60)
    code, report = audited(stack)
    require(code == 0, f"after the rebuild: {report['verdict']}: {report['reason']}")
    return "the start refuses; after `ingest positions rebuild` nothing is lost"


def _tombstone(environment: Environment, stack: Stack, symbols: int = 1) -> None:
    consumer = Consumer({"bootstrap.servers": stack.bootstrap_servers, "group.id": "field", "log_level": 0,
                         "isolation.level": "read_committed", "enable.auto.commit": False})  # fmt: skip
    topic = f"{stack.topic}.positions"
    consumer.assign(beginning(consumer, topic))
    keys: dict[bytes, int] = {}
    while (message := consumer.poll(5)) is not None:
        key = message.key() or b""
        if message.error() is None and key.startswith(b"position:"):
            keys[key] = message.partition() or 0
    consumer.close()
    require(keys, "no position was found")
    producer = Producer({"bootstrap.servers": stack.bootstrap_servers})
    for key in sorted(keys)[:symbols]:
        producer.produce(topic, key=key, value=None, partition=keys[key])
    producer.flush(10)


def _recreate(environment: Environment, stack: Stack) -> None:
    environment.delete(f"{stack.topic}.positions")
    environment.create(f"{stack.topic}.positions", 1, cleanup_policy="compact")


def _expire(environment: Environment, stack: Stack) -> None:
    """Delete the positions' records as a topic with retention would, one record of the writer kept."""
    from confluent_kafka import TopicPartition

    consumer = Consumer({"bootstrap.servers": stack.bootstrap_servers, "group.id": "field", "log_level": 0})
    _, high = consumer.get_watermark_offsets(TopicPartition(f"{stack.topic}.positions", 0), timeout=10)
    consumer.close()
    environment.configure(f"{stack.topic}.positions", cleanup_policy="delete")
    wanted = TopicPartition(f"{stack.topic}.positions", 0, max(0, high - 2))
    for future in environment.admin.delete_records([wanted]).values():
        future.result(30)
    environment.configure(f"{stack.topic}.positions", cleanup_policy="compact")


example("3.3", ANEW, NEVER_SILENT + " (topic deleted and made again while down)")(
    partial(_lost_positions, lose=_recreate)
)
example("F.6.1", ANEW, NEVER_SILENT + " (a tombstone for one symbol)")(partial(_lost_positions, lose=_tombstone))
example("F.6.2", ANEW, NEVER_SILENT + " (tombstones for every symbol)")(
    partial(_lost_positions, lose=partial(_tombstone, symbols=99))
)
example("F.6.3", ANEW, NEVER_SILENT + " (records expired)")(partial(_lost_positions, lose=_expire))


POISON = "poison that stays"


def _poison(environment: Environment, key: bytes, value: bytes | None) -> str:
    with environment.begun("poison", "--symbols", "3", "--rate", "100") as (stack, service):
        time.sleep(2)
        service.terminate()
        producer = Producer({"bootstrap.servers": stack.bootstrap_servers})
        producer.produce(f"{stack.topic}.positions", key=key, value=value, partition=0)
        producer.flush(10)
        service.start(wait=False)
        ended = service.wait(20)
        log = service.log.read_text(errors="replace")
        require(not traceback_in(log), "a traceback")
        if ended is not None:
            require(ended == 3, f"the start ends with {ended}")
            return _rebuilt(stack, service)
        service.wait_ready()
        halted = frozen(stack, service)
        if halted or not stack.writing():
            require(logged(service, "position"), "frozen or not writing, and no warning names the positions")
            return f"frozen: {halted}"
        verdict = clean(stack)
        require(logged(service, "position|record") or not key.startswith(b"junk"), "the record is not mentioned")
        return f"starts; {verdict}"


cases(
    "S3.", POISON, "one bad position never stops every start: skipped and reported, or repaired by a command",
    (
        partial(_poison, key=b"junk", value=b"\x00\xff not JSON"),
        partial(_poison, key=b"junk", value=None),
        partial(_poison, key=b"position:BTCUSDT", value=b"[1,2,3]"),
        partial(_poison, key=b"position:BTCUSDT", value=b'{"first_id":1,"last_id":1%b,"count":1,"v":1}' % (b"0" * 30)),
        partial(_poison, key=b"position:BTCUSDT", value=b'{"first_id":-10,"last_id":-10,"count":1,"v":1}'),
        partial(_poison, key=b"position:", value=b'{"first_id":1,"last_id":2,"count":2,"v":1}'),
        partial(_poison, key=b"writer", value=b'{"generation":"many"}'),
        partial(_poison, key=b"void:BTCUSDT:x", value=b"{}"),
    ),
)  # fmt: skip
