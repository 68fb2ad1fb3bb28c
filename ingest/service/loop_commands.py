"""Hands the control API's commands from the HTTP threads to the event loop."""

import asyncio
import concurrent.futures
import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from ingest.control.command_schemas import COMMANDS
from ingest.core.errors import Retry
from ingest.service.control_commands import Handler

log = logging.getLogger(__name__)


class LoopCommands:
    """Starts commands on the loop; the future holds the answer or the error."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handlers: Mapping[type, Handler] = {}

    def serve(self, handlers: Mapping[type, Handler]) -> None:
        """Carry out commands from now on, by their type."""
        self._handlers = handlers

    def submit(self, name: str, arguments: dict[str, Any]) -> concurrent.futures.Future[dict[str, Any]]:
        """Run a command of ``COMMANDS`` on the loop. Raises ``Retry`` while the service is being built."""
        kind = COMMANDS[name].arguments
        handler = self._handlers.get(kind)
        if handler is None:
            raise Retry("this instance is starting", after=1.0)
        log.info("control command", extra={"command": name, "arguments": sorted(arguments)})
        return asyncio.run_coroutine_threadsafe(_call(handler, msgspec.convert(arguments, kind)), self._loop)


async def _call(handler: Handler, command: object) -> dict[str, Any]:
    return await handler(command)
