"""The control API's verbs, carried out on the event loop."""

import asyncio
import concurrent.futures
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from ingest.core.errors import Stop
from ingest.core.trade import Void

log = logging.getLogger(__name__)

Verb = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class LoopCommands:
    """Hands commands from the HTTP thread to the loop; the future holds the answer or the error."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._verbs: dict[str, Verb] = {}

    def add(self, name: str, verb: Verb) -> None:
        """Offer a verb."""
        self._verbs[name] = verb

    def submit(self, name: str, arguments: dict[str, Any]) -> concurrent.futures.Future[dict[str, Any]]:
        """Run a verb on the loop. Raises ``Stop`` for an unknown one."""
        verb = self._verbs.get(name)
        if verb is None:
            raise Stop(f"unknown command {name!r}; there are {', '.join(sorted(self._verbs))}")
        log.info("control: %s %s", name, sorted(arguments))
        return asyncio.run_coroutine_threadsafe(_call(verb, arguments), self._loop)


async def _call(verb: Verb, arguments: dict[str, Any]) -> dict[str, Any]:
    return await verb(arguments)


def operator_void(symbol: str, next_id: int, current: int, first_pending: int | None, actor: str) -> Void | None:
    """Return the void of the ids that an operator skips, None if the symbol goes on where it is.

    Raises ``Stop`` for going back, and for skipping trades that are in memory.
    """
    if next_id == current:
        return None
    if next_id < current:
        raise Stop(
            f"{symbol} is at {current}: going back to {next_id} would write ids twice. "
            "Record a sequence that began again under a new topic instead."
        )
    if first_pending is not None and next_id > first_pending:
        raise Stop(
            f"{symbol}: trade {first_pending} was received and waits for the ids before it; {next_id} would skip it. "
            f"Name an id from {current} to {first_pending}."
        )
    return Void(symbol, current, next_id - 1, "operator", {"actor": actor[:64]})
