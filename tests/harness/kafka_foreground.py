"""The real Kafka in the foreground: ``python -m tests.harness.kafka_foreground`` (``make kafka``)."""

import argparse
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.harness.kafka import KafkaBroker, KafkaCluster, KafkaUnavailable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one broker, or three that replicate, in the foreground until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.harness.kafka_foreground", description=main.__doc__)
    parser.add_argument("--port", type=int, help="port for clients (default: a free one)")
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=1, help="three have a replication factor of 3")
    parser.add_argument("--ready-file", type=Path, help="JSON with pid and bootstrap servers, once it answers")
    options = parser.parse_args(arguments)
    stop = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    if options.port is not None and _taken(options.port):
        sys.stderr.write(f"port {options.port} is taken: stop what has it, or choose another with --port\n")
        return 1
    sys.stderr.write("Kafka starts\n")
    try:
        with contextlib.ExitStack() as running:
            started = _started(options.nodes, options.port, running)
            sys.stdout.write(f"{started.bootstrap_servers}\n")
            sys.stdout.flush()
            if options.ready_file is not None:
                options.ready_file.write_text(
                    json.dumps({"pid": os.getpid(), "bootstrap_servers": started.bootstrap_servers})
                )
            signal.sigwait(stop)
    except KafkaUnavailable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _started(nodes: int, port: int | None, running: contextlib.ExitStack) -> KafkaBroker | KafkaCluster:
    if nodes == 1:
        return running.enter_context(KafkaBroker(port=port))
    directory = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="k2-kafka-")))
    return running.enter_context(KafkaCluster(directory, port=port))


def _taken(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what is only lingering does not count
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


if __name__ == "__main__":
    sys.exit(main())
