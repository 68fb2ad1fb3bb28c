"""Print trades from any place of the topic, as they are or as they come.

    python docs/examples/trades.py --symbol BTCUSDT --from 2026-01-31T12:00Z --follow
    python docs/examples/trades.py --symbol BTCUSDT --from id:4711 --limit 10

Memory stays the same however long the topic is.
"""

import argparse
import sys
from itertools import islice
from pathlib import Path

from ingest.reader import Reader, ReaderError, Start, Trade


def options(description: str, kind: str = "trades") -> argparse.ArgumentParser:
    """The options that every example has; the defaults are the compose stack's. ``kind``: of the topic."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--bootstrap-servers", default="127.0.0.1:29092", help="default: %(default)s")
    parser.add_argument(
        "--client-config", type=Path, metavar="FILE",
        help="options of librdkafka, one name=value a line; the compose stack's: secrets/kafka_reader.properties",
    )  # fmt: skip
    parser.add_argument(
        "--schema-registry-url",
        default="http://127.0.0.1:8081/apis/ccompat/v7",
        help="Confluent's own has no path; default: %(default)s",
    )
    parser.add_argument(
        "--topic", default=f"market.crypto.{kind}.binance",
        help=f"the compose stack's profile sim writes simulated.crypto.{kind}.binance; default: %(default)s",
    )  # fmt: skip
    parser.add_argument("--symbol", action="append", default=[], help="repeatable; default: all")
    parser.add_argument(
        "--from", dest="start", default="earliest", metavar="WHERE",
        help="earliest, latest, id:<trade id> or a time such as 2026-01-31T12:00Z; default: %(default)s",
    )  # fmt: skip
    parser.add_argument("--follow", action="store_true", help="go on at the head of the topic")
    return parser


def reader(arguments: argparse.Namespace) -> Reader:
    """A reader with these options. Raises ``ReaderError``."""
    return Reader(
        arguments.topic,
        symbols=arguments.symbol,
        start=Start.parse(arguments.start, tuple(arguments.symbol)),
        follow=arguments.follow,
        bootstrap_servers=arguments.bootstrap_servers,
        schema_registry_url=arguments.schema_registry_url,
        options=client_options(arguments.client_config),
    )


def client_options(path: Path | None) -> dict[str, str]:
    """The options in a file, if one is given. Raises ``ReaderError``."""
    if path is None:
        return {}
    try:
        lines = [line.partition("=") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ReaderError(f"{path} cannot be read: {error}") from error
    return {name.strip(): value.strip() for name, _, value in lines}


def main() -> int:
    """Print one line for each trade, void and gap."""
    parser = options("Print trades.")
    parser.add_argument("--limit", type=int, help="stop after so many lines")
    arguments = parser.parse_args()
    try:
        with reader(arguments) as records:
            for record in islice(records, arguments.limit):
                if isinstance(record, Trade):
                    line = (
                        f"{record.timestamp.isoformat()} {record.symbol} {record.source_sequence} {record.side} "
                        f"{record.price} x {record.quantity}"
                    )
                else:
                    line = str(record)
                sys.stdout.write(line + "\n")
    except ReaderError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
