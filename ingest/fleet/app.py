"""``ingest run`` with ``K2_SHARD_INDEX=auto``: checks that the instance may join its fleet, and supervises children."""

import contextlib
import logging
import os
import secrets as random_secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from ingest import __version__, logs
from ingest.binance.symbols import shard_of
from ingest.control.ready_file import write_ready_file
from ingest.control.server import this_process
from ingest.core.errors import Retry
from ingest.fleet.arrival import SAME_ID_PAUSE_SECONDS, Arrival, require_partitions
from ingest.fleet.child import Child, child_environment, child_id
from ingest.fleet.endpoints import FleetServer
from ingest.fleet.group import GroupMember, GroupViewer, ViewThread
from ingest.fleet.members import Member, own_member
from ingest.fleet.metrics import FleetMetrics
from ingest.fleet.shards import Starter
from ingest.fleet.status import FleetProbe
from ingest.fleet.supervisor import Supervisor
from ingest.kafka.credential_backoff import AuthBackoff
from ingest.settings import Settings, secrets

log = logging.getLogger(__name__)


class _Stopped(Exception):
    """A signal came before anything was started."""


def run(settings: Settings) -> int:
    """Run an instance until SIGTERM or SIGINT. Raises ``Stop`` where a person must change something."""
    logs.configure(settings.service.log_level, settings.service.log_format, secrets=secrets(settings))
    version = settings.service.version or __version__
    metrics = FleetMetrics(settings.fleet_group)
    metrics.build.info({"version": version, "revision": settings.service.revision})
    probe = FleetProbe(settings, version)
    own = own_member(settings, host=socket.gethostname(), version=version, nonce=random_secrets.token_hex(4))
    signals = Signals()
    with _server(settings, metrics, probe) as server, _ready_file(settings.service.ready_file, server.url):
        try:
            viewer = _admitted(settings, own, signals)
        except _Stopped:
            return 0
        access = AuthBackoff(settings)
        probe.supervisor = supervisor = Supervisor(
            settings,
            own,
            metrics,
            numbers=shards_with_symbols(settings),
            starter=lambda news: _starter(settings, news),
            group=lambda fail: GroupMember(settings, own, access, on_error=fail),
            views=lambda fail: ViewThread(viewer, own, access, on_error=fail),
            signals=lambda: signals.came,
        )
        supervisor.run()
    log.info("done")
    return 0


def shards_with_symbols(settings: Settings) -> set[int]:
    """The shards that must be written: a list of few symbols may leave some without one."""
    count, symbols = settings.service.shard_count, settings.binance.symbols
    return set(range(count)) if "*" in symbols else {shard_of(symbol, count) for symbol in symbols}


class Signals:
    """SIGTERM and SIGINT, counted. A handler interrupts its own thread anywhere, so that it must take no lock."""

    def __init__(self) -> None:
        self.came = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, _: int, __: object) -> None:
        self.came += 1


def _admitted(settings: Settings, own: Member, signals: Signals) -> GroupViewer:
    """Wait until Kafka says that the group may be joined. Raises ``Stop`` where it may not, ``_Stopped``."""
    viewer, arrival = GroupViewer(settings), Arrival(settings, own)
    while not signals.came:
        try:
            require_partitions(settings, viewer.partitions())
            if arrival.may_join(viewer.view()):
                return viewer
            _pause(SAME_ID_PAUSE_SECONDS, signals)
        except Retry as error:
            arrival.interrupted()
            log.warning("waiting for Kafka: %s", error)
            _pause(error.after or 1.0, signals)
    raise _Stopped


def _pause(seconds: float, signals: Signals) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not signals.came:
        time.sleep(0.1)


def _starter(settings: Settings, news: Callable[[], None]) -> Starter:
    service = settings.service

    def start(shard: int) -> Child:
        environment = child_environment(
            os.environ, service.instance_id, shard, control=service.control_port is not None
        )
        return Child(shard, environment, on_news=news)

    return start


def _server(settings: Settings, metrics: FleetMetrics, probe: FleetProbe) -> FleetServer:
    service = settings.service

    def children() -> dict[int, str]:
        supervisor = probe.supervisor
        if supervisor is None:
            return {}
        reports = {number: shard.report() for number, shard in supervisor.shards.items()}
        return {number: report.metrics_url for number, report in reports.items() if report is not None}

    return FleetServer(
        service.metrics_host,
        service.metrics_port,
        registry=metrics.registry,
        probe=probe,
        process=this_process(service.instance_id),
        children=children,
        labels=lambda shard: {
            "shard": str(shard), "slot": service.slot, "instance": child_id(service.instance_id, shard)
        },
        allowed_hosts=service.http_allowed_hosts,
    )  # fmt: skip


@contextlib.contextmanager
def _ready_file(path: Path | None, url: str) -> Iterator[None]:
    """The ready file while the block runs. One that cannot be written is logged: the instance records all the same."""
    try:
        if path is not None:
            with _logged():
                write_ready_file(path, {"metrics_url": url})
        yield
    finally:
        if path is not None and path.is_file():
            with _logged():
                path.unlink()


@contextlib.contextmanager
def _logged() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        log.warning("the ready file: %s", error)
