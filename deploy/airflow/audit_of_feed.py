"""The auditor that reports and deployments call: of the topic that the slots write, against the books of its trades.

Which topic that is, the slots say at ``/status``; the simulator's is held against its ledger, any other against the
exchange's history. Arguments are the auditor's own and go through; so do its exit codes. Also 2, it could not judge,
where no slot answers or two name different topics: the wrong topic audited would be a pass that says nothing.
"""

import json
import os
import sys
import urllib.request
from collections.abc import Iterable, Mapping, Sequence

SLOTS = ("http://ingest-blue:9095", "http://ingest-green:9095")
SIMULATOR = "http://simulator:9444"
EXCHANGE = "https://api.binance.com"
CANNOT_JUDGE = 2
ANSWER_SECONDS = 5.0
MOST_BYTES = 1024 * 1024
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""The slots are on the stack's own network: the environment's proxy is not used."""


def topics(slots: Iterable[str]) -> set[str]:
    """What the slots that answer write, or would."""
    found = set()
    for address in slots:
        try:
            with DIRECT.open(f"{address}/status", timeout=ANSWER_SECONDS) as answer:
                found.add(str(json.loads(answer.read(MOST_BYTES))["topic"]))
        except (OSError, RecursionError, ValueError, KeyError, TypeError) as error:
            # One of the two usually is stopped, and its name unknown.
            sys.stderr.write(f"{address} does not say its topic: {error!r}\n")
    return found


def command(topic: str, environment: Mapping[str, str], arguments: Sequence[str]) -> list[str]:
    """The auditor's command line for a topic."""
    simulated = topic == environment["SIMULATED_TOPIC"]
    books = (
        f"--ledger={SIMULATOR}" if simulated else f"--ledger-rest={environment.get('K2_BINANCE_REST_URL') or EXCHANGE}"
    )
    return [
        sys.executable,
        "-m",
        "ingest",
        "audit",
        f"--bootstrap-servers={environment['K2_KAFKA_BOOTSTRAP_SERVERS']}",
        f"--schema-registry-url={environment['K2_KAFKA_SCHEMA_REGISTRY_URL']}",
        f"--topic={topic}",
        books,
        *arguments,
    ]


def main() -> None:
    """Become the auditor, or raise ``SystemExit`` where it is not known what to audit."""
    found = topics(SLOTS)
    if len(found) != 1:
        text = f"the slots write different topics: {sorted(found)}" if found else "no slot says what it writes"
        sys.stderr.write(f"no audit: {text}\n")
        raise SystemExit(CANNOT_JUDGE)
    line = command(found.pop(), os.environ, sys.argv[1:])
    os.execv(line[0], line)  # noqa: S606 - our own program


if __name__ == "__main__":
    main()
