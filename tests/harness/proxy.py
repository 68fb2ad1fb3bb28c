"""A TCP proxy between service and broker that understands Kafka's frames: it delays, holds, cuts and drops by request.

It changes no byte. That clients come through it is the broker's doing: ``KafkaBroker(proxied=port)`` has a second
listener that advertises the proxy's port.
"""

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

PRODUCE, FETCH, INIT_PRODUCER_ID, ADD_PARTITIONS_TO_TXN, END_TXN = 0, 1, 22, 24, 26
FRAME_LIMIT = 100 * 2**20
ARRIVES = 0.15
"""Seconds after which the broker has taken a request."""


@dataclass(eq=False)
class _Pair:
    """One client's connection and the one to the broker that belongs to it."""

    client: asyncio.StreamWriter
    broker: asyncio.StreamWriter

    def cut(self) -> None:
        for writer in (self.client, self.broker):
            transport = writer.transport
            transport.abort()


class KafkaProxy:
    """Listens on a port of its own; its methods are safe from any thread."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.target = 0
        """The broker's second listener; set before the first client comes."""
        self.requests: Counter[int] = Counter()
        """Requests seen, by api key."""
        self._delay = 0.0
        self._open = asyncio.Event()
        self._open.set()
        self._refuse = False
        self._hold_left: dict[int, int] = {}
        self._hold_skip = 0
        self._kept: list[tuple[_Pair, bytes, asyncio.StreamWriter]] = []
        self._release_behind: int | None = None
        self._unanswered: int | None = None
        self._spent: list[asyncio.StreamWriter] = []
        """Connections to the broker whose client has gone: open until the end, or their last request might be lost."""
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="kafka-proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._stop = asyncio.Event()
        self._listening = threading.Event()
        self.holding = threading.Event()
        """Set once a request is being held."""

    # --- faults ---

    def delay(self, seconds: float) -> None:
        """Every request waits this long."""
        self._do(self._set("_delay", seconds))

    def black_hole(self, on: bool) -> None:
        """Let nothing through in either direction, and close nothing."""

        async def hole() -> None:
            (self._open.clear if on else self._open.set)()

        self._do(hole())

    def refuse(self, on: bool) -> None:
        """Close new connections at once."""
        self._do(self._set("_refuse", on))

    def cut(self) -> None:
        """Reset every connection."""

        async def cut() -> None:
            for pair in list(self._pairs):
                pair.cut()

        self._do(cut())

    def hold(self, key: int, count: int = 1, *, skip: int = 0) -> None:
        """Keep the next requests of a kind but ``skip``; the client's connection is cut, so that it sends them again.

        The broker's side of that connection stays open: the kept request arrives when it is released, long after the
        client has given it up. This is how a commit comes late (KAFKA-17754).
        """

        async def hold() -> None:
            self._hold_left[key], self._hold_skip = count, skip

        self.holding.clear()
        self._do(hold())

    def release(self) -> int:
        """Deliver what is kept; returns how many requests that were."""

        return int(self._do(self._deliver()))

    async def _deliver(self) -> int:
        kept, self._kept = self._kept, []
        self._hold_left.clear()
        self._release_behind = None
        self._spent += [broker for _, _, broker in kept]
        for _, data, broker in kept:
            with contextlib.suppress(ConnectionError, RuntimeError):
                broker.write(data)
                await broker.drain()
        return len(kept)

    def release_behind(self, key: int) -> None:
        """Deliver what is kept right behind the next request of a kind, and before the one that follows it there."""
        self._do(self._set("_release_behind", key))

    def unanswered(self, key: int | None) -> None:
        """Let the next request of a kind arrive, but not its answer, nor anything else until ``black_hole(False)``.

        Its sender cannot know whether it was heeded. None calls it off.
        """
        self.holding.clear()
        self._do(self._set("_unanswered", key))

    def heal(self) -> None:
        """Be a wire again."""

        async def heal() -> None:
            self._delay, self._refuse = 0.0, False
            self._release_behind = self._unanswered = None
            self._open.set()

        self._do(heal())
        self.release()

    async def _set(self, name: str, value: object) -> None:
        setattr(self, name, value)

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    # --- the wire ---

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=2**20)
        self._listening.set()
        await self._stop.wait()
        self._server.close()
        self._open.set()
        for broker in [*self._spent, *(kept[2] for kept in self._kept)]:
            broker.transport.abort()
        while self._tasks:
            # Not cancelled: asyncio reports a cancelled connection's task as an error.
            for pair in list(self._pairs):
                pair.cut()
            await asyncio.wait(self._tasks, timeout=0.1)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._refuse:
            writer.transport.abort()
            return
        try:
            from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        pair = _Pair(writer, to_broker)
        self._pairs.add(pair)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._requests(pair, reader))
                group.create_task(self._answers(pair, from_broker))
        except* (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._pairs.discard(pair)
            writer.transport.abort()
            if not any(kept[2] is to_broker for kept in self._kept):
                to_broker.transport.abort()

    async def _requests(self, pair: _Pair, reader: asyncio.StreamReader) -> None:
        while True:
            head = await reader.readexactly(4)
            size = int.from_bytes(head, "big")
            if size > FRAME_LIMIT:
                raise ConnectionError("not a Kafka frame")
            data = head + await reader.readexactly(size)
            key = int.from_bytes(data[4:6], "big")
            self.requests[key] += 1
            if self._hold_left.get(key, 0) > 0 and self._hold_skip:
                self._hold_skip -= 1
            elif self._hold_left.get(key, 0) > 0:
                self._hold_left[key] -= 1
                self._kept.append((pair, data, pair.broker))
                self.holding.set()
                raise ConnectionError("held")
            await self._passage()
            if key == self._unanswered:
                self._unanswered = None
                self._open.clear()
                self.holding.set()
            pair.broker.write(data)
            await pair.broker.drain()
            if key == self._release_behind and self._kept:
                await asyncio.sleep(ARRIVES)
                await self._deliver()
                await asyncio.sleep(ARRIVES)

    async def _passage(self) -> None:
        if self._delay:
            await asyncio.sleep(self._delay)
        await self._open.wait()

    async def _answers(self, pair: _Pair, reader: asyncio.StreamReader) -> None:
        while True:
            data = await reader.read(65_536)
            if not data:
                raise ConnectionError("closed by the broker")
            await self._open.wait()
            pair.client.write(data)
            await pair.client.drain()

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._listening.wait(60):
            raise RuntimeError("the proxy does not listen")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
