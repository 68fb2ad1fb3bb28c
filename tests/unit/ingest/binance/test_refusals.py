"""Requests that an address has refused are remembered within a bound."""

from ingest.binance.refusals import FORBIDDEN_SECONDS, MOST_FORBIDDEN, ForbiddenRequests


def test_one_refusal_holds_a_request_for_seconds_and_each_further_one_for_twice_as_long() -> None:
    known, now, held = ForbiddenRequests(), 1000.0, list[float]()
    for _ in range(8):
        known.add("http://a", "/api/v3/historicalTrades", {"fromId": "7"}, now)
        held.append(known.holds("http://a", "/api/v3/historicalTrades", {"fromId": "7"}, now))
        now += held[-1]
    assert held == [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0]
    known.add("http://a", "/api/v3/historicalTrades", {"fromId": "7"}, now + 2 * FORBIDDEN_SECONDS)
    assert known.holds("http://a", "/api/v3/historicalTrades", {"fromId": "7"}, now + 2 * FORBIDDEN_SECONDS) == 10.0


def test_forbidden_requests_are_bounded_in_number() -> None:
    known = ForbiddenRequests()
    for number in range(3 * MOST_FORBIDDEN):
        known.add("http://a", "/api/v3/trades", {"fromId": str(number)}, now=1000.0)
    assert len(known._until) == MOST_FORBIDDEN
    assert all(len(row) < 3 for row in known._in_a_row.values())
    assert known.holds("http://a", "/api/v3/trades", {"fromId": str(3 * MOST_FORBIDDEN - 1)}, 1000.0) > 0
    assert known.holds("http://a", "/api/v3/trades", {"fromId": "0"}, 1000.0) == 0
    known.add("http://a", "/api/v3/trades", {}, now=1011.0 + FORBIDDEN_SECONDS)
    assert len(known._until) == len(known._seconds) == 1
