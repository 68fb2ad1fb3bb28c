"""Check that nothing is missing: ids are contiguous per symbol, but for the recorded voids.

    python docs/examples/continuity.py

Exit code 0 if every symbol is complete, 1 if an id is missing, doubled or out of order, 2 if it could not be judged.
"""

import sys

from trades import options, reader

from ingest.reader import Deleted, Gap, ReaderError, Trade, Void


def main() -> int:
    """Check the topic from where ``--from`` says to its head."""
    arguments = options("Verify that every symbol's trade ids are complete, single and in order.").parse_args()
    symbols: set[str] = set()
    seen = wrong = voids = 0
    try:
        with reader(arguments) as records:
            for record in records:
                match record:
                    case Trade():
                        seen += 1
                        symbols.add(record.symbol)
                    case Void():
                        voids += record.last_id - record.first_id + 1
                    case Deleted():
                        wrong += 1
                        sys.stdout.write(f"{record}\n")
                    case Gap():
                        wrong += 1
                        sys.stdout.write(f"{record.symbol}: id {record.found_id}, expected {record.expected_id}\n")
    except ReaderError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{seen:,} trades of {len(symbols)} symbols, {wrong} out of place, {voids} ids void\n")
    return 1 if wrong else 0 if seen else 2


if __name__ == "__main__":
    sys.exit(main())
