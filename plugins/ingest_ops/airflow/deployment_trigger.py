"""Deferrable wait for a deployment: no worker is held, and restarts lose nothing.

The trigger keeps nothing: at each look it reads the journal, and judges the gates over [start of the window, now].
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent

from ingest_ops.airflow.connections import async_environment
from ingest_ops.deployment.journal import JournalError, Leased, NoSuchDeployment
from ingest_ops.deployment.settings import DeployerContext, load

log = logging.getLogger(__name__)

SETTLE_SECONDS = 12.0
"""A trigger that fires within a few seconds of its deferral can be marked failed (apache/airflow #72716, #71580)."""
LOOK_SECONDS = 2.0


class DeploymentTrigger(BaseTrigger):
    """Fires once: when the deployment has something to do in its state, or (``finished``) when it is over.

    When it is over the task is over, too, with nothing left to run: it would need a slot of its pool once more, which
    the soak that follows a deployment may have taken by then, and the report would wait for that soak.
    """

    def __init__(self, deployment_id: str, holder: str, *, finished: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.deployment_id = deployment_id
        self.holder = holder
        self.finished = finished

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and what it needs to be made again."""
        return (
            "ingest_ops.airflow.deployment_trigger.DeploymentTrigger",
            {"deployment_id": self.deployment_id, "holder": self.holder, "finished": self.finished},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until it is time."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        with DeployerContext(load(await async_environment()), self.holder) as parts:
            # Files, SQL and HTTP would hold up every other trigger of this process.
            while True:
                if await asyncio.to_thread(self._look, parts):
                    break
                await asyncio.sleep(LOOK_SECONDS)
        await asyncio.sleep(max(0.0, SETTLE_SECONDS - (loop.time() - began)))
        yield TaskSuccessEvent() if self.finished else TriggerEvent({"deployment_id": self.deployment_id})  # type: ignore[no-untyped-call]

    def _look(self, parts: DeployerContext) -> bool:
        try:
            if self.finished:
                return parts.journal.read(self.deployment_id).finished
            return parts.deployer.due(self.deployment_id)
        except NoSuchDeployment:
            return True  # the task says so, and why
        except Leased:
            return False  # another deployer works on it: look again after its step
        except JournalError as error:
            log.warning("the journal: %s", error)
            return False
