"""What a lane counts, as series: the trades' own, or those of all other streams with a label."""

from typing import Protocol

from ingest.core.sequence import Sequencer
from ingest.metrics import STREAM_EVENTS, Metrics


class LaneCounters(Protocol):
    """Events of a lane."""

    def rejected(self, reason: str) -> None:
        """A message went to the dead letters."""

    def letter_dropped(self) -> None:
        """A dead letter had no room."""

    def mismatch(self) -> None:
        """A second delivery differs from the first."""

    def halted(self, reason: str) -> None:
        """A symbol was halted."""

    def void(self, reason: str, count: int) -> None:
        """Numbers were declared void."""

    def gap_closed(self, seconds: float) -> None:
        """A gap was closed after so long."""

    def disagreement(self) -> None:
        """Two events contradict each other about the trades that they name."""

    def publish(self, sequencer: Sequencer, now: float) -> None:
        """Move what the sequencer has counted into the series."""


class TradeCounters:
    """The series of the trades."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def rejected(self, reason: str) -> None:
        """See ``LaneCounters``."""
        self._metrics.rejected.labels(reason).inc()

    def letter_dropped(self) -> None:
        """See ``LaneCounters``."""
        self._metrics.dead_letters_dropped.inc()

    def mismatch(self) -> None:
        """See ``LaneCounters``."""
        self._metrics.content_mismatches.inc()

    def halted(self, reason: str) -> None:
        """See ``LaneCounters``."""
        self._metrics.symbol_halts.labels(reason).inc()

    def void(self, reason: str, count: int) -> None:
        """See ``LaneCounters``."""
        self._metrics.voids.labels(reason).inc(count)

    def gap_closed(self, seconds: float) -> None:
        """See ``LaneCounters``."""
        self._metrics.gap_seconds.observe(seconds)

    def disagreement(self) -> None:
        """See ``LaneCounters``: trades name no other ones."""

    def publish(self, sequencer: Sequencer, now: float) -> None:
        """See ``LaneCounters``."""
        metrics, counts = self._metrics, sequencer.counts.take()
        metrics.duplicates.inc(counts.duplicates)
        metrics.gaps_found.inc(counts.gaps_found)
        metrics.gaps_filled.inc(counts.gaps_filled)
        metrics.trades_backfilled.inc(counts.backfilled)
        metrics.trades_shed.inc(counts.dropped)
        metrics.held_trades.set(sequencer.pending)
        gaps = sequencer.open_gaps.values()
        metrics.gaps_open.set(len(gaps))
        metrics.gap_oldest.set(max((sequence.gap_age(now) for sequence in gaps), default=0.0))
        metrics.symbols_frozen.set(len(sequencer.halted()))


class StreamCounters:
    """The series of another stream."""

    def __init__(self, metrics: Metrics, stream: str) -> None:
        self._metrics = metrics
        self._stream = stream
        for event in STREAM_EVENTS:
            metrics.stream_events.labels(stream, event)  # from the start: an increase from nothing is none

    def count(self, event: str, number: int = 1) -> None:
        """Count an event, one of ``metrics.STREAM_EVENTS``."""
        if number:
            self._metrics.stream_events.labels(self._stream, event).inc(number)

    def rejected(self, reason: str) -> None:
        """See ``LaneCounters``."""
        self._metrics.rejected.labels(reason).inc()
        self.count("rejected")

    def letter_dropped(self) -> None:
        """See ``LaneCounters``."""
        self._metrics.dead_letters_dropped.inc()

    def mismatch(self) -> None:
        """See ``LaneCounters``."""
        self.count("mismatch")

    def halted(self, reason: str) -> None:
        """See ``LaneCounters``."""
        del reason
        self.count("halt")

    def void(self, reason: str, count: int) -> None:
        """See ``LaneCounters``."""
        del reason
        self.count("void", count)

    def gap_closed(self, seconds: float) -> None:
        """See ``LaneCounters``."""

    def disagreement(self) -> None:
        """See ``LaneCounters``."""
        self.count("disagreement")

    def gauges(self, held: int, gaps: int, halted: int) -> None:
        """Set what is so now."""
        self._metrics.stream_held.labels(self._stream).set(held)
        self._metrics.stream_gaps_open.labels(self._stream).set(gaps)
        self._metrics.stream_halted.labels(self._stream).set(halted)

    def books(self, recorded: int, in_sync: int) -> None:
        """Set how many books there are."""
        self._metrics.books_recorded.set(recorded)
        self._metrics.books_in_sync.set(in_sync)

    def publish(self, sequencer: Sequencer, now: float) -> None:
        """See ``LaneCounters``."""
        del now
        counts = sequencer.counts.take()
        for event, number in (
            ("duplicate", counts.duplicates), ("gap_found", counts.gaps_found), ("gap_filled", counts.gaps_filled),
            ("backfilled", counts.backfilled), ("shed", counts.dropped),
        ):  # fmt: skip
            self.count(event, number)
        self.gauges(sequencer.pending, len(sequencer.open_gaps), len(sequencer.halted()))
