"""Which connection gives way when there are too many."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from ingest.http.clients import BUFFER_SECONDS, Client, Clients
from ingest.http.limits import Limits

LIMITS = Limits(connections=8, per_client=4, answers=3, protected=1, stall_seconds=1.0, unsent_bytes=1000, waiting=4)


class Table:
    """Clients, and sockets for them."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.clients = Clients(LIMITS)

    def open(self, address: str = "192.0.2.1", phase: str = "silent", *, trusted: bool = False) -> Client:
        """A client in a phase; one beyond the bounds closes another, as in the server."""
        victim = self.clients.before_accept(address)
        if victim is not None:
            self.clients.remove(victim)
        client = Client(self._stack.enter_context(socket.socket()), address, 0.0)
        self.clients.add(client)
        client.phase, client.trusted = phase, trusted
        if phase not in ("silent", "head"):
            self.clients.head_complete(client)
        return client

    def sending(self, size: int, progress: float, *, reads: bool = False, trusted: bool = False) -> Client:
        """A client whose response waits."""
        client = self.open(phase="send", trusted=trusted)
        client.output, client.progress, client.reads = memoryview(bytes(size)), progress, reads
        return client


@pytest.fixture
def table() -> Iterator[Table]:
    with ExitStack() as stack:
        yield Table(stack)


def test_a_flood_of_connections_displaces_those_that_are_silent_before_one_that_sends(table: Table) -> None:
    slow = table.open(phase="head")
    for _ in range(100):
        table.open()
    assert slow in list(table.clients)
    assert len(table.clients) == LIMITS.per_client


def test_among_equals_the_oldest_gives_way(table: Table) -> None:
    first, second = table.open(phase="head"), table.open(phase="head")
    for _ in range(LIMITS.per_client - 1):
        table.open(phase="head")
    assert first not in list(table.clients)
    assert second in list(table.clients)


@pytest.mark.parametrize("phase", ["body", "wait", "run", "send"])
def test_a_flood_of_connections_displaces_no_request(table: Table, phase: str) -> None:
    asked = [table.open(phase=phase) for _ in range(LIMITS.answers)]
    for number in range(100):
        table.open(address=f"192.0.2.{number}")
        table.open(address=f"2001:db8:0:{number}::1", phase="head")
    assert set(asked) <= set(table.clients)
    assert len(table.clients) == LIMITS.connections


def test_one_network_of_64_bits_is_one_client(table: Table) -> None:
    for number in range(100):
        table.open(address=f"2001:db8::{number:x}")
    assert len(table.clients) == LIMITS.per_client


def test_the_address_with_most_gives_way_first(table: Table) -> None:
    alone = table.open(address="198.51.100.1")
    for number in range(20):
        table.open(address=f"192.0.2.{number % 3}")
    assert alone in list(table.clients)


def test_a_client_that_does_not_take_its_response_makes_place_for_a_request(table: Table) -> None:
    moving, stalled, _ = table.sending(9, 9.5), table.sending(9, 8.0), table.sending(9, 8.5)
    newcomer = table.open(phase="wait")
    assert table.clients.over_answers(newcomer, 10.0) is stalled
    for one in list(table.clients):
        one.progress = 9.9
    assert table.clients.over_answers(newcomer, 10.0) is newcomer, "those that read are answered first"
    assert moving in list(table.clients)


def test_a_body_that_is_awaited_makes_place_for_a_request(table: Table) -> None:
    table.sending(9, 0.0)
    awaited = table.open(phase="body")
    table.open(phase="run")
    assert table.clients.over_answers(table.open(phase="wait"), 10.0) is awaited


def test_the_holder_of_the_token_has_a_place_and_displaces_nobody(table: Table) -> None:
    for _ in range(LIMITS.answers):
        table.open(phase="run")
    holder = table.open(phase="body", trusted=True)
    assert table.clients.over_answers(holder, 10.0) is None
    assert table.clients.protected() == 1
    assert table.clients.over_answers(table.open(phase="wait"), 10.0) is not holder
    for _ in range(100):
        table.open()
    assert holder in list(table.clients)


def test_responses_that_wait_are_bounded_in_bytes_and_one_that_is_read_stays_longest(table: Table) -> None:
    reads = table.sending(400, 9.5, reads=True)
    unread = table.sending(400, 9.9)
    newest = table.sending(900, 10.0)
    assert table.clients.over_unsent(newest, 10.0) is unread
    table.clients.remove(unread)
    assert table.clients.over_unsent(newest, 10.0) is reads
    table.clients.remove(reads)
    assert table.clients.over_unsent(newest, 10.0) is None
    holder = table.sending(900, 0.0, trusted=True)
    assert table.clients.over_unsent(holder, 10.0) is newest
    assert table.clients.over_unsent(newest, 10.0) is holder, "the bound holds for everyone"


def test_what_buffers_hold_was_not_read(table: Table) -> None:
    client = table.sending(400, 9.0)
    client.took(100, 9.0 + BUFFER_SECONDS / 2)
    assert not client.reads
    client.took(100, 9.0 + 2 * BUFFER_SECONDS)
    assert client.reads
    assert len(client.output) == 200


def test_nobody_gives_way_where_all_are_the_holders(table: Table) -> None:
    for _ in range(LIMITS.connections):
        table.open(phase="wait", trusted=True)
    assert table.clients.gives_way() is None


def test_a_refused_client_gives_way_before_others(table: Table) -> None:
    table.open()
    refused = table.open(phase="linger")
    assert table.clients.gives_way() is refused


def test_the_default_leaves_room_for_heads_beside_all_answers() -> None:
    limits = Limits()
    assert limits.answers + limits.protected + limits.per_client <= limits.connections


def test_among_requests_that_wait_one_of_the_network_with_most_of_them_is_refused(table: Table) -> None:
    waiting = [table.open("192.0.2.1", "wait"), table.open("192.0.2.1", "wait")]
    assert table.clients.over_waiting(waiting) is None
    # One host has as many addresses of its network as it likes.
    waiting += [table.open(f"2001:db8::{number:x}", "wait") for number in range(1, 4)]
    assert table.clients.over_waiting(waiting) is waiting[-1]
    waiting.append(table.open("2001:db8:1::1", "wait"))
    assert table.clients.over_waiting(waiting) is waiting[-2], "the latest of those of one network"
    waiting += [table.open("192.0.2.1", "wait"), table.open("192.0.2.1", "wait")]
    assert table.clients.over_waiting(waiting) is waiting[-1]


def test_a_request_with_a_right_token_is_not_refused_for_those_that_wait(table: Table) -> None:
    waiting = [table.open(phase="wait", trusted=True) for _ in range(LIMITS.waiting + 1)]
    assert table.clients.over_waiting(waiting) is None


def test_a_network_with_many_held_connections_displaces_its_own(table: Table) -> None:
    standby = table.open("192.0.2.9", "hold")
    others = [table.open(f"2001:db8::{number}", "hold") for number in range(1, LIMITS.held + 1)]
    assert table.clients.over_held() is others[0]
    table.clients.remove(others[0])
    assert table.clients.over_held() is None
    assert standby in list(table.clients)
