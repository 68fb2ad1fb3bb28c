"""The row of the streams besides the trades."""

from deploy.grafana_model import Panel

SLOT = 'job="ingest",slot=~"$slot"'

OTHER_STREAMS = (
    "Other streams",
    (
        Panel(
            title="Records committed by stream",
            queries=((f"sum by (stream) (rate(ingest_stream_records_committed_total{{{SLOT}}}[1m]))", "{{stream}}"),),
            description="Breaks and snapshots included.",
            unit="cps",
        ),
        Panel(
            title="Order books",
            queries=(
                (f"ingest_books_recorded{{{SLOT}}}", "recorded {{slot}}"),
                (f"ingest_books_in_sync{{{SLOT}}}", "in sync {{slot}}"),
            ),
            description="In sync: with a snapshot since the beginning or the last break.",
        ),
        Panel(
            title="Breaks and what else is rare",
            queries=(
                (
                    f"sum by (stream, event) (rate(ingest_stream_events_total{{{SLOT},"
                    'event=~"break|shed|void|halt|rejected|mismatch|crossed|disagreement|snapshot_refused"}[5m]))'
                    " * 60",
                    "{{stream}} {{event}}",
                ),
            ),
            description="A minute. Every break is declared in its topic.",
        ),
        Panel(
            title="Gaps and events that wait",
            queries=(
                (f"sum by (stream) (ingest_stream_gaps_open{{{SLOT}}})", "gaps {{stream}}"),
                (f"sum by (stream) (ingest_stream_held{{{SLOT}}})", "wait {{stream}}"),
            ),
            description="Symbols whose next number is missing, and events behind them or of a standby.",
        ),
        Panel(
            title="Queued of books and quotes",
            queries=((f"ingest_stream_queued_bytes{{{SLOT}}}", "{{slot}}"),),
            description="On the way to Kafka. Quotes give way beyond 24 MiB, books beyond 48 MiB.",
            unit="bytes",
        ),
    ),
)
