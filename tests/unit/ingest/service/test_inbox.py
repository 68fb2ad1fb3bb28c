import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ingest.core.batch import SymbolChanges
from ingest.core.errors import IngestError, Stop
from ingest.kafka.events import Released
from ingest.service.inbox import Inbox


async def handled(inbox: Inbox, handlers: dict[type, Callable[[Any], None]], *, until: asyncio.Event) -> None:
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        task = group.create_task(inbox.run(handlers))
        await until.wait()
        task.cancel()


async def test_reports_of_a_thread_are_handled_in_order_by_their_type() -> None:
    inbox, seen, done = Inbox(), [], asyncio.Event()

    def fail(error: IngestError) -> None:
        seen.append(str(error))
        done.set()

    def report() -> None:
        for each in (Released(), SymbolChanges(("A",)), Stop("over")):
            inbox.post(each)

    thread = threading.Thread(target=report)
    thread.start()
    handlers = {
        Released: lambda _: seen.append("released"),
        SymbolChanges: lambda changes: seen.append(*changes.added),
        IngestError: fail,
    }
    await handled(inbox, handlers, until=done)
    thread.join()
    assert seen == ["released", "A", "over"]


async def test_what_a_handler_puts_in_comes_before_any_other_task_goes_on() -> None:
    inbox, seen, first = Inbox(), [], asyncio.Event()

    def release(_: Released) -> None:
        first.set()
        inbox.put(SymbolChanges())
        seen.append("released")

    inbox.put(Released())
    await handled(inbox, {Released: release, SymbolChanges: lambda _: seen.append("changes")}, until=first)
    assert seen == ["released", "changes"]


async def test_a_report_that_cannot_be_taken_ends_the_service_with_its_name(caplog: pytest.LogCaptureFixture) -> None:
    inbox = Inbox()
    inbox.put(Released())

    def release(_: Released) -> None:
        raise ValueError("no such state")

    with pytest.raises(IngestError, match="Released could not be handled: ValueError: no such state"):
        await inbox.run({Released: release})
    assert "Released could not be handled" in caplog.text


def test_a_report_after_the_end_of_the_loop_is_dropped() -> None:
    async def make() -> Inbox:
        return Inbox()

    asyncio.run(make()).post(Released())
