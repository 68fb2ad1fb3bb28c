"""The rule for a gap, reply by reply: no clock, no exchange."""

import itertools

from ingest.core.void_evidence import LAG_SECONDS, Declare, Finding, GapEvidence, Refuse, VoidLimit, Wait


def evidence(seconds: float = 600.0, replies: int = 5) -> GapEvidence:
    return GapEvidence(confirm_seconds=seconds, confirm_replies=replies)


def lacking(next_id: int = 10, beyond: int | None = 20) -> Finding:
    return Finding(next_id, unusable=False, first_beyond=beyond, full=False)


def settle(one: GapEvidence, finding: Finding, received: int | None) -> tuple[Declare | Refuse, float]:
    """Ask again and again as told; returns the end and when it came."""
    now = 0.0
    for _ in itertools.count():
        decision = one.judge(finding, received, now)
        if not isinstance(decision, Wait):
            return decision, now
        assert decision.seconds > 0.0
        now += decision.seconds
    raise AssertionError


def test_a_void_needs_replies_and_time_and_ends_before_what_any_reply_had() -> None:
    one = evidence()
    assert one.judge(lacking(beyond=15), None, 0.0) == Wait(30.0, first_evidence=True)
    declared, now = settle(one, lacking(beyond=20), None)
    assert isinstance(declared, Declare)
    assert (declared.first_id, declared.last_id) == (10, 14)
    assert now >= 600.0
    assert int(declared.evidence["replies"]) >= 5


def test_a_void_ends_before_the_first_received_trade() -> None:
    declared, _ = settle(evidence(), lacking(), 12)
    assert isinstance(declared, Declare)
    assert (declared.first_id, declared.last_id, declared.evidence["next_id_received"]) == (10, 11, 12)


def test_a_received_id_is_never_void() -> None:
    refused, now = settle(evidence(), lacking(), 10)
    assert isinstance(refused, Refuse)
    assert 3600.0 <= now < 3700.0


def test_an_id_that_history_states_unusably_is_settled_soon() -> None:
    declared, now = settle(evidence(), Finding(10, unusable=True, first_beyond=11, full=True), 10)
    assert isinstance(declared, Declare)
    assert (declared.first_id, declared.last_id, declared.reason) == (10, 10, "unrepresentable")
    assert now <= 200.0


def test_an_id_that_history_states_damaged_is_absent_like_any_other_and_asked_for_again_soon() -> None:
    one, damaged = evidence(), Finding(10, unusable=True, first_beyond=11, full=True, damaged=True)
    first = one.judge(damaged, 10, 0.0)
    assert isinstance(first, Wait)
    assert (first.seconds, first.first_evidence) == (0.25, True)
    declared, now = settle(evidence(), damaged, 10)
    assert isinstance(declared, Declare)
    assert (declared.first_id, declared.last_id, declared.reason) == (10, 10, "unrepresentable")
    assert 600.0 <= now <= 640.0


def test_history_that_ends_too_early_is_asked_less_and_less() -> None:
    one, now, waits = evidence(), 0.0, []
    while now < 1200.0:
        decision = one.judge(lacking(beyond=None), 15, now)
        assert isinstance(decision, Wait)
        assert decision.unproven is (now >= 600.0)
        waits.append(decision.seconds)
        now += decision.seconds
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == LAG_SECONDS
    assert len(waits) < 60


def test_a_full_page_is_followed_by_the_next_at_once() -> None:
    one = evidence()
    for _ in range(5):
        assert one.judge(lacking(beyond=None), None, 0.0).__class__ is Wait
    assert one.judge(Finding(10, unusable=False, first_beyond=None, full=True), None, 9.0) == Wait(0.0)
    assert one.judge(lacking(beyond=None), None, 9.0) == Wait(LAG_SECONDS[0]), "and the waits begin anew"


def test_voids_are_limited_by_symbol_and_those_without_a_record_by_shard() -> None:
    limit = VoidLimit(per_symbol=2, unrepresentable_per_shard=3)
    assert [limit.allows("A", "exchange_hole", 0.0) for _ in range(3)] == [True, True, False]
    assert [limit.allows(symbol, "unrepresentable", 1.0) for symbol in "BBCCD"] == [True, True, True, False, False]
    assert limit.allows("D", "exchange_hole", 1.0)
    assert limit.allows("A", "exchange_hole", 600.0)
    assert limit.allows("D", "unrepresentable", 601.0)
    assert not [limit.allows("B", "exchange_hole", 700.0) for _ in range(3)][-1]
    limit.reset("B")
    assert limit.allows("B", "exchange_hole", 700.0)
