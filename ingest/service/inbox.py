"""The way from the threads to the event loop: what they report is handled there one after the other, by its type."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, get_args

from ingest.core.batch import SymbolChanges
from ingest.core.errors import IngestError, crashed
from ingest.kafka.events import WriterEvent
from ingest.kafka.positions import ShardState, ShardStateUpdate
from ingest.service.position_trust import RecordedBefore

log = logging.getLogger(__name__)

Handlers = Mapping[type, Callable[[Any], None]]

REPORTS: Final = (*get_args(WriterEvent), ShardState, ShardStateUpdate, SymbolChanges, RecordedBefore, IngestError)
"""Everything that is put into the inbox; ``run`` needs a handler for each."""


class Inbox:
    """A queue without a bound: a report is a few values, and each answers a command or a read of this process."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reports: asyncio.Queue[Any] = asyncio.Queue()

    def post(self, report: Any) -> None:
        """Put a report in, from any thread. Does nothing once the loop is closed."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._reports.put_nowait, report)

    def put(self, report: Any) -> None:
        """Put a report in, on the loop: it is handled after what is being handled now."""
        self._reports.put_nowait(report)

    async def run(self, handlers: Handlers) -> None:
        """Handle reports until cancelled. An error of a handler ends the service: the report may be handled in part."""
        while True:
            report = await self._reports.get()
            try:
                _handler(handlers, type(report))(report)
            except Exception as error:
                name = type(report).__name__
                log.exception("%s could not be handled", name)
                raise crashed(f"{name} could not be handled", error) from error


def _handler(handlers: Handlers, kind: type) -> Callable[[Any], None]:
    return next(handlers[base] for base in kind.__mro__ if base in handlers)
