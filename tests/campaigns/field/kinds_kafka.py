"""Further cases of the document's kinds: what others change at Kafka, and members of lists."""

import time
from functools import partial

from confluent_kafka import Consumer, TopicPartition

from tests.campaigns.field.environment import (
    Environment,
    audited,
    begin,
    happens,
    ingest,
    logged,
    metric,
    until,
    wrong_in,
)
from tests.campaigns.field.example import cases, clean, example, require
from tests.campaigns.field.networks import black_hole
from tests.harness.stack import Stack
from tests.harness.topics import beginning

CHANGED = "what others can change is checked once, or never"


@example("3.9", CHANGED, "partitions added while down: the start ends with 3, naming both numbers; nothing is written;"
         " accepted by K2_KAFKA_PARTITIONS it goes on")  # fmt: skip
def partitions_while_down(environment: Environment) -> str:
    """The trades topic gets more partitions between two lives of the service."""
    with environment.begun("partitions-down", "--symbols", "3", "--rate", "100") as (stack, service):
        time.sleep(2)
        service.terminate()
        before = len(environment.admin.list_topics(stack.topic, timeout=10).topics[stack.topic].partitions)
        environment.grow(stack.topic, before + 3)
        service.start(wait=False)
        ended = service.wait(40)
        log = service.log.read_text(errors="replace")
        require(ended == 3, f"the start ends with {ended}")
        require(
            f"{before + 3} partitions" in log and f"written to {before}" in log, "the log does not name the numbers"
        )
        require("writing as generation 2" not in log, "it has become the writer before it ended")
        again = stack.service(K2_KAFKA_PARTITIONS=str(before + 3))
        stack.wait(stack.writing, "the service as writer", seconds=60)
        _, report = audited(stack)
        missing = {name: count for name, count in wrong_in(report["totals"]).items() if name != "reordered"}
        require(not missing and again.alive, f"accepted: {missing}")
        return f"exit 3 names {before} and {before + 3}; accepted, nothing is missing"


# --- C: one member of a list ---

ONE_LIST = "one time-out, one budget or one memory for a list"


def _first_is_dead(environment: Environment, name: str) -> str:
    with environment.stack("dead-member") as stack, black_hole("127.0.0.2", 0) as dead:
        good = stack.settings()[name]
        bad = {
            "K2_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.2:{dead}",
            "K2_KAFKA_SCHEMA_REGISTRY_URL": f"http://127.0.0.2:{dead}",
        }[name]
        stack.service(start=True, **{name: f"{bad},{good}"})
        seconds = until(lambda: stack.writing() and len(stack.committed()) == 4, "the service to write", 60)
        time.sleep(2)
        return f"writes after {seconds:.0f} s; {clean(stack)}"


cases(
    "C.7.", ONE_LIST, "the first of two brokers or registries drops packets: the service writes; the audit is clean",
    (
        partial(_first_is_dead, name="K2_KAFKA_BOOTSTRAP_SERVERS"),
        partial(_first_is_dead, name="K2_KAFKA_SCHEMA_REGISTRY_URL"),
    ),
)  # fmt: skip


# --- E: permanent refusals, and evidence that holds up the data ---

EVIDENCE = "evidence that holds up the data"


def _voids_refused(environment: Environment, **policy: str) -> str:
    with environment.stack("voids", "--symbols", "2", "--rate", "100", K2_BINANCE_VOID_CONFIRM_SECONDS="2") as stack:
        if policy:
            environment.configure(f"{stack.topic}.voids", **policy)
        else:
            environment.delete(f"{stack.topic}.voids")
        service = begin(stack)
        symbol = sorted(stack.simulator.state()["symbols"])[0]
        stack.simulator.fault("void", symbol=symbol, count=3)
        require(
            happens(lambda: logged(service, f"{stack.topic}.voids", "published"), 60.0), "no warning names the topic"
        )
        require(metric(service, "ingest_voids_unpublished") > 0, "the metric does not say that a void waits")
        recycles = metric(service, "ingest_producer_recycles_total")
        if policy:
            environment.configure(f"{stack.topic}.voids", **dict.fromkeys(policy, "1048588"))
        else:
            environment.create(f"{stack.topic}.voids", 1, cleanup_policy="compact")
        require(
            happens(lambda: metric(service, "ingest_voids_unpublished") == 0, 120.0), "the void is not published later"
        )
        verdict = clean(stack)
        require(service.healthy(), "not ready")
        return f"trades flow, {recycles:.0f} producers replaced, the void follows; {verdict}"


cases(
    "E.5.", EVIDENCE, "trades are committed although the topic of voids refuses records, or is gone; the void follows",
    (partial(_voids_refused, max_message_bytes="10"), _voids_refused),
)  # fmt: skip


@example("E.6", "permanent errors treated as passing ones, without back-off",
         "a positions topic that takes no record by size: not ready, few producers, the reason in the log")  # fmt: skip
def positions_too_large(environment: Environment) -> str:
    """The positions topic takes records of 100 bytes at most."""
    with environment.begun("positions-too-large") as (stack, service):
        topic = f"{stack.topic}.positions"
        before = metric(service, "ingest_producer_recycles_total")
        environment.configure(topic, max_message_bytes="100")
        require(happens(lambda: not service.healthy(), 60.0), "ready while nothing can be written")
        recycles = metric(service, "ingest_producer_recycles_total") - before
        environment.configure(topic, max_message_bytes="1048588")
        stack.wait(lambda: stack.writing() and service.healthy(), "a healthy writer", seconds=120)
        verdict = clean(stack)
        require(recycles <= 40, f"{recycles:.0f} recycles")
        require(logged(service, "size|large"), "no warning names the size")
        return f"{recycles:.0f} recycles; {verdict}"


# --- F: what others change ---


@example("F.7", CHANGED, "a trades topic deleted and created anew while down is an alarm: log, metric, /status")
def recreated_while_down(environment: Environment) -> str:
    """The positions are there, the records that they speak of are gone."""
    with environment.begun("anew-down", "--symbols", "3", "--rate", "100") as (stack, service):
        require(happens(lambda: "topic_id" in _writer(stack), 60.0), "the writer's record does not hold the topic's id")
        service.terminate()
        environment.delete(stack.topic)
        environment.create(stack.topic, 2)
        service.start(wait=False)
        ended = service.wait(20)
        if ended is not None:
            require(ended == 3, f"the start ends with {ended}")
            require(stack.topic in service.log.read_text(errors="replace"), "the log does not name the topic")
            return "the start refuses"
        service.wait_ready()
        require(happens(lambda: logged(service, stack.topic, "created again"), 60.0), "no alarm 60 s after the start")
        require(metric(service, "ingest_topic_problems") >= 2, "the metric does not say so")
        require("created again" in str(service.status().get("topic_problems")), "/status does not say so")
        code, report = audited(stack)
        require(code != 0, f"the audit says {report['verdict']}")
        return f"an alarm names the topic; audit {report['verdict']}"


def _writer(stack: Stack) -> str:
    """The latest record of the writer."""
    consumer = Consumer({"bootstrap.servers": stack.bootstrap_servers, "group.id": "field", "log_level": 0,
                         "isolation.level": "read_committed", "enable.auto.commit": False})  # fmt: skip
    found = ""
    try:
        consumer.assign(beginning(consumer, f"{stack.topic}.positions"))
        deadline = time.monotonic() + 3.0
        while time.monotonic() < deadline and (message := consumer.poll(0.5)) is not None:
            if message.key() == b"writer":
                found = (message.value() or b"").decode()
    finally:
        consumer.close()
    return found


def _changed_while_running(environment: Environment, which: str, name: str, value: str) -> str:
    with environment.begun("changed") as (stack, service):
        topic = stack.topic + which
        environment.configure(topic, **{name.replace(".", "_"): value})
        began = time.monotonic()
        require(happens(lambda: logged(service, topic, name), 90.0), f"no word about {name}={value} of {topic} in 90 s")
        seconds = time.monotonic() - began
        require(metric(service, "ingest_topic_problems") > 0, "the metric does not say so")
        done = ingest("topics", "--alter", "--retention", "7d", "--replication-factor", "1", settings=stack.settings())
        require(done.returncode == 0, f"`ingest topics --alter` exits {done.returncode}: {done.stderr[-200:]}")
        require(happens(lambda: metric(service, "ingest_topic_problems") == 0, 60.0), "the correction is not noticed")
        return f"reported after {seconds:.0f} s, corrected by the command that it names"


cases(
    "F.8.", CHANGED, "reported within 90 s, in the metric, too; the command that it names corrects it",
    (
        partial(_changed_while_running, which="", name="retention.ms", value="3600000"),
        partial(_changed_while_running, which="", name="retention.bytes", value="1000000"),
        partial(_changed_while_running, which=".voids", name="cleanup.policy", value="delete"),
        partial(_changed_while_running, which=".positions", name="min.insync.replicas", value="2"),
        partial(_changed_while_running, which="", name="max.message.bytes", value="500000"),
        partial(_changed_while_running, which=".positions", name="max.message.bytes", value="500000"),
    ),
)  # fmt: skip


def _deleted_while_running(environment: Environment, which: str, partitions: int, advice: str) -> str:
    with environment.begun("deleted-records") as (stack, service):
        topic = stack.topic + which
        require(happens(lambda: service.status()["topic_problems"] == {}, 30.0), "a topic is wrong from the start")
        time.sleep(20.0)  # the first look is over
        consumer = Consumer({"bootstrap.servers": stack.bootstrap_servers, "group.id": "field", "log_level": 0})
        places = [TopicPartition(topic, number) for number in range(partitions)]
        ends = [TopicPartition(topic, one.partition, consumer.get_watermark_offsets(one, 10)[1]) for one in places]
        consumer.close()
        compacted = environment.configuration(topic)["cleanup.policy"].value == "compact"
        if compacted:  # or the broker refuses
            environment.configure(topic, cleanup_policy="delete")
        for future in environment.admin.delete_records(ends).values():
            future.result(30)
        if compacted:
            environment.configure(topic, cleanup_policy="compact")
        began = time.monotonic()
        require(happens(lambda: logged(service, topic, "deleted before", advice), 90.0), "no word about it in 90 s")
        seconds = time.monotonic() - began
        require(metric(service, "ingest_topic_problems") >= 2, "the metric does not say so")
        require(advice in str(service.status()["topic_problems"]), "/status does not say so")
        return f"reported after {seconds:.0f} s, with what to do"


cases(
    "F.9.", CHANGED, "records deleted before their retention is over: log, metric and /status say so, and what to do",
    (
        partial(_deleted_while_running, which="", partitions=2, advice="ingest audit"),
        partial(_deleted_while_running, which=".positions", partitions=1, advice="ingest positions rebuild"),
    ),
)  # fmt: skip
