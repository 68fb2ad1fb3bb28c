"""The guard against guessing, with its clock in hand."""

from hypothesis import given
from hypothesis import strategies as st

from ingest.control.auth import FAILURE_SECONDS, FAILURES, MAX_CLIENTS, Guard, Verdict

TOKEN = "t\u00f6ken-of-the-operator"  # noqa: S105 (opens nothing but these tests)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def wire(token: str) -> str:
    """A header as http.server gives it: the bytes that were sent, read as Latin-1."""
    return f"Bearer {token.encode().decode('latin-1')}"


@given(st.text(max_size=30))
def test_only_the_token_is_granted(header: str) -> None:
    guard = Guard(TOKEN, Clock())
    assert guard.judge("127.0.0.1", header) is not Verdict.GRANTED
    assert guard.judge("127.0.0.1", wire(TOKEN)) is Verdict.GRANTED
    assert guard.judge("127.0.0.1", wire(TOKEN).replace("Bearer", "bearer ")) is Verdict.GRANTED


@given(st.lists(st.tuples(st.floats(0, 20), st.booleans()), max_size=60))
def test_no_window_holds_more_wrong_tokens_than_allowed(steps: list[tuple[float, bool]]) -> None:
    clock = Clock()
    guard = Guard(TOKEN, clock)
    failed: list[float] = []
    for pause, wrong in steps:
        clock.now += pause
        recent = sum(1 for at in failed if clock.now - at < FAILURE_SECONDS)
        assert (guard.wait("::1") > 0) == (recent >= FAILURES)
        if guard.wait("::1") > 0:
            continue
        if wrong:
            assert guard.judge("::1", "Bearer guess") is Verdict.WRONG
            failed.append(clock.now)
        else:
            assert guard.judge("::1", wire(TOKEN)) is Verdict.GRANTED


def test_one_client_does_not_lock_out_another() -> None:
    guard = Guard(TOKEN, Clock())
    for _ in range(FAILURES):
        guard.judge("2001:db8::1", "Bearer guess")
        guard.judge("::ffff:192.0.2.1", "Bearer guess")
    assert guard.wait("2001:db8::ffff:1") > 0, "the same network of 64 bits is one client"
    assert guard.wait("192.0.2.1") > 0, "an IPv4 address is one client also where it is written as IPv6"
    assert guard.wait("2001:db8:0:1::1") == 0.0
    assert guard.wait("192.0.2.2") == 0.0


def test_memory_is_bounded_whoever_guesses() -> None:
    guard = Guard(TOKEN, Clock())
    for number in range(3 * MAX_CLIENTS):
        guard.judge(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "Bearer guess")
    assert len(guard._failures) == MAX_CLIENTS


def test_the_client_that_failed_longest_ago_is_forgotten_first() -> None:
    guard = Guard(TOKEN, Clock())
    for _ in range(FAILURES - 1):
        guard.judge("192.0.2.1", "Bearer guess")
    for number in range(MAX_CLIENTS - 1):
        guard.judge(f"10.0.{number >> 8}.{number & 255}", "Bearer guess")
    guard.judge("192.0.2.1", "Bearer guess")
    guard.judge("198.51.100.1", "Bearer guess")
    assert guard.wait("192.0.2.1") > 0
