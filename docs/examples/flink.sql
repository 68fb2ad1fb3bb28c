-- The trades topic as a table of Flink SQL, and one-minute bars. Flink reads committed transactions alone only when told.
CREATE TABLE trades (
  `symbol` STRING,
  `source_sequence` BIGINT,
  `price` DECIMAL(38, 8),
  `quantity` DECIMAL(38, 8),
  `side` STRING,
  `timestamp` TIMESTAMP(6),
  WATERMARK FOR `timestamp` AS `timestamp` - INTERVAL '2' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = 'market.crypto.trades.binance',
  'properties.bootstrap.servers' = 'kafka:9092',
  'properties.isolation.level' = 'read_committed',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'avro-confluent',
  'avro-confluent.url' = 'http://schema-registry:8081'
);

SELECT `symbol`, window_start, COUNT(*) AS trades, SUM(`quantity`) AS volume, MIN(`price`) AS low, MAX(`price`) AS high
FROM TABLE(TUMBLE(TABLE trades, DESCRIPTOR(`timestamp`), INTERVAL '1' MINUTE))
GROUP BY `symbol`, window_start, window_end;
