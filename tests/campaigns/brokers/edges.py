"""Rows 25, 28, 29, 30 and 35 on the real parts: sizes, topics and schemas that are refused, and too many letters."""

import json
import time
from collections.abc import Callable

from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource  # type: ignore[attr-defined]

from tests.campaigns.brokers.environment import START, BrokerEnvironment, elapsed
from tests.campaigns.faults.rows import Played

MOST = 250
"""Bytes of a record batch that the dead-letter topic takes in row 25."""
LETTERS = 120
FLOOD = 30
"""Dead letters that a minute may have in row 35."""


def limit_size(site: BrokerEnvironment, topic: str, size: int) -> None:
    """Set a topic's ``max.message.bytes``."""
    admin = AdminClient({"bootstrap.servers": site.stack.bootstrap_servers, "log_level": 0})
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(30)


def too_large_letter(site: BrokerEnvironment) -> Played:
    """A dead letter that its topic refuses is cut; the trades beside it are not held up."""
    played = Played()
    limit_size(site, f"{site.stack.topic}.dlq", MOST)
    recycles = site.metric("ingest_producer_recycles_total")
    rejected = site.metric("ingest_rejected_total")
    site.simulator.fault("malformed", form="trailing", count=4)
    site.until(lambda: site.metric("ingest_rejected_total") > rejected, "a dead letter", START)
    began = time.monotonic()
    site.wait_committed(site.heads(), START)
    played.recoveries.append(elapsed(began))
    made = site.metric("ingest_producer_recycles_total") - recycles
    played.note = f"{made:.0f} producers replaced"
    if made > 2:
        played.problems.append(f"{made:.0f} producers were replaced for dead letters")
    return played


def small_batches(site: BrokerEnvironment) -> Played:
    """The trades' topic takes less than our batches, though more than any record: they get smaller."""
    played = Played()
    limit_size(site, site.stack.topic, 600)
    site.simulator.market("rate", rate=3000)
    site.until(lambda: _recycled(site, "too_large") > 0, "a size that is refused", START)
    began = time.monotonic()
    site.simulator.market("rate", rate=300)
    site.wait_committed(site.heads(), START)
    played.recoveries.append(elapsed(began))
    return played


def _recycled(site: BrokerEnvironment, reason: str) -> float:
    return site.service.metrics().get(f'ingest_producer_recycles_total{{reason="{reason}"}}', 0.0)


def unknown_topic(site: BrokerEnvironment) -> Played:
    """A service whose topic does not exist ends with what to do, within half a minute on a quiet machine."""
    service = site.stack.service("lost", start=False, K2_KAFKA_TOPIC="nobody.made.this")
    return _ends(service.start(wait=False).wait, lambda: service.tail(), "create them with `ingest topics`")


def incompatible(site: BrokerEnvironment) -> Played:
    """A service whose schema does not fit ends before it writes; the one that runs goes on."""
    subject = "another.topic-value"
    field = {"name": "message_id", "type": "long"}
    other = {"type": "record", "name": "TradeV2", "namespace": "com.k2.marketdata", "fields": [field]}
    site.registry.handle("POST", f"/subjects/{subject}/versions", {"schema": json.dumps(other)})
    service = site.stack.service("green", start=False, K2_KAFKA_TOPIC="another.topic")
    played = _ends(service.start(wait=False).wait, lambda: service.tail(), "not compatible")
    site.wait_committed(site.heads(), START)
    return played


def _ends(wait: Callable[[float], int | None], said: Callable[[], str], word: str) -> Played:
    played, began = Played(), time.monotonic()
    code = wait(START)
    played.recoveries.append(elapsed(began))
    if code in (None, 0):
        played.problems.append(f"it ended with {code}")
    if word not in said():
        played.problems.append(f"it did not say {word!r}")
    return played


def registry_away(site: BrokerEnvironment) -> Played:
    """A service that writes needs no registry; one that starts waits for it."""
    played = Played()
    site.registry.failing = 503
    try:
        began = time.monotonic()
        site.wait_committed(site.heads(), START)
        played.recoveries.append(elapsed(began))
        site.service.kill()
        site.service.start()
        time.sleep(3.0)
        if site.stack.writing():
            played.problems.append("it writes, and cannot have asked for the schema")
    finally:
        site.registry.failing = None
    site.until(site.stack.writing, "the service as writer", START)
    site.wait_committed(site.heads(), START)
    return played


def flood_of_letters(site: BrokerEnvironment) -> Played:
    """More dead letters than the bound: the rest is counted, the trades are not held up."""
    played = Played()
    dropped = site.metric("ingest_dead_letters_dropped_total")
    site.simulator.fault("malformed", form="trailing", count=LETTERS)
    site.until(lambda: site.metric("ingest_dead_letters_dropped_total") > dropped, "letters that are dropped", START)
    began = time.monotonic()
    site.wait_committed(site.heads(), START)
    played.recoveries.append(elapsed(began))
    played.note = f"{site.metric('ingest_dead_letters_dropped_total') - dropped:.0f} of {LETTERS} dropped and counted"
    return played
