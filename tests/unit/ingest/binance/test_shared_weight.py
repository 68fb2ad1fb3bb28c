"""A model of processes behind one address: the exchange never counts more than its limit in a minute."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.binance.shared_weight import ASK_AGAIN_SECONDS, BURST, FOR_FINDING, LOST_SECONDS, SharedWeight
from ingest.binance.weight import Urgency, WeightBudget

LIMIT, HOST = 6000, "h"


def test_what_is_unanswered_is_bounded() -> None:
    shared = SharedWeight(4)
    for _ in range(3):
        assert shared.wait(25, 0.0, HOST, limit=LIMIT, finding=False) == 0.0
        shared.sent(25, HOST)
    assert shared.wait(25, 0.0, HOST, limit=LIMIT, finding=False) == ASK_AGAIN_SECONDS
    shared.answered(25, 0.0, HOST, used=25, until=60.0)
    assert shared.wait(25, 0.0, HOST, limit=LIMIT, finding=False) == 0.0


def test_the_ceiling_counts_what_the_whole_address_has_used_until_the_minute_is_over() -> None:
    shared = SharedWeight(4)
    shared.sent(25, HOST)
    shared.answered(25, 5.0, HOST, used=LIMIT - 4 * BURST - 24, until=60.0)
    assert shared.wait(25, 5.0, HOST, limit=LIMIT, finding=True) == 55.0
    assert shared.wait(25, 60.0, HOST, limit=LIMIT, finding=True) == 0.0


def test_requests_that_find_out_what_is_missing_have_a_part_for_themselves() -> None:
    shared = SharedWeight(1)
    shared.sent(25, HOST)
    shared.answered(25, 0.0, HOST, used=int((LIMIT - BURST) * (1 - FOR_FINDING)), until=60.0)
    assert shared.wait(25, 0.0, HOST, limit=LIMIT, finding=False) == 60.0
    assert shared.wait(25, 0.0, HOST, limit=LIMIT, finding=True) == 0.0


def test_requests_without_an_answer_hold_up_later_ones_for_a_while_only() -> None:
    shared = SharedWeight(1)
    for _ in range(3):
        shared.sent(25, HOST)
        shared.lost(25, 0.0, HOST)
    assert shared.wait(25, 1.0, HOST, limit=LIMIT, finding=False) == ASK_AGAIN_SECONDS
    assert shared.wait(25, LOST_SECONDS, HOST, limit=LIMIT, finding=False) == 0.0


def test_what_processes_beside_have_used_before_the_first_answer_is_not_ours() -> None:
    budget = WeightBudget(0.5)
    budget.shared = SharedWeight(4)
    assert budget.take(25, 0.0, HOST) == 0.0
    budget.observed(2900, 0.1, wall_seconds=0.1, host=HOST, cost=25)
    assert budget.take(25, 0.2, HOST, urgency=Urgency.TRADES) == 0.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 20))
def test_a_minute_never_counts_more_than_the_limit(seed: int, number: int) -> None:
    """Every process wants all that it can get; answers take up to two seconds; processes are restarted at any time."""
    random = Random(seed)
    budgets = [WeightBudget(0.9) for _ in range(number)]
    for one in budgets:
        one.shared = SharedWeight(number)
    on_the_way: list[tuple[float, int, int]] = []
    used = minute = 0
    restarts = 0
    for step in range(1500):
        now = step * 0.1
        if int(now // 60) != minute:
            minute, used, restarts = int(now // 60), 0, 0
        for answer in [one for one in on_the_way if one[0] <= now]:
            on_the_way.remove(answer)
            budgets[answer[1]].observed(used, now, now, HOST, cost=answer[2])
        if random.random() < 0.01 and restarts == 0:
            restarts, which = 1, random.randrange(number)
            on_the_way = [one for one in on_the_way if one[1] != which]
            budgets[which] = WeightBudget(0.9)
            budgets[which].shared = SharedWeight(number)
        for which in random.sample(range(number), number):
            cost = random.choice((2, 20, 25, 25, 25, 50))
            for _ in range(5):
                if budgets[which].take(cost, now, HOST, urgency=random.choice(list(Urgency))) > 0.0:
                    break
                used += cost
                on_the_way.append((now + random.uniform(0.01, 2.0), which, cost))
        assert used <= LIMIT
