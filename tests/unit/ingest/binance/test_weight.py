from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.binance.endpoints import Endpoints
from ingest.binance.weight import DEAREST_CALL, FINDING_RESERVE, TRADES_RESERVE, Urgency, WeightBudget
from ingest.core.limiter import MOST_ENTRIES, RollingWindow


def test_half_of_the_limit_is_allowed_and_not_more() -> None:
    budget = WeightBudget(0.5, limit=6000)
    assert sum(budget.take(25, 0.0) == 0.0 for _ in range(300)) == 120
    assert budget.wait(25, 0.0) == 60.0
    assert budget.take(25, 60.0) == 0.0


def test_the_exchange_may_lower_the_limit_while_we_run() -> None:
    budget = WeightBudget(0.5, limit=6000)
    for _ in range(20):
        budget.take(25, 0.0)
    budget.set_limit(1200)
    assert budget.allowed() == 600
    assert sum(budget.take(25, 2.0) == 0.0 for _ in range(300)) == 4


def test_what_a_predecessor_used_in_this_minute_counts_as_ours() -> None:
    budget = WeightBudget(0.5, limit=6000)
    budget.take(25, 0.0)
    budget.observed(2525, 0.1, wall_seconds=30.0)
    assert budget.wait(475, 0.1) == 0.0
    assert budget.wait(500, 0.1) > 0.0


def test_others_behind_the_same_address_slow_us_down_before_the_limit() -> None:
    budget = WeightBudget(0.5, limit=6000)
    budget.observed(0, 0.0, wall_seconds=0.0)
    budget.observed(5390, 10.0, wall_seconds=10.0)
    assert budget.wait(10, 10.0) == 0.0
    assert budget.wait(25, 10.0) == 51.0
    assert budget.wait(25, 61.0) == 0.0


def test_a_tiny_share_still_allows_the_dearest_call() -> None:
    assert WeightBudget(0.001).take(DEAREST_CALL, 0.0) == 0.0


def test_a_stated_limit_below_the_dearest_call_still_allows_it() -> None:
    budget = WeightBudget(0.5)
    budget.set_limit(50)
    budget.observed(0, 0.0, wall_seconds=0.0)
    assert budget.wait(DEAREST_CALL, 0.0) == 0.0


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.floats(0, 20), st.sampled_from([2, 20, 25, 80])), max_size=200))
def test_no_minute_however_placed_exceeds_the_share(calls: list[tuple[float, int]]) -> None:
    budget = WeightBudget(0.1, limit=6000)
    now, spent = 0.0, []
    for pause, cost in calls:
        now += pause
        if budget.take(cost, now) == 0.0:
            spent.append((now, cost))
    for start, _ in spent:
        assert sum(cost for at, cost in spent if start <= at < start + 60.0) <= 600


def test_the_favourite_address_is_used_again_once_its_failure_is_old() -> None:
    endpoints = Endpoints(("ws://a/", "ws://b"), penalty=60)
    assert endpoints.best(0.0) == "ws://a"
    endpoints.failed("ws://a", 0.0)
    assert endpoints.best(1.0) == "ws://b"
    assert endpoints.best(60.0) == "ws://a"


def test_with_every_address_failing_the_one_whose_failure_is_oldest_is_tried() -> None:
    endpoints = Endpoints(("a", "b", "c"))
    for at, url in enumerate(("b", "a", "c")):
        endpoints.failed(url, float(at))
    assert not endpoints.another(5.0)
    assert endpoints.best(5.0) == "b"
    endpoints.worked("c")
    assert endpoints.best(5.0) == "c"


def test_a_refused_address_is_not_used_whatever_is_left_and_the_others_are() -> None:
    endpoints = Endpoints(("a", "b"))
    endpoints.refused("a", 0.0, 100.0)
    endpoints.failed("b", 0.0)
    assert endpoints.best(1.0) == "b"
    endpoints.refused("b", 1.0, 10.0, banned=True)
    endpoints.worked("a")
    assert endpoints.best(2.0) is None
    assert endpoints.opens_in(2.0) == (9.0, True)
    assert endpoints.best(11.0) == "b"


def test_the_larger_share_while_catching_up_leaves_a_reserve() -> None:
    budget = WeightBudget(0.5, catch_up_fraction=0.9, limit=6000)
    budget.catching_up = True
    pages = sum(budget.take(25, 0.0, urgency=Urgency.TRADES) == 0.0 for _ in range(400))
    assert pages == (5400 - FINDING_RESERVE) // 25
    assert budget.take(80, 0.0) == 0.0
    assert budget.take(80, 0.0) > 0.0
    budget.catching_up = False
    assert budget.wait(2, 1.0) == 59.0


def test_no_host_can_raise_or_lower_the_limit_of_another() -> None:
    budget = WeightBudget(0.5)
    budget.set_limit(10**9, "liar")
    budget.set_limit(1, "miser")
    assert budget.allowed("honest") == 3000
    assert budget.allowed("liar") <= 30_000
    budget.observed(10**9, 0.0, 0.0, "liar")
    assert budget.wait(25, 0.0, "liar") > 0.0
    assert budget.wait(25, 0.0, "honest") == 0.0


def test_a_stated_limit_below_the_dearest_call_allows_it_once_a_minute() -> None:
    budget = WeightBudget(0.5)
    budget.set_limit(1, "miser")
    assert budget.take(20, 0.0, "miser") == 0.0
    budget.observed(20, 0.0, 0.0, "miser", cost=20)
    assert 0.0 < budget.wait(80, 1.0, "miser") <= 62.0
    assert budget.take(80, 62.0, "miser") == 0.0


def test_a_window_that_is_never_asked_stays_small() -> None:
    window = RollingWindow(limit=5, window=1.0)
    for number in range(100_000):
        window.note(number * 1e-6)
    assert len(window._spent) <= MOST_ENTRIES
    assert window.used(0.1) == 100_000
    for number in range(5000):
        window.note(10.0 + number)
    assert len(window._spent) == 1


def test_other_streams_leave_a_reserve_to_trades_at_any_time() -> None:
    for catching_up, allowed in ((False, 3000), (True, 5400)):
        budget = WeightBudget(0.5, catch_up_fraction=0.9, limit=6000)
        budget.catching_up = catching_up
        spent = sum(50 for tenth in range(600) if budget.take(50, tenth / 10.0, urgency=Urgency.STREAMS) == 0.0)
        assert allowed - 400 <= spent <= allowed - FINDING_RESERVE - TRADES_RESERVE
        pages = sum(budget.take(25, 59.9, urgency=Urgency.TRADES) == 0.0 for _ in range(400))
        assert pages >= TRADES_RESERVE // 25


def test_the_requests_of_other_streams_are_spread_over_the_minute() -> None:
    budget = WeightBudget(0.5, catch_up_fraction=0.9, limit=6000)
    budget.catching_up = True
    assert sum(50 for _ in range(200) if budget.take(50, 0.0, urgency=Urgency.STREAMS) == 0.0) == 850
    assert budget.wait(50, 1.0, urgency=Urgency.STREAMS) == 9.0
    assert budget.wait(25, 1.0, urgency=Urgency.TRADES) == 0.0


def test_weight_that_a_trade_waits_for_is_not_given_to_another_stream() -> None:
    budget = WeightBudget(0.5, limit=6000)
    assert budget.take(500, 0.0) == 0.0
    assert budget.take(2500, 10.0) == 0.0
    assert budget.take(600, 20.0, urgency=Urgency.TRADES) == 50.0
    assert budget.wait(50, 60.0, urgency=Urgency.STREAMS) == 10.0
    assert budget.take(600, 70.0, urgency=Urgency.TRADES) == 0.0
    assert budget.take(50, 70.0, urgency=Urgency.STREAMS) == 0.0


def test_a_tiny_share_still_allows_a_snapshot() -> None:
    assert WeightBudget(0.001).take(50, 0.0, urgency=Urgency.STREAMS) == 0.0
