"""``ingest audit``: holds the topic against the exchange's own books. Shares no code with the writer."""
