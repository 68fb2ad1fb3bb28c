"""Alerts about the data: written by one instance, complete, once and fresh."""

from deploy.alert_model import Alert, absent_targets, burn, counted, covered, grew, mostly, mostly_true, overdue
from deploy.records import JOB

_FLEET = "(max by (fleet) (ingest_fleet_shards) or max by (fleet) (last_over_time(ingest_fleet_shards[1h])))"
"""Shards that should be written: what instances say now; if none answers, what they said last within the hour."""
_WRITTEN = "sum by (fleet) (max by (fleet, shard) (ingest_fleet_shard_writing))"

WRITER = (
    Alert(
        name="IngestNoWriter",
        group="writer",
        severity="page",
        expr=mostly_true(f"sum by (shard) (ingest_writer_active{{{JOB}}}) == bool 0", "2m", 0.6)
        + f" and sum by (shard) (count_over_time(ingest_writer_active{{{JOB}}}[2m])) >= 2",
        keep="2m",
        summary="No instance{{ with $labels.shard }} of shard {{ . }}{{ end }} writes",
        description="Instances answer, but none of them is the writer. Trades wait in memory and in REST history.",
    ),
    Alert(
        name="IngestSplitBrain",
        group="writer",
        severity="page",
        expr=mostly_true(f"sum by (shard) (ingest_writer_active{{{JOB}}}) > bool 1", "2m", 0.6),
        keep="2m",
        summary="More than one instance reports itself as the writer",
        description="Kafka fences all but one, so nothing is written twice; one of them has not noticed it yet.",
    ),
    Alert(
        name="IngestTargetAbsent",
        group="writer",
        severity="page",
        # Each expected shard; and none at all, which has no shard.
        expr=counted(
            # Without shards both halves have the same labels, none: one series of the subquery.
            f"group by (shard) (ingest:expected_shard:info unless on (shard) (group by (shard) (up{{{JOB}}} == 1)))"
            f" or on () absent(up{{{JOB}}} == 1)",
            2,
        ),
        keep="2m",
        summary="No instance{{ with $labels.shard }} of shard {{ . }}{{ end }} answers Prometheus",
        description="No slot of the shard could be scraped in two of the last four minutes: not running, hung, or cut"
        " off.",
    ),
    Alert(
        name="IngestCrashLoop",
        group="writer",
        severity="page",
        expr=f"changes(process_start_time_seconds{{{JOB}}}[10m]) >= 3"
        f" or changes(process_start_time_seconds{{{JOB}}}[40m]) >= 5",
        keep="5m",
        summary="{{ $labels.slot }} was restarted {{ $value }} times",
        description="Three times within ten minutes, or five times within forty: the process ends soon after its"
        " start, again and again. Its log says why.",
    ),
    Alert(
        name="IngestFleetShardUnwritten",
        group="writer",
        severity="page",
        # If no instance answers, no shard is written.
        expr=mostly_true(f"({_FLEET} > bool {_WRITTEN}) or ({_FLEET} > bool 0)", "2m", 0.6),
        keep="2m",
        summary="{{ $labels.fleet }}: a shard that should be written is not",
        description="No instance of the fleet has committed to it within K2_READY_MAX_COMMIT_AGE_SECONDS, or none"
        " answers. Its trades wait in REST history.",
    ),
    Alert(
        name="IngestSlotUnreachable",
        group="writer",
        severity="ticket",
        expr=f"avg_over_time(up{{{JOB}}}[5m]) < 0.2 and {covered(f'up{{{JOB}}}', '5m')}"
        " and on (slot) ingest_container_running == 1",
        summary="Slot {{ $labels.slot }} runs but cannot be scraped",
        description="The deploy agent says that its container runs, Prometheus gets no answer from it.",
    ),
    Alert(
        name="IngestNotReady",
        group="writer",
        severity="ticket",
        expr=f"avg_over_time(ingest_healthy{{{JOB}}}[5m]) < 0.2 and {covered(f'ingest_healthy{{{JOB}}}', '5m')}",
        summary="Slot {{ $labels.slot }} is not ready",
        description="Its /health/ready has answered 503 for most of five minutes.",
    ),
    Alert(
        name="IngestDataOverdue",
        group="writer",
        severity="page",
        expr=f"max by (shard, slot) (ingest_data_overdue_seconds{{{JOB}}}"
        f" and on (slot, instance) ingest_writer_active{{{JOB}}} == 1) > 60",
        # The gauge is a duration itself.
        keep="5m",
        summary="No trade has arrived at {{ $labels.slot }} for {{ $value | humanizeDuration }} though trades are due",
        description="No connection of a group is live, or connections are silent and trades are expected.",
    ),
)
"""Who writes."""

AUDIT = (
    Alert(
        name="IngestDataLoss",
        group="audit",
        severity="page",
        # Neither an auditor that ends or starts again nor an audit of later hours resolves what was found.
        expr="ingest:audit_missing_trades:open > 0",
        summary="The audit misses {{ $value }} trades",
        description="Trades of the exchange are neither in the topic nor accounted for. The budget is zero.",
    ),
    Alert(
        name="IngestDuplicate",
        group="audit",
        severity="page",
        # Neither an auditor that ends or starts again nor an audit of later hours resolves what was found.
        expr="ingest:audit_duplicated_trades:open > 0",
        summary="The audit found {{ $value }} trades twice",
        description="Committed twice as a read_committed consumer sees it. The budget is zero.",
    ),
    Alert(
        name="IngestAuditFault",
        group="audit",
        severity="page",
        # Neither an auditor that ends or starts again nor an audit of later hours resolves what was found.
        expr="ingest:audit_other_faults:open > 0",
        summary="The audit found {{ $value }} altered or misplaced records",
        description="Altered, out of order, in a wrong partition, or recorded as void although the exchange has them.",
    ),
    Alert(
        name="IngestAuditorAbsent",
        group="audit",
        severity="page",
        expr=absent_targets('job="audit"', 5),
        keep="5m",
        summary="The auditor {{ $labels.instance }} does not answer",
        description="Losses and duplicates are not looked for while no auditor runs.",
    ),
    Alert(
        name="IngestAuditOverdue",
        group="audit",
        severity="ticket",
        expr=overdue("audit", "ingest_audit_last_timestamp_seconds"),
        summary="No audit of {{ $labels.instance }} could judge for 26 hours",
        description="The auditor has been expected for 26 hours or more, and none of its audits came to a verdict in"
        " that time: the first one hangs, each is INCONCLUSIVE, or it is restarted again and again.",
    ),
    Alert(
        name="IngestAuditInconclusive",
        group="audit",
        severity="ticket",
        # One audit with a verdict ends it: that is no dip. A restart without one is.
        expr='max_over_time(ingest_audit_verdict{verdict="INCONCLUSIVE"}[12h]) == 1'
        ' unless on (job, instance) max_over_time(ingest_audit_verdict{verdict=~"PASS|FAIL"}[12h]) == 1'
        ' and on (job, instance) count_over_time(ingest_audit_verdict{verdict="INCONCLUSIVE"}[1h] offset 11h) > 0',
        summary="Audits cannot judge",
        description="The last audits ended without a verdict; the log of the auditor says why.",
    ),
)
"""Nothing lost, nothing twice: by the independent auditor."""

FRESHNESS = (
    Alert(
        name="IngestFreshnessBurnFast",
        group="freshness",
        severity="page",
        expr=burn(14.4, "1h", "5m"),
        summary="{{ $value | humanizePercentage }} of the last hour was stale",
        description="At this speed (14.4 times) the budget of 30 days is gone in two days.",
    ),
    Alert(
        name="IngestFreshnessBurnMedium",
        group="freshness",
        severity="page",
        expr=burn(6, "6h", "30m"),
        summary="{{ $value | humanizePercentage }} of the last six hours was stale",
        description="At this speed (6 times) the budget of 30 days is gone in five days.",
    ),
    Alert(
        name="IngestFreshnessBurnSlow",
        group="freshness",
        severity="ticket",
        expr=burn(3, "1d", "2h"),
        summary="{{ $value | humanizePercentage }} of the last day was stale",
        description="At this speed (3 times) the budget of 30 days is gone in ten days.",
    ),
    Alert(
        name="IngestFreshnessBurnDrip",
        group="freshness",
        severity="ticket",
        expr=burn(1, "3d", "6h"),
        summary="{{ $value | humanizePercentage }} of the last three days was stale",
        description="The budget of 30 days is being used up as fast as it grows.",
    ),
)
"""99.9 % of the slots: two burn rates that page, two that open a ticket."""

COMPLETENESS = (
    Alert(
        name="IngestGapOld",
        group="completeness",
        severity="ticket",
        expr=f"ingest_gap_oldest_seconds{{{JOB}}} > 900",
        keep="5m",
        summary="A hole of {{ $labels.slot }} is open for {{ $value | humanizeDuration }}",
        description="Neither filled from REST nor shown to be a void (which takes ten minutes). Its symbol waits.",
    ),
    Alert(
        name="IngestSymbolFrozen",
        group="completeness",
        severity="page",
        expr=mostly(f"ingest_symbols_frozen{{{JOB}}}", "2m", "0"),
        keep="5m",
        summary="{{ $value }} symbols of {{ $labels.slot }} are frozen",
        description="Nothing of them is written until history confirms their ids or an operator decides; see /status.",
    ),
    Alert(
        name="IngestVoidRecorded",
        group="completeness",
        severity="ticket",
        expr=grew("ingest_voids_total", "1h", by="slot, reason", matchers='reason!="operator"'),
        summary="Ids were recorded as void ({{ $labels.reason }})",
        description="The exchange does not have them, or they cannot be written. Rare: worth a look at each.",
    ),
    Alert(
        name="IngestRejected",
        group="completeness",
        severity="ticket",
        expr=grew("ingest_rejected_total", "15m", by="slot, reason"),
        summary="Messages were rejected ({{ $labels.reason }})",
        description="Their bytes are in the dead-letter topic. A new reason usually means a change of the exchange's.",
    ),
    Alert(
        name="IngestDeadLettersDropped",
        group="completeness",
        severity="ticket",
        expr=grew("ingest_dead_letters_dropped_total", "15m"),
        summary="{{ $labels.slot }} dropped dead letters",
        description="More than the bound for a minute: evidence is lost, trades are not.",
    ),
    Alert(
        name="IngestTradesShed",
        group="completeness",
        severity="ticket",
        expr=grew("ingest_trades_shed_total", "10m"),
        summary="{{ $labels.slot }} drops live trades to keep its memory bounded",
        description="They are read again from REST by their ids once Kafka takes data. Kafka is slow or away.",
    ),
    Alert(
        name="IngestStreamHalted",
        group="completeness",
        severity="ticket",
        expr=mostly(f"ingest_stream_symbols_halted{{{JOB}}}", "2m", "0"),
        keep="5m",
        summary="{{ $value }} symbols of {{ $labels.stream }} are halted at {{ $labels.slot }}",
        description="Their numbers went back or jumped. Nothing of this stream is written for them; trades go on.",
    ),
    Alert(
        name="IngestBooksOutOfSync",
        group="completeness",
        severity="ticket",
        # A cold start of 1,500 books takes a quarter of an hour: the request weight allows no more.
        expr=mostly_true(
            f"(ingest_books_recorded{{{JOB}}} > bool ingest_books_in_sync{{{JOB}}})"
            f" and on (job, instance) ingest_writer_active{{{JOB}}} == 1",
            "30m",
            0.9,
        )
        + f" and count_over_time(ingest_books_recorded{{{JOB}}}[30m]) >= 20",
        keep="5m",
        summary="Order books of {{ $labels.slot }} have had no snapshot for half an hour",
        description="Their updates are written, but a reader cannot begin. REST refuses, or the weight is spent.",
    ),
    Alert(
        name="IngestStreamShed",
        group="completeness",
        severity="ticket",
        expr=grew("ingest_stream_events_total", "10m", by="slot, stream", matchers='event="shed"'),
        summary="{{ $labels.slot }} drops records of {{ $labels.stream }} to keep the trades' memory",
        description="Each interruption is declared in the topic. Kafka is slow or away.",
    ),
    Alert(
        name="IngestStreamDisagrees",
        group="completeness",
        severity="ticket",
        expr=grew("ingest_stream_events_total", "15m", by="slot, stream", matchers='event="disagreement"'),
        summary="Events of {{ $labels.stream }} leave trades out that they should name",
        description="Ids that the exchange does not have, or a fault of its own: compare with IngestVoidRecorded.",
    ),
)
"""Completeness, as the service itself sees it."""
