"""K2 Ingest: Binance spot trades into Apache Kafka, exactly once."""

__version__ = "0.2.0"
