"""The gates, as data: what is asked, of which samples, and what the answer must be. All of them in one table.

``$slot``, ``$window``, ``$range``, ``$step`` and the plan's thresholds are filled in when a gate is judged. Nothing
here says ``or vector(0)``: what is missing is missing, and INCONCLUSIVE.
"""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

from ingest_ops.common.verdict import Verdict
from ingest_ops.deployment.plan import Plan
from ingest_ops.deployment.state_machine import State

COMPARE: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

WATCHED = (State.SHADOW, State.VALIDATE)
RATE_SCRAPES = 4
"""A rate is taken over this many scrapes: the minute of a 15 s scrape."""


def needed(expected: int, coverage: float) -> int:
    """The samples that must be there. A window's edges may cost one, whatever its length."""
    return max(1, min(math.floor(expected * coverage + 1e-9), expected - 1))


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One question to Prometheus."""

    id: str
    title: str
    query: str
    compare: str
    threshold: Callable[[Plan, int], float]
    """From the plan and the number of samples that the window should have."""
    series: str
    """The raw series whose samples are counted for the coverage and kept as evidence."""
    unit: str = ""
    states: tuple[State, ...] = WATCHED
    settle_scrapes: float = 0.0
    """So many scrapes from the window's start are left out: what the query looks back over."""
    miss: Verdict = Verdict.FAIL
    """The verdict where the value is on the wrong side."""


GATES: tuple[Gate, ...] = (
    Gate(
        id="G0",
        title="Coverage: every scrape of the window is there",
        query='count_over_time(up{slot="$slot"}[$window])',
        compare=">=",
        threshold=lambda plan, expected: needed(expected, plan.min_coverage),
        series='up{slot="$slot"}',
        unit="samples",
        miss=Verdict.INCONCLUSIVE,
    ),
    Gate(
        id="G1a",
        title="Container: running all the time",
        query='min_over_time(ingest_container_running{slot="$slot"}[$window])',
        compare="==",
        threshold=lambda _plan, _expected: 1.0,
        series='ingest_container_running{slot="$slot"}',
    ),
    Gate(
        id="G1b",
        title="Container: not restarted",
        query='changes(process_start_time_seconds{slot="$slot"}[$window])',
        compare="==",
        threshold=lambda _plan, _expected: 0.0,
        series='process_start_time_seconds{slot="$slot"}',
        unit="restarts",
    ),
    Gate(
        id="G2",
        title="Health: ready all the time",
        query='min_over_time(ingest_healthy{slot="$slot"}[$window])',
        compare="==",
        threshold=lambda _plan, _expected: 1.0,
        series='ingest_healthy{slot="$slot"}',
    ),
    Gate(
        id="G3",
        title="Metrics endpoint: every scrape answered",
        query='min_over_time(up{slot="$slot"}[$window])',
        compare="==",
        threshold=lambda _plan, _expected: 1.0,
        series='up{slot="$slot"}',
    ),
    Gate(
        id="G4",
        title="Message rate: the lowest of the window",
        query='min_over_time(sum(rate(ingest_messages_received_total{slot="$slot"}[$range]))[$window:$step])',
        compare=">",
        threshold=lambda plan, _expected: plan.min_rate,
        series='ingest_messages_received_total{slot="$slot"}',
        unit="messages/s",
        settle_scrapes=RATE_SCRAPES,
    ),
    Gate(
        id="G5",
        title="Memory: the highest of the window",
        query='max_over_time(process_resident_memory_bytes{slot="$slot"}[$window]) / 1048576',
        compare="<",
        threshold=lambda plan, _expected: plan.max_memory_mb,
        series='process_resident_memory_bytes{slot="$slot"}',
        unit="MiB",
    ),
    Gate(
        id="G6",
        title="Logs: errors since the start",
        query='sum(ingest_log_events_total{slot="$slot",level=~"ERROR|CRITICAL"})',
        compare="==",
        threshold=lambda _plan, _expected: 0.0,
        series='ingest_log_events_total{slot="$slot",level="ERROR"}',
        unit="records",
    ),
    Gate(
        id="G7a",
        title="Shadow: records that differ from the writer's",
        query='ingest_shadow_mismatch_total{slot="$slot"}',
        compare="==",
        threshold=lambda _plan, _expected: 0.0,
        series='ingest_shadow_mismatch_total{slot="$slot"}',
        unit="records",
        states=(State.SHADOW,),
    ),
    Gate(
        id="G7b",
        title="Shadow: records compared",
        query='ingest_shadow_compared_total{slot="$slot"}',
        compare=">=",
        threshold=lambda plan, _expected: plan.min_compared,
        series='ingest_shadow_compared_total{slot="$slot"}',
        unit="records",
        states=(State.SHADOW,),
        miss=Verdict.INCONCLUSIVE,
    ),
    Gate(
        id="H1a",
        title="One writer: never none",
        query="min_over_time(sum(ingest_writer_active)[$window:$step])",
        compare="==",
        threshold=lambda _plan, _expected: 1.0,
        series='ingest_writer_active{slot="$slot"}',
        unit="writers",
        states=(State.VALIDATE,),
    ),
    Gate(
        id="H1b",
        title="One writer: never two",
        query="max_over_time(sum(ingest_writer_active)[$window:$step])",
        compare="==",
        threshold=lambda _plan, _expected: 1.0,
        series='ingest_writer_active{slot="$slot"}',
        unit="writers",
        states=(State.VALIDATE,),
    ),
    Gate(
        id="H3",
        title="Hand-over: its duration",
        query='ingest_handover_seconds{slot="$slot"}',
        compare="<",
        threshold=lambda plan, _expected: plan.max_handover_seconds,
        series='ingest_handover_seconds{slot="$slot"}',
        unit="s",
        states=(State.VALIDATE,),
    ),
)
"""G0 to G7 and H1, H3. H2, the audit, is no query: the auditor is a program of its own (see ``steps``)."""

AUDIT_GATE = "H2"


def gates_of(state: State) -> tuple[Gate, ...]:
    """The gates that are judged in a state."""
    return tuple(gate for gate in GATES if state in gate.states)
