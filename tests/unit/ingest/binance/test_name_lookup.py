"""A resolver that hangs costs one thread for each name, and nothing waits for it but who asked."""

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from ingest.binance.name_lookup import NameLookup


class Hanging:
    """A resolver that answers when it is released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.calls: list[str] = []

    def __call__(self, host: str, port: int, **_: object) -> list[object]:
        self.calls.append(host)
        self.released.wait(30)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", port))]


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    one = Hanging()
    monkeypatch.setattr(socket, "getaddrinfo", one)
    yield one
    one.released.set()


async def test_a_resolver_that_hangs_takes_no_thread_of_the_loop_and_one_for_each_name(hanging: Hanging) -> None:
    names = NameLookup()
    for number in range(24):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(names.find(f"host-{number % 3}.example", 1), 0.001)
    assert sorted(hanging.calls) == [f"host-{number}.example" for number in range(3)]
    assert await asyncio.wait_for(asyncio.to_thread(lambda: 1), 10) == 1
    hanging.released.set()
    assert (await asyncio.wait_for(names.find("host-0.example", 1), 10))[0][4] == ("192.0.2.1", 1)


async def test_a_name_is_looked_up_once_more_after_its_answer() -> None:
    names = NameLookup()
    for _ in range(2):
        assert (await names.find("127.0.0.1", 5))[0][4] == ("127.0.0.1", 5)
    assert not names._running


@pytest.mark.parametrize(("host", "error"), [("no-such-name.invalid", OSError), ("x" * 70 + ".example", UnicodeError)])
async def test_a_name_without_an_address_is_an_error_of_who_asked(host: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await NameLookup().find(host, 1)


async def test_where_no_thread_can_begin_the_name_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What asks waits and asks again, as with every error of a look-up."""

    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    names = NameLookup()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refused)
        with pytest.raises(OSError, match="localhost cannot be looked up: can't start new thread"):
            await names.find("localhost", 1)
    assert await names.find("127.0.0.1", 5)
    assert not names._running
