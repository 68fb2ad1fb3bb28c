"""Tokens, roles, and the limit on guessing, on a clock that the test sets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.http.auth import FAILURE_SECONDS, FAILURES, MAX_CLIENTS, Guard, Role, Verdict

TOKEN = "t\u00f6ken-of-the-operator"  # noqa: S105 (opens nothing but these tests)
OTHERS = {Role.READ: "token-that-only-reads", Role.OPERATE: "token-of-an-operator"}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def wire(token: str) -> str:
    """A header as it is received: the bytes that were sent, read as Latin-1."""
    return f"Bearer {token.encode().decode('latin-1')}"


def guard_of(clock: Clock | None = None) -> Guard:
    return Guard({**OTHERS, Role.DEPLOY: TOKEN}, clock or Clock())


@given(st.text(max_size=30))
def test_only_the_token_is_granted(header: str) -> None:
    guard = guard_of()
    assert guard.judge("127.0.0.1", header).verdict is not Verdict.GRANTED
    assert guard.judge("127.0.0.1", wire(TOKEN)).role is Role.DEPLOY
    assert guard.judge("127.0.0.1", wire(TOKEN).replace("Bearer", "bearer ")).role is Role.DEPLOY


@pytest.mark.parametrize("role", OTHERS)
def test_each_token_has_its_role(role: Role) -> None:
    assert guard_of().judge("127.0.0.1", wire(OTHERS[role])).role is role


def test_a_token_that_is_not_set_is_not_granted() -> None:
    guard = Guard({Role.READ: "", Role.DEPLOY: TOKEN}, Clock())
    assert guard.judge("127.0.0.1", "Bearer ").verdict is Verdict.MISSING
    assert guard.role("Bearer  ") is None


@given(st.lists(st.tuples(st.floats(0, 20), st.booleans()), max_size=60))
def test_no_window_holds_more_guesses_than_allowed_and_the_right_token_is_always_granted(
    steps: list[tuple[float, bool]],
) -> None:
    clock = Clock()
    guard = guard_of(clock)
    failed: list[float] = []
    for pause, wrong in steps:
        clock.now += pause
        if not wrong:
            assert guard.judge("::1", wire(TOKEN)).role is Role.DEPLOY
            continue
        recent = sum(1 for at in failed if clock.now - at < FAILURE_SECONDS)
        judgement = guard.judge("::1", "Bearer guess")
        assert judgement.verdict is (Verdict.WAIT if recent >= FAILURES else Verdict.WRONG)
        assert (judgement.seconds > 0) == (judgement.verdict is Verdict.WAIT)
        if judgement.verdict is Verdict.WRONG:
            failed.append(clock.now)


def test_one_client_does_not_lock_out_another() -> None:
    guard = guard_of()
    for _ in range(FAILURES):
        guard.judge("2001:db8::1", "Bearer guess")
        guard.judge("::ffff:192.0.2.1", "Bearer guess")

    def verdict(client: str) -> Verdict:
        return guard.judge(client, "Bearer guess").verdict

    assert verdict("2001:db8::ffff:1") is Verdict.WAIT, "the same network of 64 bits is one client"
    assert verdict("192.0.2.1") is Verdict.WAIT, "an IPv4 address is one client also where it is written as IPv6"
    assert verdict("2001:db8:0:1::1") is Verdict.WRONG
    assert verdict("192.0.2.2") is Verdict.WRONG


def test_memory_is_bounded_whoever_guesses() -> None:
    guard = guard_of()
    for number in range(3 * MAX_CLIENTS):
        guard.judge(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "Bearer guess")
    assert len(guard._failures) == MAX_CLIENTS


def test_the_client_that_failed_longest_ago_is_forgotten_first() -> None:
    guard = guard_of()
    for _ in range(FAILURES - 1):
        guard.judge("192.0.2.1", "Bearer guess")
    for number in range(MAX_CLIENTS - 1):
        guard.judge(f"10.0.{number >> 8}.{number & 255}", "Bearer guess")
    guard.judge("192.0.2.1", "Bearer guess")
    guard.judge("198.51.100.1", "Bearer guess")
    assert guard.judge("192.0.2.1", "Bearer guess").verdict is Verdict.WAIT
