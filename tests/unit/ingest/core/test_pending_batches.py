"""What was handed over is kept until it is known to be in Kafka."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.core.batch import Batch, Span, SpanKind, SymbolChanges
from ingest.core.pending_batches import LETTER_OVERHEAD, SPAN_BATCH_BYTES, SPAN_OVERHEAD, PendingBatches
from ingest.core.trade import DeadLetter, Position, Void


def box(ids: dict[str, range], *, batch: int = 3, limit: int = 1000) -> PendingBatches:
    outbox = PendingBatches(limit=limit, batch_records=batch)
    for n in range(max(len(r) for r in ids.values())):
        for symbol, wanted in ids.items():
            if n < len(wanted):
                outbox.add((symbol, wanted[n], b"x"), 7)
    return outbox


def drain(outbox: PendingBatches) -> list[Batch]:
    found = []
    while (batch := outbox.take()) is not None:
        found.append(batch)
    return found


def test_a_batch_is_full_at_its_size_and_partial_on_demand() -> None:
    outbox = box({"A": range(1, 5)})
    assert outbox.ready()
    assert [[r[1] for r in b.records] for b in drain(outbox)] == [[1, 2, 3], [4]]
    assert len(outbox) == 4
    assert outbox.in_flight == 2


def test_acknowledging_is_in_order() -> None:
    outbox = box({"A": range(1, 7)})
    first, second = drain(outbox)
    with pytest.raises(ValueError, match="in the order"):
        outbox.acknowledge(second)
    outbox.acknowledge(first)
    assert len(outbox) == 3


def test_full_is_a_bound_on_what_is_not_acknowledged() -> None:
    outbox = box({"A": range(1, 4)}, limit=3)
    assert outbox.full()
    outbox.acknowledge(drain(outbox)[0])
    assert not outbox.full()


def test_rewind_drops_what_kafka_has_and_keeps_the_rest_in_order() -> None:
    outbox = box({"A": range(1, 8), "B": range(11, 18)})
    drain(outbox)
    broken = outbox.rewind({"A": Position(1, 4, 4), "B": Position(11, 17, 7)})
    assert broken == {}
    assert [r[:2] for b in drain(outbox) for r in b.records] == [("A", 5), ("A", 6), ("A", 7)]


def test_rewind_names_the_symbols_that_must_be_read_again() -> None:
    outbox = box({"A": range(5, 8), "B": range(1, 3)})
    assert outbox.rewind({"A": Position(1, 2, 2)}) == {"A": 3}
    assert [r[:2] for b in drain(outbox) for r in b.records] == [("B", 1), ("B", 2)]


def test_rewind_keeps_a_void_before_the_record_that_follows_it() -> None:
    outbox = PendingBatches(limit=100, batch_records=2)
    for trade_id in (1, 2, 3):
        outbox.add(("A", trade_id, b"x"), 7)
    outbox.add_void(Void("A", 4, 5, "exchange_hole", {}))
    for trade_id in (6, 7):
        outbox.add(("A", trade_id, b"x"), 7)
    outbox.add_void(Void("A", 8, 8, "exchange_hole", {}))
    assert outbox.rewind({"A": Position(1, 1, 1)}) == {}
    batches = drain(outbox)
    assert [([r[1] for r in b.records], [v.first_id for v in b.voids]) for b in batches] == [
        ([2, 3], []),
        ([6, 7], [4]),
        ([], [8]),
    ]
    assert outbox.rewind({"A": Position(1, 5, 3)}) == {}
    assert [([r[1] for r in b.records], [v.first_id for v in b.voids]) for b in drain(outbox)] == [
        ([6, 7], []),
        ([], [8]),
    ]


def test_a_baseline_survives_until_a_position_exists() -> None:
    outbox = PendingBatches(limit=10, batch_records=5)
    outbox.add_baseline("Q", 77)
    drain(outbox)
    outbox.rewind({})
    assert drain(outbox)[0].baselines == {"Q": 77}
    outbox.rewind({"Q": Position(77, 76, 0)})
    assert drain(outbox) == []


@given(st.integers(1, 30), st.integers(0, 30), st.integers(1, 7), st.sets(st.integers(1, 30), max_size=6))
def test_after_any_rewind_positions_and_outbox_together_are_complete(
    total: int, stored: int, size: int, voids: set[int]
) -> None:
    outbox = PendingBatches(limit=100, batch_records=size)
    for i in range(1, total + 1):
        if i in voids:
            outbox.add_void(Void("A", i, i, "exchange_hole", {}))
        else:
            outbox.add(("A", i, b"x"), 7)
    drain(outbox)
    stored = min(stored, total)
    assert outbox.rewind({"A": Position(1, stored, stored)}) == {}
    due = stored + 1
    for batch in drain(outbox):
        here = sorted([r[1] for r in batch.records] + [v.first_id for v in batch.voids])
        assert here == list(range(due, due + len(here)))
        due += len(here)
    assert due == total + 1


def test_dead_letters_go_along_and_are_bounded_in_bytes() -> None:
    outbox = PendingBatches(limit=10, batch_records=3, letter_bytes=2 * (LETTER_OVERHEAD + 6))
    kept = [outbox.add_dead_letter(DeadLetter("malformed_json", "a", b"12345")) for _ in range(3)]
    assert kept == [True, True, False]
    assert outbox.waiting()
    assert not outbox.ready()
    batch = outbox.take()
    assert batch is not None
    assert len(batch) == 0
    assert len(batch.dead_letters) == 2
    assert outbox.rewind({}) == {}
    again = outbox.take()
    assert again is not None
    assert len(again.dead_letters) == 2
    outbox.acknowledge(again)
    assert outbox.add_dead_letter(DeadLetter("malformed_json", "a", b"1234567890"))


def test_a_baseline_that_kafka_has_not_taken_goes_out_again_and_one_it_has_does_not() -> None:
    outbox = PendingBatches(limit=10, batch_records=3)
    outbox.add_baseline("A", 5)
    outbox.add_baseline("B", 7)
    assert outbox.take() is not None
    assert outbox.rewind({"A": Position(5, 4, 0)}) == {}
    batch = outbox.take()
    assert batch is not None
    assert batch.baselines == {"B": 7}


def test_a_void_that_does_not_continue_kafkas_position_is_dropped_and_read_again() -> None:
    outbox = PendingBatches(limit=10, batch_records=3)
    outbox.add_void(Void("A", 10, 12, "exchange_hole", {}))
    assert outbox.rewind({"A": Position(1, 5, 5)}) == {"A": 6}
    assert not outbox.waiting()
    outbox.add(("A", 8, b"x"), 1)
    outbox.add_void(Void("A", 9, 9, "exchange_hole", {}))
    assert outbox.rewind({"A": Position(1, 5, 5)}) == {"A": 6}
    assert not outbox.waiting()


def test_what_a_deposed_writer_keeps_goes_as_the_other_commits_it() -> None:
    outbox = box({"A": range(1, 8), "B": range(11, 18)})
    outbox.add_dead_letter(DeadLetter(reason="r", source="s", raw=b"x", detail=""))
    outbox.add_void(Void("A", 8, 9, "exchange_hole", {}))
    outbox.add_baseline("C", 5)
    outbox.take()
    assert outbox.demote() == len(outbox) == 14
    assert outbox.in_flight == 0
    outbox.drop_committed({"A": 2})
    assert len(outbox) == 14, "the oldest batch holds another symbol's, too"
    outbox.drop_committed({"A": 2, "B": 11})
    assert len(outbox) == 11
    outbox.drop_committed({"A": 7, "B": 17})
    assert len(outbox) == 0
    assert not outbox.waiting(), "voids, baselines and dead letters are the other's to judge"


def test_a_deposed_writer_goes_on_with_what_continues_the_stored_positions() -> None:
    outbox = box({"A": range(1, 8), "B": range(11, 18), "C": range(1, 3), "D": range(1, 3)})
    outbox.take()
    outbox.demote()
    next_ids = outbox.promote({"A": Position(1, 4, 4), "B": Position(11, 30, 20), "C": Position(-9, -5, 4)})
    assert next_ids == {"A": 8, "B": 31, "C": -4}
    assert [r[:2] for b in drain(outbox) for r in b.records] == [("A", 5), ("A", 6), ("A", 7)]
    assert len(outbox) == 3, "what is taken is not yet acknowledged"


def test_clearing_drops_everything_and_says_how_much() -> None:
    outbox = box({"A": range(1, 6)})
    outbox.take()
    outbox.add_dead_letter(DeadLetter("malformed_json", "a", b"x"))
    assert outbox.clear() == 5
    assert (len(outbox), outbox.in_flight, outbox.waiting()) == (0, 0, False)


def test_small_dead_letters_are_bounded_by_the_memory_that_they_take() -> None:
    outbox = PendingBatches(limit=10, batch_records=3, letter_bytes=100_000)
    letter = DeadLetter(reason="malformed_json", source="g0a", raw=b"x")
    kept = sum(outbox.add_dead_letter(letter) for _ in range(1000))
    assert 200 <= kept <= 250
    batch = outbox.take()
    assert batch is not None
    outbox.acknowledge(batch)
    assert outbox.add_dead_letter(letter)


def test_empty_dead_letters_take_memory_too() -> None:
    outbox = PendingBatches(limit=10, batch_records=3, letter_bytes=10_000)
    assert sum(outbox.add_dead_letter(DeadLetter(reason="r", source="s", raw=b"")) for _ in range(1000)) < 30


def test_changes_of_symbols_are_stored_once_and_the_latest_survives_a_rewind() -> None:
    outbox = box({"A": range(1, 3)})
    outbox.set_symbols(SymbolChanges(("X",)))
    first = outbox.take()
    assert first is not None
    assert first.symbols == SymbolChanges(("X",))
    outbox.set_symbols(SymbolChanges(("X", "Y")))
    outbox.take()
    outbox.rewind({})
    batches = drain(outbox)
    assert [batch.symbols for batch in batches] == [SymbolChanges(("X", "Y"))]


BOOK = "depth:A"


def book_span(kind: SpanKind, first: int, last: int) -> Span:
    return (BOOK, kind, first, last, b"x" * 100, 5)


@given(
    lengths=st.lists(st.integers(1, 4), min_size=1, max_size=15), taken=st.integers(0, 4), stored=st.integers(0, 15),
    every=st.integers(1, 4),
)  # fmt: skip
def test_spans_are_kept_until_they_are_stored_and_queued_again_in_order(
    lengths: list[int], taken: int, stored: int, every: int
) -> None:
    outbox, at, spans = PendingBatches(limit=1000, batch_records=10), 1, []
    for number, length in enumerate(lengths):
        spans.append(book_span("update", at, at + length - 1))
        at += length
        outbox.add_span(spans[-1])
        if number % every == 0 and number // every < taken:
            outbox.take()
    assert outbox.waiting() or outbox.in_flight
    position = spans[min(stored, len(spans)) - 1][3] if stored else 0
    outbox.rewind({BOOK: Position(1, position, 1)})
    left = [span for span in spans if span[3] > position]
    assert [span for batch in drain(outbox) for span in batch.spans] == left
    assert outbox.span_bytes == len(left) * (100 + SPAN_OVERHEAD)


def test_acknowledged_spans_free_their_memory_and_large_ones_fill_a_batch() -> None:
    outbox = PendingBatches(limit=1000, batch_records=1000)
    outbox.add_span(book_span("update", 1, 1))
    assert not outbox.ready()
    outbox.add_span((BOOK, "update", 2, 2, b"x" * SPAN_BATCH_BYTES, 5))
    assert outbox.ready()
    assert len(outbox) == 0
    batch = outbox.take()
    assert batch is not None
    outbox.acknowledge(batch)
    assert outbox.span_bytes == 0
    assert not outbox.waiting()


def test_what_a_former_writer_had_queued_continues_the_new_position() -> None:
    outbox = PendingBatches(limit=1000, batch_records=1000)
    spans = [book_span("update", 1, 4), book_span("snapshot", 4, 4), book_span("update", 5, 6)]
    quotes: list[Span] = [("bookTicker:A", "update", number, number, b"x", 5) for number in (3, 8)]
    for span in (*spans, *quotes):
        outbox.add_span(span)
    outbox.demote()
    outbox.drop_committed({BOOK: 4, "bookTicker:A": 3})
    due = outbox.promote({BOOK: Position(1, 4, 1), "bookTicker:A": Position(1, 3, 1)})
    assert [span for batch in drain(outbox) for span in batch.spans] == [spans[2], quotes[1]]
    assert due == {BOOK: 7, "bookTicker:A": 9}


def test_a_snapshot_right_behind_the_position_is_queued_again() -> None:
    outbox = PendingBatches(limit=1000, batch_records=1000)
    for span in (book_span("update", 1, 4), book_span("snapshot", 4, 4), book_span("update", 5, 6)):
        outbox.add_span(span)
    outbox.rewind({BOOK: Position(1, 4, 1)})
    assert [span[1] for batch in drain(outbox) for span in batch.spans] == ["snapshot", "update"]


def test_the_snapshot_behind_a_break_that_is_queued_again_is_kept_with_it() -> None:
    """Else the book would have a break and, until the next regular snapshot, nothing to continue from."""
    outbox = PendingBatches(limit=1000, batch_records=1000)
    spans = [
        book_span("snapshot", 4, 4), book_span("break", 5, 6), book_span("update", 7, 8), book_span("snapshot", 8, 8),
        book_span("update", 9, 9),
    ]  # fmt: skip
    for span in spans:
        outbox.add_span(span)
    outbox.demote()
    assert outbox.promote({BOOK: Position(1, 4, 1)}) == {BOOK: 10}
    assert outbox.in_sync() == {BOOK: True}
    assert [span for batch in drain(outbox) for span in batch.spans] == spans[1:]


def test_a_break_without_a_snapshot_behind_it_is_told() -> None:
    outbox = PendingBatches(limit=1000, batch_records=1000)
    for span in (book_span("break", 5, 6), book_span("update", 7, 8)):
        outbox.add_span(span)
    assert outbox.in_sync() == {BOOK: False}


def test_a_break_of_which_a_part_was_written_by_another_is_dropped_with_what_follows_it() -> None:
    outbox = PendingBatches(limit=1000, batch_records=1000)
    quotes: list[Span] = [
        ("bookTicker:A", "update", 3, 3, b"x", 5), ("bookTicker:A", "break", 4, 8, b"x", 0),
        ("bookTicker:A", "update", 9, 9, b"x", 5),
    ]  # fmt: skip
    for span in (book_span("break", 5, 9), book_span("update", 10, 12), *quotes):
        outbox.add_span(span)
    outbox.demote()
    due = outbox.promote({BOOK: Position(1, 7, 1), "bookTicker:A": Position(1, 6, 1)})
    assert [span for batch in drain(outbox) for span in batch.spans] == []
    assert due == {BOOK: 8, "bookTicker:A": 7}
    assert outbox.cut == {BOOK, "bookTicker:A"}
    for position, left in ((Position(1, 3, 1), {"bookTicker:A": 10}), (None, {})):
        for span in quotes:
            outbox.add_span(span)
        outbox.demote()
        assert outbox.promote({} if position is None else {"bookTicker:A": position}) == left
        assert outbox.cut == set()
