"""The control API's verbs, as the service does them."""

import logging
import time
from typing import TYPE_CHECKING, Any

from ingest.core.errors import Stop
from ingest.core.role import Role
from ingest.service.handover import Handover
from ingest.service.loop_commands import operator_void

if TYPE_CHECKING:
    from ingest.service.app import Service

log = logging.getLogger(__name__)


def install(service: "Service") -> None:
    """Offer the verbs. They run on the loop."""
    handover = Handover(service.supervisor, drain_seconds=service.settings.service.drain_timeout_seconds)

    async def promote(arguments: dict[str, Any]) -> dict[str, Any]:
        return await handover.promote(str(arguments["deployment_id"]), arguments.get("generation"))

    async def stand_by(_: dict[str, Any]) -> dict[str, Any]:
        return await handover.stand_by()

    async def watch(_: dict[str, Any]) -> dict[str, Any]:
        return await handover.watch()

    async def drain(_: dict[str, Any]) -> dict[str, Any]:
        service.stop()
        return {"state": "draining"}

    async def rotate(arguments: dict[str, Any]) -> dict[str, Any]:
        return {"rotating": service.feed.rotate("operator", arguments.get("connection"))}

    async def symbols(arguments: dict[str, Any]) -> dict[str, Any]:
        writing = service.supervisor.role is Role.ACTIVE
        return await service.symbols.change(arguments.get("add") or [], arguments.get("remove") or [], writing=writing)

    async def thaw(arguments: dict[str, Any]) -> dict[str, Any]:
        actor = str(arguments.get("actor", "operator"))
        return _thaw(service, str(arguments["symbol"]), int(arguments["next_id"]), actor)

    for verb in (promote, stand_by, watch, drain, rotate, symbols, thaw):
        service.commands.add(verb.__name__, verb)


def _thaw(service: "Service", symbol: str, next_id: int, actor: str) -> dict[str, Any]:
    """Resume a halted symbol at an id that an operator names; skipped ids become a void of the operator's.

    Raises ``Stop`` if the symbol is not halted, or the id would write ids twice or skip trades that are in memory.
    """
    sequencer = service.pipeline.sequencer
    sequence = sequencer.sequences.get(symbol)
    if sequence is None or sequence.halted is None:
        raise Stop(f"{symbol} is not frozen")
    if sequence.next_id is None:
        raise Stop(f"{symbol} has no position: run `ingest positions rebuild`, then restart")
    void = operator_void(symbol, next_id, sequence.next_id, min(sequence.pending, default=None), actor)
    reason = sequence.halted
    if void is not None:
        service.pipeline.void(void)
    service.void_limit.reset(symbol)
    sequencer.discard_jump(symbol, time.monotonic())
    log.warning("an operator resumed a symbol", extra={"symbol": symbol, "reason": reason, "next_id": next_id})
    return {"symbol": symbol, "next_id": next_id, "voided": 0 if void is None else void.count}
