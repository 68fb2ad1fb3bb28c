"""Requests that an address has refused are remembered within a bound."""

from ingest.binance.refusals import FORBIDDEN_SECONDS, MOST_FORBIDDEN, ForbiddenRequests


def test_forbidden_requests_are_bounded_in_number() -> None:
    known = ForbiddenRequests()
    for number in range(3 * MOST_FORBIDDEN):
        known.add("http://a", "/api/v3/trades", {"fromId": str(number)}, now=1000.0)
    assert len(known._until) == MOST_FORBIDDEN
    assert all(len(row) < 3 for row in known._in_a_row.values())
    assert known.holds("http://a", "/api/v3/trades", {"fromId": str(3 * MOST_FORBIDDEN - 1)}, 1000.0) > 0
    assert known.holds("http://a", "/api/v3/trades", {"fromId": "0"}, 1000.0) == 0
    known.add("http://a", "/api/v3/trades", {}, now=1001.0 + FORBIDDEN_SECONDS)
    assert len(known._until) == 1
