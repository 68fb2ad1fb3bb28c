"""``make fleet``: instances that get their shards from Kafka are killed, frozen, cut in two, added and removed.

Environment: ``FAULTS`` (40), ``SEED`` (1), ``SYMBOLS`` (60), ``RATE`` (1000 trades/s), ``SHARDS`` (6), ``INSTANCES``
(3), ``STANDBYS`` (0 or 1). The exchange has its real limits, and all instances have one address. After each fault the
next waits until every shard is written by its owner. Writes ``reports/fleet/summary.json``; exit code 0 only if the
audit is clean, no two writers committed to one shard, and no limit was exceeded.
"""

import sys

from tests.campaigns.fleet.environment import Plan
from tests.campaigns.fleet.runner import run

if __name__ == "__main__":
    sys.exit(run(Plan.of_environment()))
