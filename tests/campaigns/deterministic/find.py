"""``python -m tests.campaigns.deterministic.find [limit]``: the first seed that catches each planted fault."""

import logging
import sys
import time

from tests.campaigns.chaos.mutants import DETERMINISTIC, MUTANTS, Applied
from tests.campaigns.deterministic.scenario import run


def main(limit: int = 2000) -> int:
    logging.disable(logging.CRITICAL)
    survived = 0
    for name in DETERMINISTIC:
        began = time.process_time()
        with Applied(name):
            caught = next(
                (
                    (seed, found)
                    for seed in range(MUTANTS[name].first, limit)
                    if (found := run(seed, streams=MUTANTS[name].streams).problems)
                ),
                None,
            )
        survived += caught is None
        seed, found = caught or (limit, ["SURVIVED"])
        sys.stdout.write(
            f"{name:36} {seed + 1:5} of {MUTANTS[name].seeds:5} seeds, {time.process_time() - began:5.1f} s CPU  "
            f"{found[0][:90]}\n"
        )
        sys.stdout.flush()
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
