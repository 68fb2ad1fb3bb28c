-- The trades topic as a table of Flink SQL, and one-minute bars. Runs on Flink 2.3 with the connectors kafka (5.0.0-2.2)
-- and avro-confluent-registry. Addresses: the compose stack's, from its host; from inside it is kafka:9092 and
-- http://schema-registry:8080/apis/ccompat/v7.
CREATE TABLE trades (
  `symbol` STRING NOT NULL, -- as in the schema: Flink compares what may be null, too
  `source_sequence` BIGINT,
  `price` DECIMAL(38, 8) NOT NULL,
  `quantity` DECIMAL(38, 8) NOT NULL,
  `side` STRING NOT NULL,
  `timestamp` BIGINT NOT NULL, -- microseconds: Flink's Avro format knows timestamps in milliseconds alone
  `traded_at` AS TO_TIMESTAMP_LTZ(`timestamp` / 1000, 3),
  WATERMARK FOR `traded_at` AS `traded_at` - INTERVAL '2' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = 'market.crypto.trades.binance',
  'properties.bootstrap.servers' = '127.0.0.1:29092',
  -- From the host of the compose stack also: properties.security.protocol, properties.sasl.mechanism and
  -- properties.sasl.jaas.config, see docs/how_to/read_with_other_engines.md.
  'properties.isolation.level' = 'read_committed', -- Flink's default reads aborted transactions, too
  'scan.startup.mode' = 'earliest-offset',
  'scan.watermark.idle-timeout' = '15 s', -- a partition without trades must not hold back the windows
  'format' = 'avro-confluent',
  'avro-confluent.url' = 'http://127.0.0.1:8081/apis/ccompat/v7',
  -- The reader's schema: without it an enum cannot be read as STRING.
  'avro-confluent.schema' = '{
    "type": "record", "name": "TradeV2", "namespace": "com.k2.marketdata", "fields": [
      {"name": "symbol", "type": "string"},
      {"name": "source_sequence", "type": ["null", "long"], "default": null},
      {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 8}},
      {"name": "quantity", "type": {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 8}},
      {"name": "side", "type": {"type": "enum", "name": "TradeSide",
                                "symbols": ["BUY", "SELL", "SELL_SHORT", "UNKNOWN"]}},
      {"name": "timestamp", "type": "long"}
    ]
  }'
);

-- The product of two DECIMAL(38, 8) is DECIMAL(38, 6) in Flink: two digits are lost. Cast first, and it is exact.
SELECT
  `symbol`,
  window_start,
  COUNT(*) AS trades,
  MIN(`price`) AS low,
  MAX(`price`) AS high,
  SUM(`quantity`) AS volume,
  SUM(CAST(`price` AS DECIMAL(18, 8)) * CAST(`quantity` AS DECIMAL(18, 8))) AS quote_volume
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(`traded_at`), INTERVAL '1' MINUTE))
GROUP BY `symbol`, window_start, window_end;
