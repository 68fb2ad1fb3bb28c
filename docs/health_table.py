"""What each health signal says in each of fourteen situations: played on the real judges under a scripted time.

``docs/generate.py`` writes the table; ``tests/unit/ingest/service/test_health_probe_situations.py`` has the right value
of each cell.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from ingest.core.data_due import DataDue, Overdue
from ingest.core.role import Role
from ingest.core.symbol_sequence import SymbolSequence
from ingest.metrics import Metrics
from ingest.service.health_probe import ServiceProbe, Snapshot, every_symbol_halted

HEAD = """\
# Health

Health is work: a heartbeat shows that Kafka takes transactions, not that trades are recorded.

| signal | question | how to read it |
| --- | --- | --- |
| live | `GET /health/live`: does the process work at all? | 503: restart it |
| ready | `GET /health/ready`: does it do its job? A writer records trades, a standby is warm | 503 names the reason |
| `ingest health` | the same, as a command for a container's health check | exit code 0 or 1 |
| status | `data_overdue` in `/status`: since when trades are due and do not arrive | 0: they arrive, or none is due |
| alert | what fires ([alerts](alerts.md)) | see the [runbook](../runbook.md) |

Data is due while no connection of a group of symbols is live, and after 15 seconds of silence when REST knows a newer
trade, or when REST does not answer and at least 20 trades should have come by the rate that was measured. Ready turns
to 503 when data is overdue for `K2_READY_MAX_DATA_OVERDUE_SECONDS` (30). `ingest_data_fresh_timestamp_seconds`, which
the freshness objective is made of, stands still while data is overdue.

An instance of a fleet (`K2_SHARD_INDEX=auto`) answers for itself: live while its supervisor turns (within 10 s), ready
while every shard that the group gives to it is written here with commits within `K2_READY_MAX_COMMIT_AGE_SECONDS`. The
table below is that of one shard: `/shards/<n>/health/live` and `/shards/<n>/health/ready`. A child whose event loop
hangs is restarted by its supervisor.

## What each signal says, two minutes after a situation began

Played by `docs/health_table.py` on the judges of the service; a test holds each cell.

| situation | live | ready | `ingest health` | status | alert |
| --- | --- | --- | --- | --- | --- |"""
STEP = 1.0
PAGE_SECONDS = 120.0
"""A page must have come by then (``IngestDataOverdue`` and ``IngestNoWriter`` hold for a minute)."""


@dataclass(frozen=True)
class Row:
    """One situation and what every signal says in it, two minutes after it began."""

    situation: str
    live: str
    ready: str
    command: str
    status: str
    alert: str


class Scene:
    """A service under a scripted time: the loop's beat, the feed and the writer as far as health looks at them."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.metrics = Metrics(process=False)
        self.probe = ServiceProbe(self.metrics, max_commit_age=30.0, monotonic=lambda: self.now)
        self.due = DataDue(self.now)
        self.role = Role.ACTIVE
        self.trades = 0
        self.last_trade: float | None = None
        self.last_commit: float | None = None
        self.waiting_since: float | None = None
        self.groups = {"group 0": True}
        self.trading = self.committing = self.looping = True
        self.symbols = [SymbolSequence(name) for name in ("BTCUSDT", "ETHUSDT", "SOLUSDT")]
        self.rest: Callable[[], bool | None] = lambda: self.trading
        """What the REST API says of newer trades; None where it does not answer."""

    def play(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(int(seconds / STEP)):
            self.now += STEP
            if self.trading and any(self.groups.values()):
                self.trades += 50
                self.last_trade = self.now
            self.due.observe(self.now, self.trades, self.last_trade, self.groups)
            newer = self.rest() if self.due.wants_witness(self.now) else None
            if newer is not None:
                self.due.witness(self.now, newer=newer)
            if self.committing:
                self.last_commit = self.now
            if self.looping:
                self.beat(self.due.overdue(self.now))

    def beat(self, overdue: Overdue) -> None:
        """What the loop says of itself once a second."""
        active = self.role is Role.ACTIVE
        self.metrics.data_overdue.set(overdue.seconds)
        self.metrics.symbols_frozen.set(sum(one.halted is not None for one in self.symbols))
        self.metrics.writer_active.set(1 if active else 0)
        live = sum(self.groups.values())
        self.probe.beat(
            Snapshot(
                at=self.now, role=self.role, last_commit=self.last_commit if active else None, lease_seen=self.now,
                connections_live=live, status={"data_overdue": overdue.seconds}, overdue=overdue,
                waiting_since=self.waiting_since, every_symbol_halted=every_symbol_halted(self.symbols),
            )
        )  # fmt: skip

    def row(self, situation: str, *, reachable: bool = True) -> Row:
        """What every signal says now."""
        if not reachable:
            return Row(situation, "no answer", "no answer", "1", "no answer", "IngestTargetAbsent (page)")
        ready = self.probe.ready()
        return Row(
            situation,
            "200" if self.probe.live().ok else "503",
            "200" if ready.ok else f"503: {ready.reason}",
            "0" if ready.ok else "1",
            "overdue" if self.probe.status().get("data_overdue") else "0",
            self._alert(),
        )

    def _alert(self) -> str:
        """The first alert whose condition holds; docs/reference/alerts.md has the expressions."""
        value = _values(self.metrics.registry)
        self.probe.ready()
        if value["ingest_writer_active"] == 0 and self.role not in (Role.STANDBY, Role.SHADOW):
            return "IngestNoWriter (page)"
        if value["ingest_writer_active"] == 1 and value["ingest_data_overdue_seconds"] > 60:
            return "IngestDataOverdue (page)"
        if self.last_commit is not None and self.now - self.last_commit > 30 and self.role is Role.ACTIVE:
            return "IngestFreshnessBurnFast (page), IngestTransactionsStalled"
        if value["ingest_symbols_frozen"] > 0:
            return "IngestSymbolFrozen (page, after 5 min)"
        return "IngestNotReady (after 5 min)" if value["ingest_healthy"] == 0 else "none"


def _values(registry: CollectorRegistry) -> dict[str, float]:
    return {
        sample.name: sample.value for family in registry.collect() for sample in family.samples if not sample.labels
    }


def _after(change: Callable[[Scene], Any]) -> Scene:
    """Two minutes after something changed in a healthy service."""
    scene = Scene()
    scene.play(300.0)
    change(scene)
    scene.play(PAGE_SECONDS)
    return scene


def _set(**changes: Any) -> Callable[[Scene], None]:
    def change(scene: Scene) -> None:
        for name, value in changes.items():
            setattr(scene, name, value)

    return change


def _halt(count: int) -> Callable[[Scene], None]:
    def change(scene: Scene) -> None:
        for one in scene.symbols[:count]:
            one.halted = "position_lost"

    return change


def situations() -> list[Row]:
    """Play the fourteen situations."""
    down = {"group 0": False}
    never = Scene()
    never.groups, never.trading = down, False
    never.play(PAGE_SECONDS)
    blind = Scene()
    blind.role, blind.waiting_since, blind.committing = Role.STANDBY, blind.now, False
    blind.play(PAGE_SECONDS)
    one = {"group 0": True, "group 1": False}
    return [
        _after(_set()).row("Trades arrive and are committed"),
        _after(_set(trading=False, rest=lambda: False)).row("The market is quiet; REST knows no newer trade"),
        _after(_set(trading=False, rest=lambda: True)).row("The stream is silent; REST knows newer trades"),
        _after(_set(trading=False, rest=lambda: None)).row("The exchange is frozen: streams open, REST silent"),
        _after(_set(groups=down, rest=lambda: None)).row("Every connection is lost; none opens"),
        _after(_set(groups=one)).row("One of two groups has no connection"),
        never.row("The exchange was never reached"),
        blind.row("REST refuses everything at the start: symbols unknown"),
        _after(_halt(1)).row("One of three symbols is halted"),
        _after(_halt(3)).row("Every symbol is halted"),
        _after(_set(committing=False)).row("Kafka takes no transactions"),
        _after(_set(looping=False)).row("The event loop hangs"),
        _after(_set(role=Role.STANDBY, committing=False)).row("Warm standby"),
        _after(_set()).row("The process is gone", reachable=False),
    ]


def page() -> str:
    """The reference page."""
    lines = [HEAD]
    lines += [
        f"| {row.situation} | {row.live} | {row.ready} | {row.command} | {row.status} | {row.alert} |"
        for row in situations()
    ]
    return "\n".join(lines) + "\n"
