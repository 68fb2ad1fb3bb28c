"""One-minute bars with Spark, from the topic to its head. Needs pyspark and the packages that the command names.

spark-submit --packages org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0,org.apache.spark:spark-avro_2.13:4.2.0 \
    docs/examples/spark_bars.py
"""

import argparse
import json
import sys
import urllib.request

from pyspark.sql import SparkSession
from pyspark.sql import functions as f
from pyspark.sql.avro.functions import from_avro


def schema_of(registry: str, topic: str) -> str:
    """The latest schema of the topic's values."""
    url = f"{registry}/subjects/{topic}-value/versions/latest"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # without http_proxy, as the service
    with direct.open(url, timeout=10) as answer:
        return str(json.load(answer)["schema"])


def main() -> int:
    """Print the bars as CSV."""
    parser = argparse.ArgumentParser(description="One-minute bars with Spark.")
    parser.add_argument("--bootstrap-servers", default="127.0.0.1:29092")
    parser.add_argument("--schema-registry-url", default="http://127.0.0.1:8081/apis/ccompat/v7")
    parser.add_argument(
        "--kafka-option", action="append", default=[], metavar="NAME=VALUE",
        help="of the Java client, repeatable, e.g. security.protocol=SASL_PLAINTEXT",
    )  # fmt: skip
    parser.add_argument("--topic", default="market.crypto.trades.binance")
    arguments = parser.parse_args()
    try:
        schema = schema_of(arguments.schema_registry_url, arguments.topic)
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"schema registry {arguments.schema_registry_url}: {error}\n")
        return 2
    spark = SparkSession.builder.appName("bars").config("spark.sql.session.timeZone", "UTC").getOrCreate()
    raw = (
        spark.read.format("kafka")  # readStream for a stream
        .option("kafka.bootstrap.servers", arguments.bootstrap_servers)
        .options(**{f"kafka.{one.partition('=')[0]}": one.partition("=")[2] for one in arguments.kafka_option})
        .option("kafka.isolation.level", "read_committed")  # Spark's default reads aborted transactions, too
        .option("subscribe", arguments.topic)  # never subscribePattern: positions and dead letters are no Avro
        .load()
    )
    # Five bytes of the Confluent wire format precede the Avro body.
    trades = raw.select(from_avro(f.expr("substring(value, 6)"), schema).alias("t")).select("t.*")
    # The product of two DECIMAL(38, 8) is DECIMAL(38, 6) in Spark. Cast first, and it is exact.
    value = f.col("price").cast("decimal(18,8)") * f.col("quantity").cast("decimal(18,8)")
    bars = (
        trades.groupBy("symbol", f.date_trunc("minute", "timestamp").alias("minute"))
        .agg(
            f.min_by("price", "source_sequence").alias("open"),
            f.max("price").alias("high"),
            f.min("price").alias("low"),
            f.max_by("price", "source_sequence").alias("close"),
            f.sum("quantity").alias("volume"),
            f.sum(value).alias("quote_volume"),
            f.count("*").alias("trades"),
        )
        .orderBy("symbol", "minute")
    )
    sys.stdout.write(",".join(bars.columns) + "\n")
    for row in bars.toLocalIterator():
        sys.stdout.write(",".join(str(value) for value in row) + "\n")
    spark.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
