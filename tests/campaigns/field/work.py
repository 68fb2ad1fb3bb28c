"""Entry B: health is work, not heartbeats. Entry D: a unit that is too large is not retried for ever."""

import time

from tests.campaigns.field.environment import Environment, begin, happens, ingest, logged, metric, until
from tests.campaigns.field.example import example, require
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
    with environment.stack("frozen") as stack:
        service = begin(stack)
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
    with environment.stack("refused") as stack:
        service = begin(stack)
        stack.simulator.fault("handshake", status=503, attempts=-1)
        stack.simulator.fault("reset")
        observed = _unready(service, "refused handshakes")
        stack.simulator.fault("clear")
        require(happens(service.healthy, 60.0), "not ready 60 s after handshakes were accepted again")
        return observed + ", ready again"


@example("B.4", HEALTH, UNREADY)
def accepted_and_silent(environment: Environment) -> str:
    """Every connection is accepted, answers pings, and delivers no data although the market trades."""
    with environment.stack("silent") as stack:
        service = begin(stack)
        began = time.monotonic()
        unready = False
        while not unready and time.monotonic() - began < BOUND + 15:
            stack.simulator.fault("stall", seconds=600)
            time.sleep(0.25)
            unready = not service.healthy()
        require(unready, f"ready after {BOUND + 15:g} s without one trade")
        stack.simulator.fault("clear")
        require(happens(service.healthy, 60.0), "not ready 60 s after data came again")
        return f"not ready after {time.monotonic() - began:.0f} s, ready again"


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
    began = sum(stack.committed().values())
    grew, limits = [], []
    for _ in range(5):
        for _ in range(24):
            time.sleep(0.5)
            limits.append(metric(service, "ingest_transaction_limit_bytes"))
        now = sum(stack.committed().values())
        grew.append(now - began)
        began = now
    require(sum(count > 0 for count in grew) >= 4, f"committed in five spans of 12 s: {grew}")
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
        f"committed in five spans of 12 s: {grew}; transactions of at most {least:,.0f} bytes, then "
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
