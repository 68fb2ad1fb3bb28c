"""librdkafka's mock broker in a process of its own: ``python -m tests.campaigns.bench.mock_broker --ready-file PATH``.

It keeps records in memory, forgets all but the last megabytes, writes no disk and collects no garbage: what differs
from the run on the real Kafka is Kafka's share of the noise, and what its answers cost the client.
"""

import argparse
import json
import os
import signal
from pathlib import Path

from tests.harness.mock_kafka import MockKafka


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ready-file", type=Path, required=True)
    options = parser.parse_args()
    stop = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    with MockKafka() as broker:
        partial = options.ready_file.with_suffix(".partial")
        partial.write_text(json.dumps({"pid": os.getpid(), "bootstrap_servers": broker.bootstrap_servers}))
        partial.replace(options.ready_file)
        signal.sigwait(stop)


if __name__ == "__main__":
    main()
