"""Virtual time for several processes at once: one heap of events, an event loop for each process, threads as greenlets.

A process can be frozen, thawed and killed at any moment, between any two of its steps; every run of a seed is the same.
"""

import asyncio
import contextlib
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any

import greenlet  # type: ignore[import-untyped]

Call = Callable[..., object]
EPOCH_NS = 1_750_000_000 * 10**9


class VirtualTime:
    """The clock, and what is to happen when. Also stands in for the module ``time``."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Actor | None, Call, tuple[Any, ...]]] = []
        self._number = 0
        self.events = 0

    def monotonic(self) -> float:
        self.now += 1e-7  # looking at the clock takes time: no loop that waits for a moment can miss it for ever
        return self.now

    def time_ns(self) -> int:
        return EPOCH_NS + int(self.now * 1e9)

    def at(self, when: float, actor: "Actor | None", call: Call, *arguments: Any) -> None:
        """Let something happen to a process, or (None) to the world."""
        self._number += 1
        heapq.heappush(self._heap, (when, self._number, actor, call, arguments))

    def after(self, seconds: float, actor: "Actor | None", call: Call, *arguments: Any) -> None:
        self.at(self.now + seconds, actor, call, *arguments)

    def run(self, until: float) -> None:
        """Let everything happen that is due until then."""
        try:
            self._run(until)
        finally:
            enter(None)

    def _run(self, until: float) -> None:
        heap = self._heap
        while heap and heap[0][0] <= until:
            when, _, actor, call, arguments = heapq.heappop(heap)
            if when > self.now:
                self.now = when
            if actor is not None and not actor.runs(call, arguments):
                continue
            self.events += 1
            call(*arguments)
        self.now = max(self.now, until)


_entered: "Loop | None" = None


def enter(loop: "Loop | None") -> None:
    """Make a process's loop the running one, in asyncio's eyes, until another one's turn comes."""
    global _entered  # as asyncio has it: one for the thread
    if loop is not _entered:
        _entered = loop
        asyncio._set_running_loop(loop)


class Actor:
    """One process: everything that happens in it can be held back or called off."""

    def __init__(self, world: VirtualTime) -> None:
        self.world = world
        self.dead = False
        self.frozen = False
        self._backlog: list[tuple[Call, tuple[Any, ...]]] = []
        self.threads: list[Thread] = []

    def runs(self, call: Call, arguments: tuple[Any, ...]) -> bool:
        """Whether something may happen to it now; what happens to a frozen process is kept."""
        if self.frozen and not self.dead:
            self._backlog.append((call, arguments))
            return False
        return not self.dead

    def freeze(self) -> None:
        self.frozen = True

    def thaw(self) -> None:
        self.frozen = False
        backlog, self._backlog = self._backlog, []
        for call, arguments in backlog:
            self.world.at(self.world.now, self, call, *arguments)

    def kill(self) -> None:
        """End it: its threads stop where they are."""
        self.dead = True
        for thread in self.threads:
            thread.stop()


class Thread:
    """A thread of a process: a greenlet that parks where a real one would block."""

    def __init__(self, actor: Actor, target: Callable[[], object]) -> None:
        self._actor = actor
        self._target = target
        self._greenlet = greenlet.greenlet(self._run)
        self._parked = 0
        self._ended: list[Callable[[], None]] = []
        self.result: object = None
        self.error: BaseException | None = None
        self.ended = False
        actor.threads.append(self)
        actor.world.at(actor.world.now, actor, self._greenlet.switch)

    @property
    def actor(self) -> Actor:
        return self._actor

    def _run(self) -> None:
        self._greenlet.thread = self
        try:
            self.result = self._target()
        except greenlet.GreenletExit:
            pass
        except BaseException as error:  # noqa: BLE001  # whatever it is, whoever waits for the thread gets it
            self.error = error
        self.ended = True
        self._actor.threads.remove(self)
        for call in self._ended:
            call()

    def on_end(self, call: Callable[[], None]) -> None:
        self._ended.append(call)

    def park(self, seconds: float | None) -> bool:
        """Block this thread; True where it was woken, False where the time is up."""
        self._parked += 1
        if self._actor.dead:
            return False
        if seconds is not None:
            self._actor.world.after(max(0.0, seconds), self._actor, self._resume, self._parked, False)
        return bool(self._greenlet.parent.switch())

    def _resume(self, number: int, woken: bool) -> None:
        if number == self._parked and not self.ended:
            self._parked += 1
            self._greenlet.switch(woken)

    def wake(self) -> None:
        """From anywhere: end its present parking."""
        self._actor.world.at(self._actor.world.now, self._actor, self._resume, self._parked, True)

    def stop(self) -> None:
        """Unwind it at once."""
        if not self.ended:
            self._greenlet.throw(greenlet.GreenletExit)

    @staticmethod
    def current() -> "Thread":
        """The one that runs now."""
        return greenlet.getcurrent().thread  # type: ignore[no-any-return]


class Event:
    """``threading.Event``."""

    def __init__(self) -> None:
        self._set = False
        self._waiting: list[Thread] = []

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        for thread in self._waiting:
            thread.wake()
        self._waiting.clear()

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        if not self._set:
            thread = Thread.current()
            self._waiting.append(thread)
            thread.park(timeout)
            if thread in self._waiting:
                self._waiting.remove(thread)
        return self._set


class Queue:
    """``queue.SimpleQueue`` with one reader."""

    def __init__(self, empty: type[Exception]) -> None:
        self._items: deque[Any] = deque()
        self._reader: Thread | None = None
        self._empty = empty

    def put(self, item: Any) -> None:
        self._items.append(item)
        if self._reader is not None:
            self._reader.wake()

    def get(self, timeout: float) -> Any:
        if not self._items:
            self._reader = Thread.current()
            self._reader.park(timeout)
            self._reader = None
        if not self._items:
            raise self._empty
        return self._items.popleft()


class Handle:
    """``asyncio.Handle``, as far as tasks, futures and time-outs use it; made too often to be any heavier."""

    __slots__ = ("_args", "_callback", "_context", "dead")

    def __init__(self, callback: Call, args: tuple[Any, ...], context: Context | None) -> None:
        self._callback = callback
        self._args = args
        self._context = context if context is not None else copy_context()
        self.dead = False

    def cancel(self) -> None:
        self.dead = True

    def cancelled(self) -> bool:
        return self.dead

    def run(self, loop: "Loop") -> None:
        try:
            self._context.run(self._callback, *self._args)
        except (SystemExit, KeyboardInterrupt, greenlet.GreenletExit):
            raise
        except BaseException as error:  # noqa: BLE001  # as asyncio does: it is the loop's to tell
            loop.call_exception_handler({"message": f"Exception in callback {self._callback}", "exception": error})


class Loop(asyncio.AbstractEventLoop):
    """The event loop of one process, driven by the world."""

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._world = actor.world
        self._ready: deque[Handle] = deque()
        self._scheduled = False
        self.crashes: list[str] = []
        self.tasks: set[asyncio.Task[Any]] = set()

    def time(self) -> float:
        return self._world.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:  # type: ignore[override]
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, **options)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def call_soon(  # type: ignore[override]
        self, callback: Call, *args: Any, context: Context | None = None
    ) -> Handle:
        handle = Handle(callback, args, context)
        self._ready.append(handle)
        if not self._scheduled:
            self._scheduled = True
            world = self._world
            world.at(world.now, self._actor, self._turn)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self, when: float, callback: Call, *args: Any, context: Context | None = None
    ) -> Handle:
        world = self._world
        soonest = world.now + 1e-6  # time goes on, however finely it is cut
        handle = Handle(callback, args, context)
        world.at(when if when > soonest else soonest, self._actor, self._fire, handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Call, *args: Any, context: Context | None = None
    ) -> Handle:
        return self.call_at(self._world.now + delay, callback, *args, context=context)

    def _fire(self, handle: Handle) -> None:
        if not handle.dead:
            self._ready.append(handle)
            if not self._scheduled:
                self._turn()

    def _turn(self) -> None:
        self._scheduled = False
        ready = self._ready
        enter(self)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.dead:
                handle.run(self)
        if ready and not self._scheduled:
            self._scheduled = True
            self._world.at(self._world.now, self._actor, self._turn)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        del executor
        future = self.create_future()
        context = copy_context()
        thread = Thread(self._actor, lambda: context.run(func, *args))

        def ended() -> None:
            if not future.done():
                self.call_soon(_settle, future, thread)

        thread.on_end(ended)
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.crashes.append(f"{context.get('message')}: {error!r}")

    def unwind(self) -> None:
        """After a kill: let every task see its cancellation, so that nothing is left behind; time stands still.

        What was about to run still does: a task whose wake-up were dropped could never be cancelled (seed 15108).
        """
        try:
            self._cancel_all()
        finally:
            enter(None)

    def _cancel_all(self) -> None:
        for _ in range(50):
            for task in list(self.tasks):
                task.cancel()
            if not self.tasks:
                return
            for _ in range(10):
                if self._ready:
                    self._turn()
        raise RuntimeError(f"tasks that cannot be cancelled: {self.tasks}")


def _settle(future: asyncio.Future[Any], thread: Thread) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):
        if thread.error is not None:
            future.set_exception(thread.error)
        else:
            future.set_result(thread.result)
