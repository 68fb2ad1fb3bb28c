"""Entry B: health is work, not heartbeats. Entry D: a unit that is too large is not retried for ever."""

import time

from tests.campaigns.field.environment import Environment, begin, happens, ingest, logged, metric, until
from tests.campaigns.field.example import example, require
from tests.campaigns.field.silence import relay
from tests.harness.kafka import KafkaBroker, jars, java
from tests.harness.processes import ROOT, ServiceProcess, inherited
from tests.harness.stack import Stack

HEALTH = "a sign of life that does not depend on the work"
UNREADY = "/health/ready 503 and `ingest health` 1 within a bounded time; ready again afterwards"
BOUND = 45.0


def _unready(service: ServiceProcess, why: str) -> str:
    began = time.monotonic()
    require(happens(lambda: not service.healthy(), BOUND), f"ready after {BOUND:g} s of {why}")
    seconds = time.monotonic() - began
    port = service.url.rpartition(":")[2]
    done = ingest("health", "--port", port)
    require(done.returncode == 1, f"`ingest health` exits {done.returncode} while /health/ready is 503")
    return f"not ready after {seconds:.0f} s"


@example("B.1", HEALTH, UNREADY)
def exchange_frozen(environment: Environment) -> str:
    """The exchange stops answering anything."""
    with environment.begun("frozen") as (stack, service):
        stack.simulator.pause()
        try:
            observed = _unready(service, "a frozen exchange")
        finally:
            stack.simulator.resume()
        require(happens(service.healthy, 60.0), "not ready 60 s after the exchange was back")
        return observed + ", ready again"


@example("B.2", HEALTH, "not ready from the start while the exchange was never reached")
def never_reached(environment: Environment) -> str:
    """No WebSocket address answers; REST does."""
    with environment.stack("unreached", K2_BINANCE_WEBSOCKET_URL="ws://127.0.0.1:9",
                           K2_BINANCE_WEBSOCKET_FALLBACK_URLS="") as stack:  # fmt: skip
        service = stack.service(start=False)
        service.start(wait=False)
        until(lambda: service.ready_file.exists(), "the service's ports", 60)
        service.wait_ready()
        time.sleep(BOUND)
        require(not service.healthy(), f"ready {BOUND:g} s after a start that never reached the exchange")
        return "not ready"


@example("B.3", HEALTH, UNREADY)
def refused_again(environment: Environment) -> str:
    """Connections break and none can be made again."""
    with environment.begun("refused") as (stack, service):
        stack.simulator.fault("handshake", status=503, attempts=-1)
        stack.simulator.fault("reset")
        observed = _unready(service, "refused handshakes")
        stack.simulator.fault("clear")
        require(happens(service.healthy, 60.0), "not ready 60 s after handshakes were accepted again")
        return observed + ", ready again"


@example("B.4", HEALTH, UNREADY)
def accepted_and_silent(environment: Environment) -> str:
    """Every connection is accepted, answers pings, and delivers no data although the market trades."""
    with environment.stack("silent") as stack, relay(stack.simulator.ws_url) as between:
        service = stack.service(K2_BINANCE_WEBSOCKET_URL=between.url, K2_BINANCE_WEBSOCKET_FALLBACK_URLS="")
        stack.wait(lambda: len(stack.committed()) == 4, "every symbol in Kafka", seconds=60)
        between.silent.set()
        observed = _unready(service, "connections without data")
        between.silent.clear()
        require(happens(service.healthy, 60.0), "not ready 60 s after data came again")
        return observed + ", ready again"


SPANS, SPAN, WATCHED, STANDSTILL = 4, 10.0, 300.0, 150.0
"""The backlog of the outage needs about a minute at this rate, and may come in one transaction."""
BATCH = "retrying the same unit that was too large"


@example("D.1", BATCH, "commits go on under a quota of 6 kB/s after an outage of 40 s, in transactions that shrink and"
         " grow again; nothing is lost")  # fmt: skip
def slow_broker(environment: Environment) -> str:
    """A broker that takes 6,000 bytes a second gets the backlog of forty seconds."""
    market = ("--symbols", "2", "--rate", "20")
    with (
        KafkaBroker(environment.folder("quota-kafka")) as broker,
        environment.stack("quota", *market, bootstrap_servers=broker.bootstrap_servers) as stack,
    ):
        service = begin(stack)
        _quota(broker, "producer_byte_rate=6000")
        broker.stop()
        time.sleep(40)
        broker.start()
        until(stack.writing, "the service as writer", 90)
        return _progress(stack, service, broker)


def _progress(stack: Stack, service: ServiceProcess, broker: KafkaBroker) -> str:
    """Watch until the backlog has grown smaller in four spans of ten seconds; returns what was seen."""
    began = last = time.monotonic()
    before, spans, longest, limits = sum(stack.committed().values()), 0, 0.0, list[float]()
    while spans < SPANS and time.monotonic() - began < WATCHED:
        time.sleep(0.5)
        now = time.monotonic()
        limits.append(metric(service, "ingest_transaction_limit_bytes"))
        committed = sum(stack.committed().values())
        longest = max(longest, now - last)
        if committed > before and (now - last >= SPAN or not spans):
            before, last, spans = committed, now, spans + 1
    require(spans == SPANS and longest < STANDSTILL, f"{spans} spans with commits, {longest:.0f} s without one")
    require(any(limits), "no transaction was limited: the quota was never felt")
    least = min(limit for limit in limits if limit)
    _quota(broker, "producer_byte_rate=100000000")
    stack.simulator.market("stop")
    stack.wait(stack.caught_up, "the backlog in Kafka", seconds=120)
    code, report = stack.audit()
    require(code == 0, f"{report['verdict']}: {report['reason']}")
    require(not logged(service, "Traceback"), "a traceback in the log")
    after = metric(service, "ingest_transaction_limit_bytes")
    require(after == 0 or after > least, f"the limit of {least:.0f} bytes does not grow again: {after:.0f}")
    return (
        f"commits all the time, {longest:.0f} s without one at most; transactions of at most {least:,.0f} bytes, then "
        f"{after:,.0f} (0: unlimited); audit {report['verdict']}"
    )


def _quota(broker: KafkaBroker, config: str) -> None:
    import subprocess

    done = subprocess.run(
        [java(), "-Xmx256m", "-cp", f"{jars()}/*", "kafka.admin.ConfigCommand", "--bootstrap-server",
         broker.bootstrap_servers, "--alter", "--entity-type", "clients", "--entity-default", "--add-config", config],
        env=inherited(), cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the quota could not be set: {done.stdout}{done.stderr}")
