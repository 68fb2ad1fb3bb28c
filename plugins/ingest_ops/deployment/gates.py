"""The gates, as data: what each reads, and the criterion that judges it.

G: one slot by itself, the candidate or, in G1c, its predecessor. C and E: the candidate against its predecessor, or
against a limit (C8, C9). S: record by record, in both directions. H: the hand-over. Nothing invents data: an input that
is absent, sparse, doubled or relabelled never passes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ingest_ops.common.verdict import Verdict
from ingest_ops.deployment import criteria
from ingest_ops.deployment.criteria import Criterion, level
from ingest_ops.deployment.declared_children import DECLARED
from ingest_ops.deployment.gate_inputs import Children, Input, Window, needed
from ingest_ops.deployment.state_machine import State

WATCHED = (State.SHADOW, State.VALIDATE)
SHADOW = (State.SHADOW,)
VALIDATE = (State.VALIDATE,)
AUDIT_GATE = "H2"
MB = 2.0**-20
MIN_COMPARED_SHARE = 0.5
"""Share of the candidate's trades in the window that the predecessor must have compared. Not all can be: not those at
the window's ends, nor those of an outage of either side."""


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One question about a window."""

    id: str
    title: str
    inputs: Mapping[str, Input]
    criterion: Criterion
    unit: str = ""
    states: tuple[State, ...] = WATCHED
    early: bool = False
    """Whether a failure counts before the window is over: what was seen then cannot become right."""
    sees: bool = False
    """Whether a wrong value counts though samples are missing."""
    evidence: str = ""
    """The input whose samples are kept; empty: the first."""
    needs_incumbent: bool = False
    """Whether it needs the predecessor's comparison after the hand-over."""


def _level(
    identity: str, title: str, metric: str, criterion: Criterion, *, unit: str = "",
    states: tuple[State, ...] = WATCHED,
    slot: str = "candidate", child: str = "", children: frozenset[str] = frozenset({""}), where: str = "",
    needs_incumbent: bool = False,
) -> Gate:  # fmt: skip
    one = Input(metric=metric, slot=slot, child=child, children=children, where=where)
    return Gate(
        id=identity, title=title, inputs={"value": one}, criterion=criterion, unit=unit, states=states, early=True,
        sees=True, needs_incumbent=needs_incumbent,
    )  # fmt: skip


def _pair(
    metric: str, *, child: str = "", children: Children | frozenset[str] = frozenset({""}),
    window: Window = Window.STATE, suffix: str = "", where: str = "",
) -> dict[str, Input]:  # fmt: skip
    """The same metric of both slots."""
    least = DECLARED[metric] if children is Children.LIKE_LIVE else frozenset[str]()
    return {
        f"candidate{suffix}": Input(metric=metric, child=child, children=children, least=least, where=where),
        f"live{suffix}": Input(
            metric=metric, slot="live", child=child, children=children, least=least, where=where, window=window
        ),
    }


def _reconnects(slot: str) -> Input:
    return Input(
        metric="binance_reconnects_total", slot=slot, child="reason", children=Children.LIKE_LIVE,
        least=DECLARED["binance_reconnects_total"],
    )  # fmt: skip


def _more(
    identity: str, title: str, metric: str, *, child: str = "", window: Window = Window.STATE,
    states: tuple[State, ...] = WATCHED, factor: float = 2.0, allowance: float = 3.0, unit: str,
) -> Gate:  # fmt: skip
    children = Children.LIKE_LIVE if child else frozenset({""})
    return Gate(
        id=identity, title=title, inputs=_pair(metric, child=child, children=children, window=window),
        criterion=criteria.not_more(factor, allowance, unit=unit), unit=unit, states=states,
    )  # fmt: skip


def _late(identity: str, seconds: str, more: float) -> Gate:
    """A quantile, as the share beyond a bound of the histogram: the mean hides a few that come late."""
    metric = "ingest_exchange_to_commit_seconds"
    return Gate(
        id=identity,
        title=f"Share of the trades with a latency above {float(seconds):g} s, against the predecessor as the writer",
        unit="of the trades", states=VALIDATE,
        inputs=_pair(f"{metric}_bucket", where=f'le="{seconds}"', window=Window.BASELINE, suffix="_within")
        | _pair(f"{metric}_count", window=Window.BASELINE, suffix="_count"),
        criterion=criteria.compared_tail(more, unit="of the trades"), evidence="candidate_within",
    )  # fmt: skip


def _fixed(value: float) -> criteria.Limit:
    return lambda _scope: value


GATES: tuple[Gate, ...] = (
    _level(
        "G0", "Coverage: every scrape of the window is there", "up",
        level(
            "count", ">=",
            lambda scope: needed(
                int((scope.end - scope.start) / scope.plan.scrape_seconds + 1e-6), scope.plan.min_coverage
            ),
            unit="samples", miss=Verdict.INCONCLUSIVE,
        ),
        unit="samples",
    ),
    _level(
        "G1a", "Container: running all the time", "ingest_container_running", level("min", "==", _fixed(1.0))
    ),
    _level(
        "G1b", "Container: not restarted", "process_start_time_seconds",
        level("changes", "==", _fixed(0.0), unit="restarts"), unit="restarts",
    ),
    _level(
        "G1c", "Predecessor: not restarted, which would lose what it has compared", "process_start_time_seconds",
        level("changes", "==", _fixed(0.0), unit="restarts", miss=Verdict.INCONCLUSIVE), unit="restarts",
        states=VALIDATE, slot="live", needs_incumbent=True,
    ),
    _level("G2", "Health: ready all the time", "ingest_healthy", level("min", "==", _fixed(1.0))),
    _level("G3", "Metrics endpoint: every scrape answered", "up", level("min", "==", _fixed(1.0))),
    _level(
        "G4", "Message rate: the lowest of the window", "ingest_messages_received_total",
        level("rate_min", ">", lambda scope: scope.plan.min_rate, unit="messages/s"), unit="messages/s",
    ),
    _level(
        "G5", "Memory: the highest of the window", "process_resident_memory_bytes",
        level("max", "<", lambda scope: scope.plan.max_memory_mb, unit="MiB", scale=MB), unit="MiB",
    ),
    _level(
        "G6", "Logs: errors since the start", "ingest_log_events_total",
        level("last", "==", _fixed(0.0), unit="records"), unit="records",
        child="level", children=frozenset({"ERROR", "CRITICAL"}), where='level=~"ERROR|CRITICAL"',
    ),
    _level(
        "G7a", "Shadow: records that differ from the writer's", "ingest_shadow_mismatch_total",
        level("last", "==", _fixed(0.0), unit="records"), unit="records", states=SHADOW,
    ),
    _level(
        "G7b", "Shadow: records compared", "ingest_shadow_compared_total",
        level(
            "last", ">=", lambda scope: scope.plan.min_compared, unit="records", miss=Verdict.INCONCLUSIVE
        ),
        unit="records", states=SHADOW,
    ),
    _level(
        "G7c", "Shadow: the writer's records that cannot be read", "ingest_shadow_unreadable_total",
        level("last", "==", _fixed(0.0), unit="records"), unit="records", states=SHADOW,
    ),
    Gate(
        id="S1", title="The writer's records that the candidate did not receive", states=SHADOW, unit="records",
        inputs={
            "counter": Input(metric="ingest_shadow_never_received_total"),
            "excuse": _reconnects("candidate"),
            "live": _reconnects("live"),
        },
        criterion=criteria.none_unless("the candidate lost a connection in the window"),
    ),
    Gate(
        id="S2", title="The candidate's trades that the writer did not commit", states=SHADOW, unit="records",
        inputs={
            "counter": Input(metric="ingest_shadow_never_committed_total"),
            "excuse": Input(metric="ingest_gaps_found_total", slot="live"),
        },
        criterion=criteria.none_unless("the writer had missing trades in the window"),
    ),
    _level(
        "S3", "Records that differ, as the predecessor sees them", "ingest_shadow_mismatch_total",
        level("increase", "==", _fixed(0.0), unit="records"), unit="records", states=VALIDATE, slot="live",
        needs_incumbent=True,
    ),
    Gate(
        id="S4", title="The candidate's trades that the predecessor has compared", states=VALIDATE, unit="records",
        needs_incumbent=True,
        inputs={
            "counter": Input(metric="ingest_shadow_compared_total", slot="live"),
            "of": Input(metric="ingest_trades_committed_total", child="symbol", children=Children.SYMBOLS),
        },
        criterion=criteria.share_of(MIN_COMPARED_SHARE, unit="records"),
    ),
    Gate(
        id="S5", title="Trades that the candidate did not commit, as the predecessor sees them", states=VALIDATE,
        unit="records", needs_incumbent=True,
        inputs={
            "counter": Input(metric="ingest_shadow_never_committed_total", slot="live"),
            "excuse": Input(metric="ingest_gaps_found_total"),
        },
        criterion=criteria.none_unless("the candidate had missing trades in the window"),
    ),
    Gate(
        id="S6", title="The candidate's records that the predecessor did not receive", states=VALIDATE,
        unit="records", needs_incumbent=True,
        inputs={
            "counter": Input(metric="ingest_shadow_never_received_total", slot="live"),
            "excuse": _reconnects("live"),
        },
        criterion=criteria.none_unless("the predecessor lost a connection in the window"),
    ),
    Gate(
        id="C1", title="Messages received, against the predecessor", unit="messages",
        inputs=_pair("ingest_messages_received_total"), criterion=criteria.as_many(0.9, unit="messages"),
    ),
    Gate(
        id="C2", title="Messages received of each symbol, against the predecessor", unit="messages",
        inputs=_pair("binance_messages_received_total", child="symbol", children=Children.SYMBOLS),
        criterion=criteria.as_many(0.7, unit="messages"),
    ),
    Gate(
        id="C3", title="Trades committed of each symbol, against what the predecessor received", unit="trades",
        states=VALIDATE,
        inputs={
            "candidate": Input(metric="ingest_trades_committed_total", child="symbol", children=Children.SYMBOLS),
            "live": Input(
                metric="binance_messages_received_total", slot="live", child="symbol", children=Children.SYMBOLS
            ),
        },
        criterion=criteria.as_many(0.4, unit="trades"),
    ),
    Gate(
        id="C4", title="Processor time, against the predecessor as a warm standby or writer", unit="cores",
        states=SHADOW, inputs=_pair("process_cpu_seconds_total"),
        criterion=criteria.compared_rate(0.5, 0.2, unit="cores"),
    ),
    Gate(
        id="C5", title="Processor time as the writer, against the predecessor as the writer", unit="cores",
        states=VALIDATE, inputs=_pair("process_cpu_seconds_total", window=Window.BASELINE),
        criterion=criteria.compared_rate(0.5, 0.2, unit="cores"),
    ),
    Gate(
        id="C6", title="Memory growth, beyond the predecessor's", unit="MiB",
        inputs=_pair("process_resident_memory_bytes"), criterion=criteria.growth,
    ),
    Gate(
        id="C11", title="Memory, against the predecessor's", unit="MiB",
        inputs=_pair("process_resident_memory_bytes"), criterion=criteria.compared_level(0.5, 100.0, MB, unit="MiB"),
    ),
    Gate(
        id="C7", title="Latency from trade to commit, against the predecessor as the writer", unit="s",
        states=VALIDATE,
        inputs=_pair("ingest_exchange_to_commit_seconds_sum", window=Window.BASELINE, suffix="_sum")
        | _pair("ingest_exchange_to_commit_seconds_count", window=Window.BASELINE, suffix="_count"),
        criterion=criteria.compared_quotient(1.0, 0.2, unit="s"), evidence="candidate_sum",
    ),
    _late("C10", "1.0", 0.005),
    _late("C12", "0.5", 0.02),
    _late("C13", "5.0", 0.002),
    # C13 allows twice the predecessor's share above 5 s, however late those trades are: C14 bounds how late.
    _late("C14", "15.0", 0.002),
    _level(
        "C8", "Missing trades: age of the oldest gap at the end", "ingest_gap_oldest_seconds",
        level("last", "<=", lambda scope: scope.plan.max_gap_seconds, unit="s"), unit="s", states=VALIDATE,
    ),
    _level(
        "C9", "Symbols halted", "ingest_symbols_frozen", level("max", "==", _fixed(0.0), unit="symbols"),
        unit="symbols",
    ),
    _more(
        "E1", "Connections lost, against the predecessor", "binance_reconnects_total", child="reason",
        unit="connections",
    ),
    _more("E2", "Stalls, against the predecessor", "binance_stalls_total", child="scope", unit="stalls"),
    _more("E3", "Messages rejected, against the predecessor", "ingest_rejected_total", child="reason", unit="messages"),
    _more(
        "E4", "Errors of the producer, against the predecessor as the writer", "ingest_producer_errors_total",
        window=Window.BASELINE, states=VALIDATE, unit="errors",
    ),
    _more(
        "E5", "Transactions aborted, against the predecessor as the writer", "ingest_aborts_total",
        window=Window.BASELINE, states=VALIDATE, unit="transactions",
    ),
    _more(
        "E6", "Trade ids declared void, against the predecessor as the writer", "ingest_voids_total", child="reason",
        window=Window.BASELINE, states=VALIDATE, allowance=0.0, unit="ids",
    ),
    _more(
        "E7", "Trades dropped for room, against the predecessor", "ingest_trades_shed_total", allowance=0.0,
        unit="trades",
    ),
    _more(
        "E8", "REST weight spent, against the predecessor as the writer", "binance_rest_weight_total",
        window=Window.BASELINE, states=VALIDATE, allowance=300.0, unit="weight",
    ),
    _more("E9", "REST weight spent, against the predecessor", "binance_rest_weight_total", states=SHADOW,
          allowance=300.0, unit="weight"),
    Gate(
        id="H1", title="One writer: never none, never two", unit="writers", states=VALIDATE, early=True, sees=True,
        inputs=_pair("ingest_writer_active"), criterion=criteria.one_writer,
    ),
    _level(
        "H3", "Hand-over: its duration", "ingest_handover_seconds",
        level("last", "<", lambda scope: scope.plan.max_handover_seconds, unit="s"), unit="s", states=VALIDATE,
    ),
)  # fmt: skip
"""H2, the audit, reads no series: the auditor is a program of its own (see ``gate_windows``)."""


def gates_of(state: State) -> tuple[Gate, ...]:
    """The gates that are judged in a state."""
    return tuple(gate for gate in GATES if state in gate.states)
