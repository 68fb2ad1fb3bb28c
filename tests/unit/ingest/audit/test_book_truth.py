"""The rows of a ledger in step with the topic: complete, without what lies behind, None where they are forgotten."""

import random
from typing import Any

from ingest.audit.book_truth import Rows
from ingest.audit.stream_ledger import Page

LIMIT = 50


class Ledger:
    """Rows with the ids from 11 on, those up to 20 forgotten."""

    def __init__(self, last_id: int = 2000) -> None:
        self.last_id = last_id
        self.calls = 0

    def page(self, from_id: int) -> Page:
        self.calls += 1
        first = max(21, from_id)
        ids = range(first, min(first + LIMIT, self.last_id + 1))
        rows: list[list[Any]] = [[number, "b", "1", "2"] for number in ids]
        return Page(rows, ids[-1] + 1 if len(ids) == LIMIT else None, 20, self.last_id)


def test_rows_are_complete_in_any_order_of_requests() -> None:
    ledger, draw = Ledger(), random.Random(1)
    rows = Rows(ledger.page)
    for _ in range(200):
        first = draw.randrange(21, 1990)
        last = min(2000, first + draw.randrange(0, 120))
        found = rows.between(first, last)
        assert found is not None
        assert [row[0] for row in found] == list(range(first, last + 1))


def test_rows_behind_the_topic_are_dropped() -> None:
    ledger = Ledger()
    rows = Rows(ledger.page)
    for first in range(21, 1990, 7):
        rows.between(first, first + 6)
        assert len(rows._rows) <= LIMIT + 7
    assert ledger.calls < 50


def test_what_the_ledger_forgot_is_not_known_and_what_it_has_not_yet_is_absent() -> None:
    ledger = Ledger(last_id=100)
    rows = Rows(ledger.page)
    assert rows.between(15, 30) is None
    assert rows.between(20, 30) is None
    found = rows.between(99, 105)
    assert [row[0] for row in found or []] == [99, 100]
    ledger.last_id = 110
    found = rows.between(99, 105)
    assert [row[0] for row in found or []] == list(range(99, 106))
