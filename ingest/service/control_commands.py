"""The control API's commands as the service carries them out: one handler for each type of command."""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from ingest.control.command_schemas import ChangeSymbols, Drain, Promote, Rotate, StandBy, Thaw, Watch
from ingest.core.errors import Stop
from ingest.core.streams import TRADE
from ingest.core.symbol_sequence import SymbolSequence
from ingest.core.trade import Void
from ingest.core.void_evidence import VoidLimit
from ingest.service.handover import Handover
from ingest.service.numbered_lane import NumberedLane
from ingest.service.pipeline import Pipeline
from ingest.service.symbol_set import SymbolSet

log = logging.getLogger(__name__)

Result = dict[str, Any]
Handler = Callable[[Any], Awaitable[Result]]


class Rotation(Protocol):
    """The feed, as far as its connections can be replaced."""

    def rotate(self, reason: str, connection: str | None = None) -> int:
        """Replace a connection by name, or all of them; returns how many."""


class ControlCommands:
    """Carries out commands on the event loop. Every handler raises ``Stop``, ``Retry`` or ``TimeoutError``."""

    def __init__(
        self,
        *,
        handover: Handover,
        symbols: SymbolSet,
        pipeline: Pipeline,
        void_limit: VoidLimit,
        feed: Rotation,
        stop: Callable[[], None],
        writing: Callable[[], bool],
    ) -> None:
        """``stop`` begins a clean end; ``writing`` tells whether this instance is the writer."""
        self._handover = handover
        self._symbols = symbols
        self._pipeline = pipeline
        self._void_limit = void_limit
        self._feed = feed
        self._stop = stop
        self._writing = writing
        self.handlers: Mapping[type, Handler] = {
            Promote: self._promote,
            StandBy: self._stand_by,
            Watch: self._watch,
            Drain: self._drain,
            Rotate: self._rotate,
            ChangeSymbols: self._change_symbols,
            Thaw: self._thaw,
        }

    async def _promote(self, command: Promote) -> Result:
        return await self._handover.promote(command.deployment_id, command.generation)

    async def _stand_by(self, _: StandBy) -> Result:
        return await self._handover.stand_by()

    async def _watch(self, _: Watch) -> Result:
        return await self._handover.watch()

    async def _drain(self, _: Drain) -> Result:
        self._stop()
        return {"state": "draining"}

    async def _rotate(self, command: Rotate) -> Result:
        return {"rotating": self._feed.rotate("operator", command.connection)}

    async def _change_symbols(self, command: ChangeSymbols) -> Result:
        return await self._symbols.change(command.add or [], command.remove or [], writing=self._writing())

    async def _thaw(self, command: Thaw) -> Result:
        """Resume a halted symbol at an id that an operator names; skipped ids become a void of the operator's.

        Raises ``Stop`` if the symbol is not halted, or the id would write ids twice or skip trades in memory.
        """
        lane, symbol = self._lane(command.stream or TRADE.name), command.symbol
        sequencer = lane.sequencer
        sequence = sequencer.sequences.get(symbol)
        if sequence is None or sequence.halted is None:
            raise Stop(f"{symbol} is not frozen")
        if sequence.next_id is None:
            return self._begin(lane, sequence, command)
        first_pending = min(sequence.pending, default=None)
        void = operator_void(symbol, command.next_id, sequence.next_id, first_pending, command.actor or "operator")
        reason = sequence.halted
        if void is not None:
            lane.void(void)
        if lane is self._pipeline:
            self._void_limit.reset(symbol)
        sequencer.discard_jump(symbol, time.monotonic())
        log.warning(
            "an operator resumed a symbol",
            extra={
                "symbol": symbol,
                "stream": lane.stream.name,
                "reason": reason,
                "next_id": command.next_id,
                "actor": command.actor or "",
            },
        )
        return {"symbol": symbol, "next_id": command.next_id, "voided": 0 if void is None else void.count}

    @staticmethod
    def _begin(lane: NumberedLane, sequence: SymbolSequence, command: Thaw) -> Result:
        """Begin a symbol of which an operator knows that it has no records. Raises ``Stop`` for any other."""
        symbol, next_id = sequence.symbol, command.next_id
        if sequence.halted != "records_unknown":
            raise Stop(
                f"{symbol} has no position to go on from ({sequence.halted}): stop the service, run `ingest positions "
                "rebuild --replace`, start it"
            )
        if not lane.sequencer.active:
            raise Stop("this instance does not write: send the command to the writer")
        first_pending = min(sequence.pending, default=None)
        if first_pending is not None and next_id > first_pending:
            raise Stop(f"{symbol}: trade {first_pending} was received, beginning at {next_id} would skip it")
        log.warning(
            "an operator began a symbol whose records were not searched to their beginning",
            extra={"symbol": symbol, "stream": lane.stream.name, "next_id": next_id, "actor": command.actor or ""},
        )
        lane.baseline(symbol, next_id)
        return {"symbol": symbol, "next_id": next_id, "voided": 0}

    def _lane(self, stream: str) -> NumberedLane:
        """The lane of a numbered stream. Raises ``Stop`` for any other."""
        if stream == TRADE.name:
            return self._pipeline
        lane: Any = self._pipeline.lanes.get(stream)
        if lane is None:
            raise Stop(f"{stream!r} is not recorded: there are {', '.join((TRADE.name, *self._pipeline.lanes))}")
        if not isinstance(lane, NumberedLane):
            raise Stop(f"{stream} goes on by itself as soon as its ids do; ids that began again need another topic")
        return lane


def operator_void(symbol: str, next_id: int, current: int, first_pending: int | None, actor: str) -> Void | None:
    """Return the void of the ids that an operator skips, None if the symbol goes on where it is.

    Raises ``Stop`` for going back, and for skipping trades that are in memory.
    """
    if next_id == current:
        return None
    if next_id < current:
        raise Stop(
            f"{symbol} is at {current}: going back to {next_id} would write ids twice. "
            "Record a sequence that began again under a new topic instead."
        )
    if first_pending is not None and next_id > first_pending:
        raise Stop(
            f"{symbol}: trade {first_pending} was received and waits for the ids before it; {next_id} would skip it. "
            f"Name an id from {current} to {first_pending}."
        )
    return Void(symbol, current, next_id - 1, "operator", {"actor": actor[:64]})
