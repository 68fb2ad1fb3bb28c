"""A soak as Airflow carries it between its processes: plain values, from which everything else is built."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import httpx2

from ingest_ops.common.report_settings import ReportSettings
from ingest_ops.soak.engine import Engine
from ingest_ops.soak.plan import PLANS, Plan
from ingest_ops.soak.record import CANDIDATE, PREVIOUS
from ingest_ops.soak.sources import PrometheusSource, Source, client_for

PARAMS = frozenset({"plan", "selector", "previous_selector", "trial_seconds"})
"""What a run's form may hold."""


class BadParams(ValueError):
    """The form holds something that no soak understands; the text says what."""


def clock() -> float:
    """Seconds since 1970."""
    return time.time_ns() / 1e9


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run. ``started`` comes from the task's state, so that retries and restarts go on with the same window."""

    run_id: str
    started: float
    plan: Mapping[str, Any]
    prometheus_url: str
    selector: str
    previous_selector: str | None
    reports: str
    environment: Mapping[str, str]

    @classmethod
    def of(
        cls, params: Mapping[str, Any], settings: ReportSettings, *, run_id: str, started: float, trigger: str
    ) -> Self:
        """The job of a run's form. Raises ``BadParams``: Airflow itself lets unknown keys through."""
        if unknown := sorted(set(params) - PARAMS):
            raise BadParams(f"unknown parameters: {', '.join(unknown)}")
        plan = PLANS.get(str(params["plan"]))
        if plan is None:
            raise BadParams(f"no plan {params['plan']!r}: allowed is {', '.join(PLANS)}")
        if (seconds := params.get("trial_seconds")) is not None:
            plan = plan.shortened(float(seconds))
        return cls(
            run_id=run_id,
            started=started,
            plan=plan.as_json(),
            prometheus_url=settings.prometheus_url,
            selector=str(params.get("selector") or settings.selector),
            previous_selector=params.get("previous_selector") or None,
            reports=str(settings.reports.absolute() / "soak"),
            environment={"started by": trigger},
        )

    def as_json(self) -> dict[str, Any]:
        """Plain data for a trigger or for XCom."""
        return asdict(self)

    @property
    def record(self) -> Path:
        """Where the samples are kept: a copy for speed. Lost, it is read again from Prometheus."""
        return Path(self.reports) / "records" / f"{self.run_id}.json"

    @property
    def parsed(self) -> Plan:
        """The plan as a value."""
        return Plan.from_json(self.plan)

    def engine(self, settings: ReportSettings, client: httpx2.Client | None = None) -> Engine:
        """The engine on this job's record. Raises ``OSError`` or ``BadRecord``."""
        client = client or client_for(settings)
        sources: dict[str, Source] = {CANDIDATE: PrometheusSource(self.prometheus_url, self.selector, client=client)}
        if self.previous_selector:
            sources[PREVIOUS] = PrometheusSource(self.prometheus_url, self.previous_selector, client=client)
        return Engine.start(
            self.record,
            self.run_id,
            self.parsed,
            sources,
            clock=clock,
            environment=self.environment,
            started=self.started,
        )
