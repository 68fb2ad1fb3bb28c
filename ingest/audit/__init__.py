"""``ingest audit``: compares the topic with the exchange's own trades. Shares no code with the writer."""
