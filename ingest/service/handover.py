"""The verbs of a hand-over, as a deployment or a person asks for them: promote, stand by, watch."""

import asyncio
from typing import Any

from ingest.core.errors import Retry, Stop
from ingest.core.role import Role, RoleEvent
from ingest.service.leadership import WriterLeadership

PROMOTION_SECONDS = 60.0


class Handover:
    """One verb at a time, each safe to repeat. All calls on the loop."""

    def __init__(self, leadership: WriterLeadership, *, drain_seconds: float) -> None:
        """``drain_seconds``: for committing what is queued before standing by."""
        self._leadership = leadership
        self._drain_seconds = drain_seconds
        self._one_verb = asyncio.Lock()

    async def promote(
        self, deployment_id: str, generation: int | None, seconds: float = PROMOTION_SECONDS
    ) -> dict[str, Any]:
        """Become the writer. Repeating a deployment's promotion changes nothing (idempotent).

        Raises ``Retry`` while starting, ``Stop`` where it cannot be, ``TimeoutError`` after ``seconds``.
        """
        if not self._leadership.ready_to_write.is_set():
            raise Retry("this instance is starting: symbols or schema are not known yet", after=1.0)
        async with self._one_verb:
            return await self._promote(deployment_id, generation, seconds)

    async def _promote(self, deployment_id: str, generation: int | None, seconds: float) -> dict[str, Any]:
        leadership = self._leadership
        if deployment_id in leadership.done_deployments:
            return {
                "state": leadership.role.value,
                "generation": leadership.done_deployments[deployment_id],
                "repeated": True,
            }
        if generation is not None and generation <= leadership.generation and leadership.role is not Role.ACTIVE:
            raise Stop(
                f"generation {generation} is not newer than {leadership.generation}: read /control/status and ask again"
            )
        if leadership.refusal:
            raise Stop(leadership.refusal)
        if leadership.role in (Role.DRAINING, Role.STOPPED):
            raise Stop(f"this instance is {leadership.role.value}")
        async with asyncio.timeout(seconds):
            await leadership.confirm_active()
            if leadership.role is Role.FENCED:
                await leadership.release_producer(RoleEvent.STAND_DOWN)
            leadership.take_over(deployment_id)
            while leadership.role is not Role.ACTIVE:
                await leadership.changed()
                if leadership.role is Role.STANDBY:
                    raise Stop(f"stood down: generation {leadership.generation} writes")
        leadership.done_deployments[deployment_id] = leadership.generation
        return {"state": leadership.role.value, "generation": leadership.generation, "repeated": False}

    async def stand_by(self) -> dict[str, Any]:
        """Stop writing and stay warm: what is queued is committed first. Nothing is in flight when it returns.

        Only ``promote`` makes this instance write again.
        """
        leadership = self._leadership
        async with self._one_verb:
            leadership.auto_takeover_disabled = True
            if leadership.role is Role.ACTIVE:
                await leadership.commit_pending(self._drain_seconds)
            if leadership.role in (Role.ACTIVE, Role.TAKING_OVER, Role.FENCED):
                async with asyncio.timeout(self._drain_seconds):
                    await leadership.release_producer(
                        RoleEvent.RELEASE if leadership.role is Role.ACTIVE else RoleEvent.STAND_DOWN
                    )
            elif leadership.role is Role.SHADOW:
                leadership.move(RoleEvent.UNWATCH)
        return {"state": leadership.role.value, "generation": leadership.generation}

    async def watch(self) -> dict[str, Any]:
        """Compare with what the writer commits, without writing. Raises ``Stop`` for an instance that writes."""
        leadership = self._leadership
        async with self._one_verb:
            if leadership.role is Role.STANDBY:
                leadership.move(RoleEvent.WATCH)
            elif leadership.role is not Role.SHADOW:
                raise Stop(
                    f"this instance is {leadership.role.value}: only a standby can watch; tell it to stand by first"
                )
        return {"state": leadership.role.value, "generation": leadership.generation}
