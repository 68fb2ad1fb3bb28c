"""Rows 26 and 27: credentials that are refused after a rotation, and ACLs that are withdrawn while the service runs."""

import json
import time
from collections.abc import Sequence

from confluent_kafka.admin import AclBinding, AclOperation, ResourceType  # type: ignore[attr-defined]

from tests.campaigns.brokers.environment import START, BrokerEnvironment, elapsed
from tests.campaigns.brokers.secure import REAUTHENTICATION_MS, SecureBroker
from tests.campaigns.faults.rows import Played

EVERY = 30.0
"""Seconds between two attempts with refused credentials, see ``ingest.kafka.errors``."""
TWICE = 2
"""The library connects again a quarter of a second after a refusal, if it is not closed by then: a busy machine."""
CLIENTS = 5
"""Clients of a service that were connected when the password changed: each is refused once on its own."""
CONNECTIONS = 4
"""Of one client at most (bootstrap, broker, coordinator, and once more before it is closed)."""
WITHIN = 35.0
SLOW_MACHINE = 3.0


def rotated(site: BrokerEnvironment, broker: SecureBroker, canary: str, seconds: float) -> Played:
    """The password is changed at the broker; the service keeps the old one until it is right again."""
    played = Played()
    errors = site.metric("ingest_producer_errors_total")
    broker.set_password(f"{canary}-new")
    try:
        site.until(lambda: broker.refusals() > 0, "a refusal", START + REAUTHENTICATION_MS / 1000)
        site.until(lambda: not site.service.healthy(), "a service that is not ready", START)
        time.sleep(2.0)  # every client that was connected has been refused by now, or is counted below
        first, began = broker.refusals(), time.monotonic()
        time.sleep(seconds)
        tries, allowed = broker.refusals() - first, TWICE * (1 + int(elapsed(began) / EVERY))
        grown = site.metric("ingest_producer_errors_total") - errors
    finally:
        broker.set_password(broker.password)
    heads = site.heads()
    began = time.monotonic()
    site.flowing(WITHIN * SLOW_MACHINE)
    played.recoveries.append(elapsed(began))
    site.wait_committed(heads, START)
    if first > CLIENTS * CONNECTIONS:
        played.problems.append(f"{first} attempts before the clients that were connected had given up")
    if tries > allowed:
        played.problems.append(f"{tries} attempts in {seconds:g} s with refused credentials, {allowed} are allowed")
    if grown < 1:
        played.problems.append("no error was counted: nothing would have alarmed anybody")
    if not site.service.alive:
        played.problems.append("the service has ended")
    played.problems += _leaks(site, [broker.password, f"{canary}-new"])
    played.note = f"{first} refused at once, then {tries} in {seconds:g} s; {grown:.0f} errors counted"
    return played


def _leaks(site: BrokerEnvironment, secrets: Sequence[str]) -> list[str]:
    """Where a password is to be read: log, metrics and status must not say it."""
    said = {
        "log": site.service.log.read_text(errors="replace"),
        "metrics": json.dumps(site.service.metrics()),
        "status": json.dumps(site.service.status()),
        "ready file": site.service.ready_file.read_text(),
    }
    return [f"a password is in the {place}" for place, text in said.items() if any(one in text for one in secrets)]


def denied(
    site: BrokerEnvironment, broker: SecureBroker, acls: Sequence[AclBinding], kind: ResourceType, name: str
) -> Played:
    """Write on a resource is withdrawn, and granted again."""
    played = Played()
    gone = [one for one in acls if one.restype == kind and one.name == name and one.operation is AclOperation.WRITE]
    errors, recycles = (site.metric(f"ingest_producer_{what}_total") for what in ("errors", "recycles"))
    broker.withdraw(*gone)
    began = time.monotonic()
    try:
        site.until(lambda: not site.service.healthy(), "a service that is not ready", START)
        site.until(lambda: site.metric("ingest_producer_errors_total") > errors, "an error that is counted", START)
        producers = site.metric("ingest_producer_recycles_total") - recycles
        most = 3 + elapsed(began) / 4.0  # one in five seconds
    finally:
        broker.allow(*gone)
    heads = site.heads()
    began = time.monotonic()
    site.flowing(WITHIN * SLOW_MACHINE)
    played.recoveries.append(elapsed(began))
    site.wait_committed(heads, START)
    site.until(site.service.healthy, "readiness", START)
    if producers > most:
        played.problems.append(f"{producers:.0f} producers were made in vain, {most:.0f} would have done")
    if not site.service.alive:
        played.problems.append("the service has ended")
    return played
