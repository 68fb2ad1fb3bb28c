"""Deferrable wait for a soak: needs no worker, and survives restarts of scheduler and triggerer.

The trigger knows when the soak began and where Prometheus is. Started again, in another triggerer or with its record
lost, it reads the samples since then once more.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from ingest_ops.airflow.waiting import announced
from ingest_ops.common.report_settings import ReportSettings
from ingest_ops.soak.engine import Engine
from ingest_ops.soak.job import Job
from ingest_ops.soak.record import State

SETTLE_SECONDS = 12.0
"""A trigger that fires within a few seconds of its deferral can be marked failed (apache/airflow #72716, #71580)."""
LEAST_PAUSE, MOST_PAUSE = 2.0, 60.0


class SoakTrigger(BaseTrigger):
    """Fires once, when the soak is finished or can no longer pass: ``{"state", "reason", "samples"}``."""

    def __init__(self, job: dict[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job = job
        self._engine: Engine | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and what it needs to be made again."""
        return "ingest_ops.airflow.soak_trigger.SoakTrigger", {"job": self.job}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look at each sample's time until it is over."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            # Files and HTTP would hold up every other trigger of this process.
            state, reason, samples, pause = await asyncio.to_thread(self._look)
            if state is not State.RUNNING:
                break
            await asyncio.sleep(min(max(pause, LEAST_PAUSE), MOST_PAUSE))
        await asyncio.sleep(max(0.0, SETTLE_SECONDS - (loop.time() - began)))
        over = {"state": str(state), "reason": reason, "samples": samples}
        yield TriggerEvent(over)  # type: ignore[no-untyped-call]

    def _look(self) -> tuple[State, str, int, float]:
        if self._engine is None:
            self._engine = Job(**self.job).engine(ReportSettings.load(os.environ))
        engine = self._engine
        said = len(engine.record.events)
        state = engine.tick()
        if state is State.RUNNING and (name := self._makes_way_for()):
            state = engine.end(f"ended for {name}, which waited for the pool")
        for event in engine.record.events[said:]:
            self.log.info("soak %s: %s: %s", engine.record.run_id, event["kind"], event["text"])
        return state, engine.record.reason, len(engine.record.samples), engine.next_due()

    def _makes_way_for(self) -> str:
        """The deployment that waits, where this soak was started by the deployment before; a scheduled one goes on."""
        job = Job(**self.job)
        if "asset" not in job.environment.get("started by", ""):
            return ""
        return announced(Path(job.reports).parent, job.started)
