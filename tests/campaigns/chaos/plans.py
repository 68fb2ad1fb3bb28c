"""What planted faults are hunted with: for each promise a plan that strikes where it would break, and three for all."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.campaigns.chaos.faults import BY_NAME
from tests.campaigns.chaos.runner import Step, schedule

GENEROUS = ("--weight-limit", "60000", "--max-connects", "3000")
"""What faults destroy is asked for again more often than in life, and nothing of this is about request weight."""
BUSY = ("--symbols", "10", "--rate", "500", *GENEROUS)
EDGES = ("--symbols", "60", "--rate", "500", "--edges", "--paused", *GENEROUS)
"""Each bound is crossed by its symbols' first trades: the market opens when the services receive."""
MANY = ("--symbols", "100", "--rate", "50", *GENEROUS)


@dataclass(frozen=True)
class Plan:
    """Faults for one run, drawn from a seed."""

    name: str
    aim: str
    steps: Callable[[int], list[Step]]
    settings: Mapping[str, str] = field(default_factory=dict)
    """Of the services."""
    simulator: Sequence[str] = BUSY


def _drawn(count: int, seconds: float, *names: str) -> Callable[[int], list[Step]]:
    return lambda seed: schedule(seed, count, seconds, names)


def _repeated(times: int, every: float, *strokes: tuple[float, str, float]) -> Callable[[int], list[Step]]:
    """Strokes (seconds after the round's beginning, fault, how long), again and again."""

    def steps(seed: int) -> list[Step]:
        dice = random.Random(seed)
        return [
            Step(1.0 + number * every + after, name, seconds, BY_NAME[name].draw(dice) or {"round": number})
            for number in range(times)
            for after, name, seconds in strokes
        ]

    return steps


FEW = ("kill", "duplicate", "gap", "reset")
EXCHANGE = (
    "gap", "duplicate", "altered_duplicate", "reorder", "void", "replay", "reset", "history_lag", "history_short",
    "rest_truncate",
)  # fmt: skip
KINDS = (
    "kill", "terminate", "freeze_long", "promote", "broker_frozen", "broker_killed", "kafka_connections_cut",
    "kafka_black_hole", "end_txn_held", "gap", "duplicate", "altered_duplicate", "reorder", "void", "history_lag",
    "rest_truncate", "reset", "replay",
)  # fmt: skip
"""The kinds that planted faults show under; the others cost time and tell nothing about these."""
MARKET = (
    "kill", "freeze_long", "promote", "end_txn_held", "kafka_connections_cut", "reset", "rotate", "market_gap",
    "market_duplicate", "market_reorder", "depth_stale", "stream_lag",
)  # fmt: skip
UNHEALED = ("kafka_outage", "gap", "duplicate", "reorder", "void")
SLOW = {
    "K2_KAFKA_COMMIT_INTERVAL_MS": "1500",
    "K2_KAFKA_HEARTBEAT_INTERVAL_MS": "2000",
    "K2_TAKEOVER_AFTER_SECONDS": "6",
}
"""More in a batch, and no heartbeats between them. Of a symbol that trades again at once, what a failed batch held is
read once more: its next trade does not continue the positions, and the outbox sees that. So the market falls silent."""
VOIDS = {"K2_BINANCE_VOID_CONFIRM_SECONDS": "12"}
"""Longer than several of these faults together leave a trade out."""
PATIENT = {"K2_KAFKA_TRANSACTION_TIMEOUT_MS": "11000"}
"""As little as may be set: a commit is given up within the time that these plans take the broker away."""

SHARDS = {"K2_SHARD_COUNT": "2"}
"""A third service writes the second shard; nothing strikes it."""

PLANS = {
    plan.name: plan
    for plan in (
        Plan("few", "nothing in particular: what is wrong in every record", _drawn(6, 6.0, *FEW)),
        Plan(
            "edges",
            "ids, prices, quantities and times at every bound, on two shards",
            _drawn(6, 10.0, *FEW),
            SHARDS,
            EDGES,
        ),
        Plan(
            "odd",
            "trades of no quantity",
            _repeated(4, 3.0, (0.0, "no_quantity", 0.0), (1.0, "gap", 0.0)),
            VOIDS,
        ),
        Plan("shards", "two shards on one topic", _drawn(6, 8.0, *FEW), SHARDS),
        Plan(
            "takeovers",
            "writers that are replaced while they write",
            _drawn(16, 12.0, "promote", "freeze_long", "kill", "terminate"),
        ),
        Plan(
            "promotions",
            "writers that write until the moment they are fenced",
            _repeated(20, 1.0, (0.0, "promote", 0.0)),
        ),
        Plan(
            "killed_in_commit",
            "a writer that dies when all of a transaction but its end is in the log",
            _repeated(6, 8.0, (0.0, "killed_in_commit", 6.0)),
        ),
        Plan(
            "slow_commits",
            "commits in doubt while more is queued",
            _drawn(12, 15.0, "end_txn_held", "kafka_slow", "broker_frozen", "kafka_connections_cut"),
        ),
        Plan(
            "late_commits",
            "a commit that was sent twice, its first copy arriving in the next transaction",
            _repeated(8, 4.0, (0.0, "commit_late", 3.0)),
        ),
        Plan(
            "unanswered",
            "a commit that is heeded, whose answer never comes, and nobody to take over",
            _repeated(2, 26.0, (0.0, "standby_frozen", 22.0), (0.5, "commit_unanswered", 13.0)),
            PATIENT,
        ),
        Plan(
            "undelivered",
            "messages that wait longer than they may, nobody to take over, and no next trade that tells of it",
            _repeated(
                2,
                28.0,
                (4.0, "standby_frozen", 22.0),
                (4.5, "kafka_outage", 14.0),
                (4.5, "market_silent", 18.0),
            ),
            SLOW,
            MANY,
        ),
        Plan(
            "full",
            "a broker away for longer than there is room for what comes, and nobody to take over",
            _repeated(
                1, 30.0, (0.0, "standby_frozen", 26.0), *((n * 6.0 + 0.5, "broker_frozen", 3.5) for n in range(4))
            ),
            {"K2_BUFFER_MAX_TRADES": "1000"},
        ),
        Plan(
            "exchange",
            "a stream and a history that are wrong, late and incomplete",
            _drawn(60, 20.0, *EXCHANGE),
            VOIDS,
        ),
        Plan(
            "history",
            "holes while the exchange's history is short, and while it is late",
            _repeated(
                4,
                5.0,
                (0.0, "history_short", 1.5),
                (0.1, "gap", 0.0),
                (0.4, "gap", 0.0),
                (2.5, "history_lag", 1.8),
                (2.6, "gap", 0.0),
                (2.9, "gap", 0.0),
            ),
            VOIDS,
        ),
        Plan(
            "received",
            "a history that lacks what was received",
            _repeated(3, 16.0, (0.0, "received_not_in_history", 0.0)),
            VOIDS,
        ),
        Plan(
            "streams",
            "aggregates, bars, quotes and books: what their connections miss, and writers that are replaced",
            _drawn(40, 30.0, *MARKET),
            {"K2_BINANCE_STREAMS": "trade,aggTrade,kline_1s,bookTicker,depth"},
            ("--symbols", "5", "--rate", "300", *GENEROUS),
        ),
        Plan("general", "everything that planted faults show under", _drawn(60, 40.0, *KINDS)),
        Plan(
            "general_with_outages",
            "the same, and outages longer than a message may wait",
            _drawn(60, 40.0, *KINDS, "kafka_outage"),
        ),
        Plan(
            "unhealed",
            "outages after which nobody is restarted: whoever resumes reads the positions, which heals much",
            _drawn(60, 40.0, *UNHEALED),
        ),
    )
}
GENERAL = ("general", "general_with_outages", "unhealed")
"""For what its own plan did not catch."""
