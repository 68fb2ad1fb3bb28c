"""Recording rules: what several alerts and panels ask for, computed once."""

from dataclasses import dataclass

SCRAPE_SECONDS = 15
JOB = 'job="ingest"'
WATCHERS = "audit|agent|operations|alertmanager"
"""Jobs without which an alert or a verdict would be blind."""

FRESH_SECONDS = 10
"""A 15 s slot is fresh if what is recorded reached to less than this ago when it was scraped."""
BUDGET = 0.001
"""99.9 % of the slots of 30 days: 43 minutes."""
WINDOWS = {"5m": 300, "30m": 1800, "1h": 3600, "2h": 7200, "6h": 21_600, "1d": 86_400, "3d": 259_200}


@dataclass(frozen=True)
class Record:
    """A recording rule."""

    name: str
    expr: str


def _answered(by: str, target: str) -> str:
    return f"group by ({by}) (max_over_time(up{{{target}}}[3d]) == 1)"


def _expected_watchers(name: str = "ingest:expected_watcher:info") -> Record:
    """Those that answered within three days, or were expected before and are still configured, however long ago.

    One that is configured and has never answered is not part of this stack.
    """
    target, by = f'job=~"{WATCHERS}"', "job, instance"
    before = f"group by ({by}) (last_over_time({name}[3d])) and on ({by}) group by ({by}) (up{{{target}}})"
    return Record(name, f"{_answered(by, target)} or ({before})")


NO_FAULT = "1000000000000"
"""Instead of the time of a fault, later than any time: a smaller one replaces it."""
AUDITED = ("missing_trades", "duplicated_trades", "other_faults")


def _audit_faults() -> tuple[Record, ...]:
    """What an auditor found stays open until an audit that covers it finds nothing, whatever restarts meanwhile."""
    name, same, by = "ingest:audit_faults:from", "on (job, instance)", "min by (job, instance)"
    now, covers = "ingest_audit_faults_from_timestamp_seconds", "ingest_audit_covers_from_timestamp_seconds"
    # An auditor that is not configured any more for three days is forgotten.
    before = f"(last_over_time({name}[3d]) and {same} last_over_time(up[3d]))"
    contradicted = f"({by} ({covers}) <= {same} {by} ({before}) unless {same} {now})"
    oldest = (
        f'{by} (label_replace({now}, "as_of", "now", "", "")'
        f' or label_replace(0 * {contradicted} + {NO_FAULT} or {by} ({before}), "as_of", "before", "", ""))'
    )
    return (
        Record(name, oldest),
        *(
            Record(
                f"ingest:audit_{figure}:open",
                f"ingest_audit_{figure} > 0 or (ingest_audit_{figure} and {same} ({covers} <= {same} {name}))"
                f" or (last_over_time(ingest:audit_{figure}:open[3d]) and {same} last_over_time(up[3d]))",
            )
            for figure in AUDITED
        ),
    )


def records(slot_seconds: int = SCRAPE_SECONDS) -> tuple[Record, ...]:
    """The recording rules, evaluated once in each slot of so many seconds."""
    return (
        # The shards that should be there: those that are configured, and those that answered within three days.
        Record("ingest:expected_shard:info", f"group by (shard) (up{{{JOB}}}) or {_answered('shard', JOB)}"),
        _expected_watchers(),
        *_audit_faults(),
        # As of the scrape, not of the evaluation: else a slot would look up to 15 s staler than it was.
        # Before the first commit of all there is no age: a stack that is being set up burns no budget.
        Record(
            "ingest:commit_age:seconds",
            f"min by (shard) (timestamp(ingest_last_commit_timestamp_seconds{{{JOB}}})"
            f" - (ingest_last_commit_timestamp_seconds{{{JOB}}} > 0))",
        ),
        # Of data, not of heartbeats: it stands still while trades are due and do not arrive.
        Record(
            "ingest:data_age:seconds",
            f"min by (shard) (timestamp(ingest_data_fresh_timestamp_seconds{{{JOB}}})"
            f" - (ingest_data_fresh_timestamp_seconds{{{JOB}}} > 0))",
        ),
        # The stalest shard counts; missing is stale, where the shard ever had something.
        Record(
            "ingest:stale:bool",
            f"max((ingest:data_age:seconds > bool {FRESH_SECONDS})"
            " or (0 * max_over_time(ingest:data_age:seconds[3d]) + 1))",
        ),
        # Over the slots that the window should have: a monitoring that has just been started has burnt nothing yet.
        *(
            Record(
                f"ingest:stale:ratio_{window}",
                f"sum_over_time(ingest:stale:bool[{window}]) * {slot_seconds} / {seconds}",
            )
            for window, seconds in WINDOWS.items()
        ),
        Record("ingest:trades_committed:rate1m", f"sum by (slot) (rate(ingest_trades_committed_total{{{JOB}}}[1m]))"),
        Record("ingest:messages_received:rate1m", f"sum by (slot) (rate(ingest_messages_received_total{{{JOB}}}[1m]))"),
        # The plan's name for the age of an open connection: the service's own metric of that name is a histogram.
        Record("binance_connection_lifetime_seconds", f"binance_connection_age_seconds{{{JOB}}}"),
        Record("ingest:rss_min:15m", f"min_over_time(process_resident_memory_bytes{{{JOB}}}[15m])"),
        Record("ingest:rss_min:6h", "min_over_time(ingest:rss_min:15m[6h])"),
        *(
            Record(
                f"ingest:exchange_to_commit:p{quantile}",
                f"histogram_quantile(0.{quantile}, sum by (slot, le)"
                f" (rate(ingest_exchange_to_commit_seconds_bucket{{{JOB}}}[5m])))",
            )
            for quantile in (50, 95, 99)
        ),
    )


RECORDS = records()
