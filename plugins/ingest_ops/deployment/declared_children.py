"""The children that every supported version exposes from its start, by metric.

A gate that holds the candidate's children against the predecessor's alone would not see what both have lost. A reason
that a version adds belongs here once no version without it is deployed any more. A test compares these with the
service.
"""

DECLARED: dict[str, frozenset[str]] = {
    "binance_reconnects_total": frozenset({
        "closed_by_exchange", "connection_lost", "handshake_refused", "dns", "refused", "timeout", "tls",
        "frame_too_large", "protocol_error",
    }),
    "binance_stalls_total": frozenset({"connection", "symbol"}),
    "ingest_rejected_total": frozenset({
        "malformed_json", "not_an_event", "missing_field", "wrong_type", "bad_decimal", "implausible_time",
        "implausible_range",        "unknown_symbol", "content_mismatch", "out_of_sequence", "too_large",
    }),
    "ingest_voids_total": frozenset({"exchange_hole", "unrepresentable", "too_large", "operator"}),
}  # fmt: skip
