"""``python -m tests.campaigns.deterministic [first [count]] [streams]``: play seeds and say which fail."""

import logging
import sys
import time

from tests.campaigns.deterministic.scenario import run


def main(first: int = 0, count: int = 1000, *, streams: bool = False) -> int:
    logging.disable(logging.CRITICAL)
    began = time.monotonic()
    failed, faults, trades, late = 0, 0, 0, 0
    for seed in range(first, first + count):
        result = run(seed, streams=streams)
        faults, trades, late = faults + result.faults, trades + result.trades, late + result.late_ends
        if result.problems:
            failed += 1
            sys.stdout.write(f"seed {seed}: {'; '.join(result.problems[:5])}\n")
            sys.stdout.flush()
    seconds = time.monotonic() - began
    sys.stdout.write(
        f"{count:,} seeds, {faults:,} faults, {trades:,} trades, {late} late EndTxn that ended another transaction, "
        f"{seconds:.1f} s ({count / seconds * 60:,.0f} seeds a minute): {failed} failed\n"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    numbers = [int(one) for one in sys.argv[1:] if one != "streams"]
    sys.exit(main(*numbers, streams="streams" in sys.argv))
