"""Which stored positions this writer uses: those that the newest records do not contradict.

The take-over has compared most of them (``kafka.position_check``). What it has not seen waits here for a moment, while
its records are looked for within a bound; then it goes on unchecked, and the status says so. A symbol whose position is
wrong is halted, and has no position until the next take-over: not for a recycle, not for a command.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import msgspec

from ingest.core.errors import Retry, Stop
from ingest.core.streams import split_name
from ingest.core.symbol_sequence import HaltReason
from ingest.core.trade import Position
from ingest.kafka.position_check import Checked, explained
from ingest.metrics import Metrics
from ingest.service.pipeline import Pipeline

log = logging.getLogger(__name__)

HOLD_SECONDS = 0.8
"""A symbol without a record at the end of its partition waits so long for the search, at most."""
SEARCH_SECONDS = 0.7
"""The search itself, connecting included."""
RETRY_SECONDS = 1.0
REPEAT_SECONDS = 60.0
"""Between two log records about positions that wait for their voids."""
NAMES_LOGGED = 20


class Records(Protocol):
    """What the topics hold."""

    async def compare(self, positions: Mapping[str, Position], seconds: float) -> Checked:
        """Search for so long at most, and compare these positions with what was found."""

    async def voids(self, names: Iterable[str]) -> Mapping[str, Mapping[int, int]]:
        """Return sequence name -> first id -> last id of its voids. Raises ``Retry``."""


class RecordedBefore(msgspec.Struct, frozen=True):
    """Symbols that have recent trades and no position in this shard."""

    symbols: frozenset[str]


class Distrusted(msgspec.Struct, frozen=True):
    """A position that is not used."""

    position: Position
    newest: int
    """The newest record's id."""
    reason: HaltReason


class PositionTrust:
    """The positions of one writer. All calls on the loop."""

    def __init__(
        self,
        pipeline: Pipeline,
        metrics: Metrics,
        on_trusted: Callable[[Mapping[str, Position]], None],
        on_recorded: Callable[[RecordedBefore], None],
        owns: Callable[[str], bool],
    ) -> None:
        """``owns``: whether this shard records a symbol. Positions of others are not judged: they may be left over.

        ``on_trusted`` gets positions that turned out to be right after their take-over.

        ``on_recorded`` gets the symbols that have recent trades and no position.
        """
        self._pipeline = pipeline
        self._metrics = metrics
        self._on_trusted = on_trusted
        self._on_recorded = on_recorded
        self._owns = owns
        self._take_over = 0
        self._due = asyncio.Event()
        self._comparison: asyncio.Task[None] | None = None
        """Of the present take-over."""
        self._checked = Checked()
        self._open: dict[str, Position] = {}
        """Sequence name -> a position that is being compared."""
        self.wrong: dict[str, Distrusted] = {}
        """Sequence name -> its position, which is not used."""
        self.unchecked: frozenset[str] = frozenset()
        """Positions that could not be compared within the bound, and are used all the same."""

    @property
    def comparing(self) -> list[str]:
        """Positions that are being compared: nothing is written for their symbols yet."""
        return sorted(self._open)

    # --- of a take-over, in this order ---

    def took_over(self, positions: Mapping[str, Position], checked: Checked) -> dict[str, Position]:
        """Take what the take-over found; returns the positions to go on from at once."""
        self.stand_by()
        self._checked = checked = checked.of(self._owns)
        self._open = {name: positions[name] for name in (*checked.ahead, *checked.unseen)}
        for name, newest in checked.lost.items():
            self.wrong[name] = Distrusted(positions[name], newest, "position_lost")
        for name in (*self._open, *self.wrong):
            lane, symbol = self._pipeline.numbered(name)
            lane.compare_position(symbol)
        self._show_comparing()
        if checked.spans:
            log.error(
                "books or quotes have records and no position: they go on behind the newest one, with a declared break",
                extra={"sequences": sorted(checked.spans)[:NAMES_LOGGED], "count": len(checked.spans)},
            )  # fmt: skip
        recovered = {name: Position(last, last, 0, unsynced=True) for name, last in checked.spans.items()}
        return {**self.trusted(positions), **recovered}

    def trusted(self, positions: Mapping[str, Position]) -> dict[str, Position]:
        """Of these positions those that are used."""
        return {name: one for name, one in positions.items() if name not in self.wrong and name not in self._open}

    def activated(self) -> None:
        """The pipeline is active: halt what is wrong, and begin to look for the records of the others."""
        for name, one in self.wrong.items():
            self._distrust(name, one)
        if self._open:
            self._due.set()
        self._on_recorded(RecordedBefore(self._checked.recorded))

    def stand_by(self) -> None:
        """Another instance writes now: nothing is compared, the next take-over begins again."""
        self._take_over += 1
        self._due.clear()
        if self._comparison is not None:
            self._comparison.cancel()  # else the next take-over waits for what this one reads: a whole topic perhaps
        self._settled(self._open)
        self.wrong.clear()
        self._show(frozenset())

    # --- afterwards ---

    async def run(self, records: Records) -> None:
        """Look for the records that the take-overs have not seen, until cancelled."""
        async with asyncio.TaskGroup() as comparisons:
            while True:
                await self._due.wait()
                self._due.clear()
                self._comparison = comparisons.create_task(self._compare(records))

    async def _compare(self, records: Records) -> None:
        number, checked = self._take_over, self._checked
        unseen = {name: self._open[name] for name in checked.unseen & self._open.keys()}
        found = await self._search(records, unseen)
        if number != self._take_over:  # ``wait_for`` returns an answer that comes together with a cancellation
            return
        for name, last in found.lost.items():
            self._distrust(name, Distrusted(unseen[name], last, "position_lost"))
        ahead = {**checked.ahead, **found.ahead}
        self._trust(unseen.keys() - ahead.keys())
        self._show(found.unseen)
        await self._explain(records, ahead)

    async def _search(self, records: Records, positions: Mapping[str, Position]) -> Checked:
        if not positions:
            return Checked()
        try:
            return await asyncio.wait_for(records.compare(positions, SEARCH_SECONDS), HOLD_SECONDS)
        except TimeoutError:
            log.warning("positions are not compared with their records: no answer in %g s", HOLD_SECONDS)
            return Checked(unseen=frozenset(positions))

    async def _explain(self, records: Records, ahead: Mapping[str, int]) -> None:
        """Positions beyond their newest record: right only where voids lie in between.

        Until these are read nothing is written for the symbols: that would skip ids. So the waiting has no bound, but
        it is shown.
        """
        due = 0.0
        while ahead:
            try:
                voids = await records.voids(ahead)
            except (Retry, Stop) as error:
                now = asyncio.get_running_loop().time()
                if now >= due:
                    due = now + REPEAT_SECONDS
                    log.error(  # noqa: TRY400 -- the broker's answer, not a bug
                        "%d symbols are not written: their position is beyond their newest record, and the voids that "
                        "may explain it cannot be read: %s", len(ahead), error,
                        extra={"symbols": sorted(ahead)[:NAMES_LOGGED], "count": len(ahead)},
                    )  # fmt: skip
                await asyncio.sleep(RETRY_SECONDS)
                continue
            for name in ahead.keys() & self._open.keys():
                if not explained(ahead[name], self._open[name], voids.get(name, {})):
                    self._distrust(name, Distrusted(self._open[name], ahead[name], "position_ahead"))
            self._trust(ahead)
            return

    def _trust(self, names: Iterable[str]) -> None:
        positions = {name: self._open[name] for name in names if name in self._open}
        self._settled(positions)
        self._on_trusted(positions)

    def _distrust(self, name: str, one: Distrusted) -> None:
        self.wrong[name] = one
        self._settled((name,))
        self._halt(name, one)

    def _settled(self, names: Iterable[str]) -> None:
        for name in list(names):
            self._open.pop(name, None)
            lane, symbol = self._pipeline.numbered(name)
            lane.unchecked.discard(symbol)
        self._show_comparing()

    def _show_comparing(self) -> None:
        self._metrics.positions_comparing.set(len(self._open))

    def _halt(self, name: str, one: Distrusted) -> None:
        log.error(
            "the position of %s is %s, its newest record %d: the position is lost, or foreign. Nothing is written for "
            "it: stop the service, run `ingest positions rebuild --replace`, start it",
            name, one.position.last_id, one.newest,
            extra={"symbol": split_name(name)[1], "last_id": one.position.last_id, "newest": one.newest},
        )  # fmt: skip
        lane, symbol = self._pipeline.numbered(name)
        lane.distrust(symbol, one.reason)

    def _show(self, unchecked: frozenset[str]) -> None:
        self.unchecked = unchecked
        self._metrics.positions_unchecked.set(len(unchecked))
        if unchecked:
            log.info(
                "%d positions are not compared with a record: none at the end of their topic", len(unchecked),
                extra={"symbols": sorted(unchecked)[:NAMES_LOGGED]},
            )  # fmt: skip
