"""Is anything missing? A consumer can tell by itself: ids are contiguous but for the voids, which are on record.

    python docs/examples/continuity.py --bootstrap-servers localhost:9092

Exit code 0 where every symbol is complete, 1 where an id is missing, doubled or out of order.
"""

import json
import sys

from trades import options, records, trades


def main() -> int:
    """Check the whole topic."""
    arguments = options("Verify that every symbol's trade ids are complete, single and in order.").parse_args()
    voids: dict[tuple[str, int], int] = {}
    for key, value in records(arguments, f"{arguments.topic}.positions"):
        if key.startswith(b"void:"):
            void = json.loads(value)
            voids[void["symbol"], void["first_id"]] = void["last_id"]

    due: dict[str, int] = {}
    wrong = seen = 0
    for trade in trades(arguments):
        symbol, trade_id = trade["symbol"], trade["source_sequence"]
        expected = due.get(symbol, trade_id)
        while (symbol, expected) in voids:  # the exchange could not give these back
            expected = voids[symbol, expected] + 1
        if trade_id != expected:
            wrong += 1
            sys.stdout.write(f"{symbol}: {trade_id} where {expected} is due\n")
        due[symbol] = trade_id + 1
        seen += 1
    sys.stdout.write(f"{seen:,} trades of {len(due)} symbols, {wrong} out of place\n")
    return 1 if wrong or not seen else 0


if __name__ == "__main__":
    sys.exit(main())
