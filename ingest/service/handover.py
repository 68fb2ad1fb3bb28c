"""The verbs of a hand-over, as a deployment or a person asks for them: promote, stand by, watch."""

import asyncio
from typing import Any

from ingest.core.errors import Retry, Stop
from ingest.core.role import Role, RoleEvent
from ingest.service.supervisor import Supervisor

PROMOTION_SECONDS = 60.0


class Handover:
    """One verb at a time, each safe to repeat. All calls on the loop."""

    def __init__(self, supervisor: Supervisor, *, drain_seconds: float) -> None:
        """``drain_seconds``: for committing what is queued before standing by."""
        self._supervisor = supervisor
        self._drain_seconds = drain_seconds
        self._one_verb = asyncio.Lock()

    async def promote(
        self, deployment_id: str, generation: int | None, seconds: float = PROMOTION_SECONDS
    ) -> dict[str, Any]:
        """Become the writer. Repeating a deployment's promotion changes nothing (idempotent).

        Raises ``Retry`` while starting, ``Stop`` where it cannot be, ``TimeoutError`` after ``seconds``.
        """
        if not self._supervisor.begun.is_set():
            raise Retry("this instance is starting: symbols or schema are not known yet", after=1.0)
        async with self._one_verb:
            return await self._promote(deployment_id, generation, seconds)

    async def _promote(self, deployment_id: str, generation: int | None, seconds: float) -> dict[str, Any]:
        supervisor = self._supervisor
        if deployment_id in supervisor.done_deployments:
            return {
                "state": supervisor.role.value,
                "generation": supervisor.done_deployments[deployment_id],
                "repeated": True,
            }
        if generation is not None and generation <= supervisor.generation and supervisor.role is not Role.ACTIVE:
            raise Stop(
                f"generation {generation} is not newer than {supervisor.generation}: read /control/status and ask again"
            )
        if supervisor.role in (Role.DRAINING, Role.STOPPED):
            raise Stop(f"this instance is {supervisor.role.value}")
        async with asyncio.timeout(seconds):
            await supervisor.really_active()
            if supervisor.role is Role.FENCED:
                await supervisor.give_up(RoleEvent.STAND_DOWN)
            supervisor.take_over(deployment_id)
            while supervisor.role is not Role.ACTIVE:
                await supervisor.changed()
                if supervisor.role is Role.STANDBY:
                    raise Stop(f"stood down: generation {supervisor.generation} writes")
        supervisor.done_deployments[deployment_id] = supervisor.generation
        return {"state": supervisor.role.value, "generation": supervisor.generation, "repeated": False}

    async def stand_by(self) -> dict[str, Any]:
        """Stop writing and stay warm: what is queued is committed first. Nothing is in flight when it returns.

        Only ``promote`` makes this instance write again.
        """
        supervisor, loop = self._supervisor, asyncio.get_running_loop()
        async with self._one_verb:
            supervisor.on_leave = True
            if supervisor.role is Role.ACTIVE:
                deadline = loop.time() + self._drain_seconds
                supervisor.hold_back()
                while supervisor.role is Role.ACTIVE and supervisor.queued() and loop.time() < deadline:
                    supervisor.pump(force=True)
                    await asyncio.sleep(0.005)
            if supervisor.role in (Role.ACTIVE, Role.TAKING_OVER, Role.FENCED):
                async with asyncio.timeout(self._drain_seconds):
                    await supervisor.give_up(
                        RoleEvent.RELEASE if supervisor.role is Role.ACTIVE else RoleEvent.STAND_DOWN
                    )
            elif supervisor.role is Role.SHADOW:
                supervisor.move(RoleEvent.UNWATCH)
        return {"state": supervisor.role.value, "generation": supervisor.generation}

    async def watch(self) -> dict[str, Any]:
        """Compare with what the writer commits, without writing. Raises ``Stop`` for an instance that writes."""
        supervisor = self._supervisor
        async with self._one_verb:
            if supervisor.role is Role.STANDBY:
                supervisor.move(RoleEvent.WATCH)
            elif supervisor.role is not Role.SHADOW:
                raise Stop(
                    f"this instance is {supervisor.role.value}: only a standby can watch; tell it to stand by first"
                )
        return {"state": supervisor.role.value, "generation": supervisor.generation}
