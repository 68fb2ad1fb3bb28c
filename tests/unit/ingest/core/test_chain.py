"""The chain against a naive model: what is written continues, and a break states exactly what is missing."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.core.chain import BACKWARDS_US, WIDEST, Chain
from ingest.core.market_events import BookSnapshot, DepthUpdate

LIMIT = 1000
SENT = 1_700_000_000_000_000


def update(first: int, last: int, sent: int = SENT) -> DepthUpdate:
    return DepthUpdate("BTCUSDT", first, last, sent, [("1.0", f"{last}.0")], [])


def book(last: int) -> BookSnapshot:
    return BookSnapshot(last, [("1.0", "1.0")], [("2.0", "1.0")])


@dataclass
class Written:
    """What a chain writes: ("update", first, last), ("break", first missing, last missing), ("snapshot", id)."""

    rows: list[tuple[str, int, int]] = field(default_factory=list)
    room: bool = True
    given_up: list[tuple[int, int, str]] = field(default_factory=list)

    def chain(self, next_id: int | None = None) -> Chain:
        chain = self.passive()
        chain.activate(next_id, False, 0.0)
        return chain

    def passive(self) -> Chain:
        return Chain(
            "BTCUSDT", release=self.release, broke=self.broke, placed=self.placed, contradicted=self.contradicted,
            jump_limit=LIMIT,
        )  # fmt: skip

    def contradicted(self, chain: Chain, update: DepthUpdate, source: str) -> None:
        self.given_up.append((update.first_id, update.trade_id, source))

    def release(self, update: DepthUpdate) -> bool:
        if self.room:
            self.rows.append(("update", update.first_id, update.trade_id))
        return self.room

    def broke(self, chain: Chain, first_id: int) -> None:
        assert chain.next_id is not None
        self.rows.append(("break", chain.next_id, first_id - 1))

    def placed(self, chain: Chain, book: BookSnapshot) -> None:
        self.rows.append(("snapshot", book.last_update_id, book.last_update_id))


def assert_continuous(rows: list[tuple[str, int, int]]) -> None:
    due = None
    for kind, first, last in rows:
        if kind == "snapshot":
            assert due is None or last + 1 >= due
            continue
        assert first <= last
        assert due is None or (first == due if kind == "break" else first <= due <= last), (kind, first, last, due)
        due = last + 1


lengths = st.lists(st.integers(1, 5), min_size=1, max_size=25)


@given(lengths=lengths, data=st.data())
def test_two_connections_together_lose_only_what_both_lost(lengths: list[int], data: st.DataObject) -> None:
    updates, at = [], 100
    for length in lengths:
        updates.append(update(at, at + length - 1))
        at += length
    heard = [[data.draw(st.booleans()) or number == 0 for number in range(len(updates))] for _ in range(2)]
    arrivals = [
        (number + data.draw(st.integers(0, 4)) * (which + 1), which, number)
        for which in range(2) for number in range(len(updates)) if heard[which][number]
    ]  # fmt: skip
    # Each connection delivers in order; one may be behind the other.
    behind = data.draw(st.integers(0, 5))
    order = sorted(arrivals, key=lambda one: one[2] + (behind if one[1] else 0))
    written, now = Written(), 0.0
    chain = written.chain()
    for _, _, number in order:
        chain.take(updates[number], now)
        now += 0.01
    for _ in updates:
        now += 10.0
        chain.expire(now, 1.0)
    assert_continuous(written.rows)
    got = [row[1:] for row in written.rows if row[0] == "update"]
    expected = [(u.first_id, u.trade_id) for n, u in enumerate(updates) if heard[0][n] or heard[1][n]]
    assert got == expected
    missing = {
        number for n, u in enumerate(updates) if not (heard[0][n] or heard[1][n])
        for number in range(u.first_id, u.trade_id + 1)
    }  # fmt: skip
    declared = {number for kind, first, last in written.rows if kind == "break" for number in range(first, last + 1)}
    assert declared == {number for number in missing if number < expected[-1][0]}
    assert not chain.waiting


@given(
    lengths=lengths, snapshot_at=st.integers(90, 220), asked_after=st.integers(0, 24), answered_after=st.integers(0, 24)
)
def test_a_snapshot_stands_before_the_update_that_holds_the_id_behind_it(
    lengths: list[int], snapshot_at: int, asked_after: int, answered_after: int
) -> None:
    written, at = Written(), 100
    chain = written.chain()
    fits = None
    for number, length in enumerate(lengths):
        if number == asked_after and chain.next_id is not None:
            chain.pause()
        chain.take(update(at, at + length - 1), 0.0)
        at += length
        if number == asked_after + answered_after and chain.next_id is not None:
            fits = chain.offer(book(snapshot_at), 0.0)
    if fits is None:
        chain.resume(0.0)
    assert_continuous(written.rows)
    assert [row for row in written.rows if row[0] == "break"] == []
    assert len([row for row in written.rows if row[0] == "update"]) == len(lengths)
    placed = [n for n, row in enumerate(written.rows) if row[0] == "snapshot"]
    if placed:
        (where,) = placed
        assert chain.synced
        before = [row[2] for row in written.rows[:where] if row[0] == "update"]
        after = [row for row in written.rows[where:] if row[0] == "update"]
        assert all(last <= snapshot_at for last in before)
        assert not after or after[0][1] <= snapshot_at + 1 <= after[0][2]
    elif fits:
        assert chain.awaits_stream == (snapshot_at >= at)
    else:
        assert not chain.synced


@given(lengths=lengths, known=st.integers(95, 200))
def test_a_standby_continues_where_the_writer_was(lengths: list[int], known: int) -> None:
    written, at = Written(), 100
    chain = written.passive()
    updates = []
    for length in lengths:
        updates.append(update(at, at + length - 1))
        chain.take(updates[-1], 0.0)
        at += length
    chain.committed(known)
    chain.activate(known + 1, True, 0.0)
    assert_continuous(written.rows)
    assert [row[1:] for row in written.rows] == [
        (u.first_id, u.trade_id) for u in updates if u.trade_id > known and known >= 99
    ]
    assert (chain.gap_since is not None) == (known < 99)


def test_a_crash_leaves_one_break_with_the_true_bounds() -> None:
    written = Written()
    chain = written.chain(51)
    chain.take(update(70, 75), 0.0)
    assert chain.expire(0.1, 0.25) == 0
    assert chain.expire(0.3, 0.25) == 1
    chain.take(update(76, 80), 0.4)
    assert written.rows == [("break", 51, 69), ("update", 70, 75), ("update", 76, 80)]
    assert not chain.synced


def test_what_could_not_be_taken_is_missing_and_declared() -> None:
    written = Written()
    chain = written.chain(1)
    chain.take(update(1, 2), 0.0)
    written.room = False
    chain.take(update(3, 4), 0.0)
    assert chain.dropped
    written.room = True
    chain.take(update(5, 6), 0.0)
    chain.expire(1.0, 0.0)
    assert written.rows == [("update", 1, 2), ("break", 3, 4), ("update", 5, 6)]
    assert not chain.dropped


def test_a_snapshot_that_is_older_is_refused_and_one_that_is_broken_off_is_forgotten() -> None:
    written = Written()
    chain = written.chain(1)
    chain.take(update(1, 10), 0.0)
    chain.pause()
    chain.take(update(11, 12), 0.0)
    assert written.rows == [("update", 1, 10)]
    assert not chain.offer(book(9), 0.0)
    assert written.rows == [("update", 1, 10), ("update", 11, 12)]
    chain.pause()
    assert chain.offer(book(20), 0.0)
    assert chain.awaits_stream
    chain.take(update(30, 31), 1.0)
    chain.expire(9.0, 0.0)
    assert not chain.awaits_stream
    assert not chain.synced


def test_an_update_that_overlaps_continues() -> None:
    written = Written()
    chain = written.chain(5)
    chain.take(update(3, 8), 0.0)
    assert written.rows == [("update", 3, 8)]
    assert chain.overlapping == 1


@pytest.mark.parametrize(("later", "halts"), [(BACKWARDS_US + 1, True), (BACKWARDS_US, False)])
def test_ids_that_go_back_halt_the_book_until_they_continue(later: int, halts: bool) -> None:
    written = Written()
    chain = written.chain(10)
    chain.take(update(10, 20), 0.0)
    chain.take(update(1, 2, SENT + later), 1.0)
    assert chain.halted == halts
    assert chain.duplicates == 1
    chain.take(update(21, 22, SENT + later), 2.0)
    assert not chain.halted


def test_memory_is_freed_the_oldest_first() -> None:
    chain = Written().passive()
    assert [chain.take(update(n, n), 0.0) for n in (1, 2, 2)] == [1, 1, 0]
    assert chain.drop_oldest()
    assert list(chain.waiting) == [2]
    assert chain.committed(5) == 1
    assert not chain.drop_oldest()


def test_a_gap_behind_one_that_was_filled_has_a_grace_of_its_own() -> None:
    written = Written()
    chain = written.chain(1)
    chain.take(update(2, 2), 0.0)
    chain.take(update(4, 4), 0.2)
    chain.take(update(1, 1), 0.24)
    chain.expire(0.3, 0.25)
    chain.take(update(3, 3), 0.35)
    assert written.rows == [("update", number, number) for number in (1, 2, 3, 4)]


@pytest.mark.parametrize("wild", [(10**9, 10**9 + 3), (16, 16 + LIMIT)])
def test_one_update_far_ahead_is_given_up_and_what_it_stood_for_is_missing(wild: tuple[int, int]) -> None:
    written = Written()
    chain = written.chain(11)
    chain.take(update(11, 15), 0.0)
    assert chain.take(update(*wild), 0.1, "g0a") == 0
    assert chain.take(update(*wild), 0.1, "g0b") == 0
    assert written.given_up == []
    chain.take(update(20, 25), 0.2)
    assert written.given_up == [(*wild, "g0a")]
    chain.expire(9.0, 0.25)
    assert written.rows == [("update", 11, 15), ("break", 16, 19), ("update", 20, 25)]
    assert not chain.waiting


def test_an_update_far_ahead_costs_nothing_where_another_connection_has_the_true_one() -> None:
    written = Written()
    chain = written.chain(11)
    for one in ((11, 15), (10**9, 10**9 + 3), (16, 19), (20, 25)):
        chain.take(update(*one), 0.0)
    assert written.rows == [("update", 11, 15), ("update", 16, 19), ("update", 20, 25)]


@pytest.mark.parametrize("snapshot", [True, False])
def test_a_jump_is_true_once_another_update_or_a_snapshot_agrees(snapshot: bool) -> None:
    written = Written()
    chain = written.chain(11)
    chain.take(update(11, 15), 0.0)
    chain.take(update(10**9, 10**9 + 3), 0.1)
    if snapshot:
        chain.pause()
        assert chain.offer(book(10**9 + 1), 0.2)
    else:
        chain.take(update(10**9 + 4, 10**9 + 6), 0.2)
    chain.expire(9.0, 0.25)
    assert written.given_up == []
    assert written.rows[:3] == [("update", 11, 15), ("break", 16, 10**9 - 1), *written.rows[2:3]]
    assert ("update", 10**9, 10**9 + 3) in written.rows
    assert chain.synced == snapshot


def test_a_snapshot_far_from_a_doubted_update_is_no_evidence_for_it() -> None:
    written = Written()
    chain = written.chain(11)
    chain.take(update(11, 15), 0.0)
    chain.take(update(10**9, 10**9 + 3), 0.1)
    chain.pause()
    assert chain.offer(book(15), 0.2)
    chain.take(update(16, 19), 0.3)
    assert written.rows == [("update", 11, 15), ("snapshot", 15, 15), ("update", 16, 19)]
    assert written.given_up == [(10**9, 10**9 + 3, "")]


def test_what_a_standby_holds_is_judged_by_the_position_when_it_takes_over() -> None:
    written = Written()
    chain = written.passive()
    for one in ((10**9, 10**9 + 3), (11, 15), (16, 19)):  # the first one of all: nothing contradicts it yet
        chain.take(update(*one), 0.0)
    chain.activate(11, True, 1.0)
    chain.take(update(20, 21), 1.1)
    chain.expire(9.0, 0.25)
    assert written.rows == [("update", 11, 15), ("update", 16, 19), ("update", 20, 21)]
    assert written.given_up == [(10**9, 10**9 + 3, "")]


def test_a_standby_drops_a_doubted_update_that_the_writer_has_passed() -> None:
    written = Written()
    chain = written.passive()
    chain.committed(10)
    chain.take(update(10**9, 10**9 + 3), 0.0)
    chain.committed(10**9 + 3)
    chain.take(update(10**9 + 4, 10**9 + 5), 0.1)
    assert written.given_up == []
    assert list(chain.waiting) == [10**9 + 4]


def test_ids_below_a_false_position_halt_the_book_after_a_restart_too() -> None:
    written = Written()
    chain = written.chain(2**62)
    for number in (5, 6):
        chain.take(update(number, number), 0.0)
        assert not chain.halted
    chain.take(update(7, 7), 0.1)
    assert chain.halted
    assert written.rows == []


@pytest.mark.parametrize("ids", [WIDEST + 1, 2**62])
def test_an_update_of_too_many_ids_hides_nothing(ids: int) -> None:
    written = Written()
    chain = written.chain(11)
    assert chain.take(update(11, 10 + ids), 0.0, "g0a") == 0
    assert written.given_up == [(11, 10 + ids, "g0a")]
    chain.take(update(16, 16 + LIMIT - 10), 0.1)
    chain.expire(9.0, 0.25)
    assert written.rows == [("break", 11, 15), ("update", 16, 16 + LIMIT - 10)]
