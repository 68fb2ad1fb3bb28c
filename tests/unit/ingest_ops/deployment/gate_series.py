"""Answers of a Prometheus about two slots."""

from ingest_ops.deployment.deployment_state import GateResult
from ingest_ops.deployment.gate_evaluation import evaluate
from ingest_ops.deployment.gate_inputs import Scope
from ingest_ops.deployment.gates import GATES
from ingest_ops.deployment.plan import parse
from tests.harness.deployment.series import SYMBOLS, Series, Value, counter, flat

PLAN = parse({"version": "v2"})
START, END = 1_769_040_000.0, 1_769_040_600.0
BASELINE = (START - 900.0, START - 300.0)
BY_ID = {gate.id: gate for gate in GATES}
SCOPE = Scope(
    plan=PLAN, candidate="green", live="blue", start=START, end=END, baseline=BASELINE, symbols=frozenset(SYMBOLS)
)


def series(**functions: Value) -> Series:
    """Healthy but for these: ``green__metric`` or ``blue__metric`` -> its value."""
    made = Series(origin=START - 3600.0)
    for name, value in functions.items():
        slot, _, metric = name.partition("__")
        made.functions[metric, slot] = value
    return made


def verdict(gate: str, answer: Series, scope: Scope = SCOPE) -> GateResult:
    return evaluate(BY_ID[gate], scope, answer)


def steps(before: float, after: float, at: float = START + 400.0) -> Value:
    """A value that changes within the window."""
    return lambda t, _slot: after if t + START - 3600.0 >= at else before


def rising(start: float, per_second: float) -> Value:
    return lambda t, _slot: start + per_second * (t - 3600.0)


BAD: dict[str, list[Series]] = {
    "G1a": [series(green__ingest_container_running=steps(1, 0))],
    "G1b": [series(green__process_start_time_seconds=steps(1000, 2000))],
    "G2": [series(green__ingest_healthy=steps(1, 0))],
    "G3": [series(green__up=steps(1, 0))],
    "G4": [series(green__ingest_messages_received_total=counter(3))],
    "G5": [series(green__process_resident_memory_bytes=flat(400 * 2**20))],
    "G6": [series(green__ingest_log_events_total=flat(1))],
    "G7a": [series(green__ingest_shadow_mismatch_total=flat(1))],
    "G7c": [series(green__ingest_shadow_unreadable_total=flat(1))],
    "S1": [series(green__ingest_shadow_never_received_total=steps(0, 5))],
    "S2": [series(green__ingest_shadow_never_committed_total=steps(0, 5))],
    "S3": [series(blue__ingest_shadow_mismatch_total=steps(7, 8))],
    "S5": [series(blue__ingest_shadow_never_committed_total=steps(0, 5))],
    "S6": [series(blue__ingest_shadow_never_received_total=steps(0, 5))],
    "C1": [series(green__ingest_messages_received_total=counter(200))],
    "C2": [series(green__binance_messages_received_total=counter(30))],
    "C3": [series(green__ingest_trades_committed_total=counter(20))],
    "C4": [series(green__process_cpu_seconds_total=lambda t, _slot: t * 0.8)],
    "C5": [series(green__process_cpu_seconds_total=lambda t, _slot: t * 0.8)],
    "C6": [
        series(green__process_resident_memory_bytes=rising(100 * 2**20, 0.22 * 2**20)),
        series(green__process_resident_memory_bytes=rising(100 * 2**20, 0.05 * 2**20)),
    ],
    "C7": [series(green__ingest_exchange_to_commit_seconds_sum=lambda t, _slot: t * 10 * 2.9)],
    "C10": [series(green__ingest_exchange_to_commit_seconds_bucket=lambda t, _slot: t * 9.8)],
    "C12": [series(green__ingest_exchange_to_commit_seconds_bucket=lambda t, _slot: t * 8.0)],
    "C13": [series(green__ingest_exchange_to_commit_seconds_bucket=lambda t, _slot: t * 9.955)],
    "C14": [series(green__ingest_exchange_to_commit_seconds_bucket=lambda t, _slot: t * 9.955)],
    "C11": [series(green__process_resident_memory_bytes=flat(320.0 * 2**20))],
    "C8": [series(green__ingest_gap_oldest_seconds=rising(0, 1))],
    "C9": [series(green__ingest_symbols_frozen=steps(0, 1))],
    "E1": [series(green__binance_reconnects_total=counter(0.1))],
    "E2": [series(green__binance_stalls_total=counter(0.1))],
    "E3": [series(green__ingest_rejected_total=counter(0.1))],
    "E4": [series(green__ingest_producer_errors_total=counter(0.1))],
    "E5": [series(green__ingest_aborts_total=counter(0.1))],
    "E6": [series(green__ingest_voids_total=counter(0.01))],
    "E7": [series(green__ingest_trades_shed_total=counter(0.1))],
    "E8": [series(green__binance_rest_weight_total=counter(5))],
    "E9": [series(green__binance_rest_weight_total=counter(5))],
    "H1": [
        series(green__ingest_writer_active=steps(1, 0)),
        series(blue__ingest_writer_active=steps(0, 1)),
    ],
    "H3": [series(green__ingest_handover_seconds=flat(10.0))],
}  # fmt: skip
