"""``make bench``: the whole service against the plain path, in one interleaved run; JSON and HTML in reports/bench/.

Ratios are what counts: the cases of a round run one after the other, rounds are repeated and medians taken, so that
what else the machine does hits all alike. The client has a core of its own; source, brokers and consumer share another.
"""

import argparse
import contextlib
import datetime as dt
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ingest_ops.render import envelope, write_report
from tests.campaigns.bench import instructions
from tests.campaigns.bench.cases import EXPECTED, NORMAL_SECONDS, PARTS, Bench, saturation
from tests.campaigns.bench.clients import MockBrokerProcess
from tests.campaigns.bench.environment import CORES, OTHERS, on_core
from tests.campaigns.bench.page import page, summary
from tests.harness.kafka import KafkaBroker
from tests.harness.processes import ROOT
from tests.harness.registry import Registry

REPORTS = ROOT / "reports" / "bench"


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 -- that is what it is for


@contextlib.contextmanager
def brokers(directory: Path) -> Iterator[dict[str, str]]:
    """The real Kafka and librdkafka's mock, beside each other: where they are."""
    with contextlib.ExitStack() as exit_, on_core(OTHERS):
        kafka = KafkaBroker(directory / "kafka")
        exit_.callback(kafka.stop)
        kafka.start()
        mock = exit_.enter_context(MockBrokerProcess(directory))
        yield {"kafka": kafka.bootstrap_servers, "mock": mock.bootstrap_servers}


def measure(bench: Bench, only: list[str]) -> dict[str, Any]:
    """All parts that are wanted. One that fails is named; without the first there is nothing to report."""
    results: dict[str, Any] = {}
    for part in PARTS:
        if only and part.__name__ not in only:
            continue
        began = time.monotonic()
        try:
            results[part.__name__] = part(bench, say)
        except EXPECTED as error:
            if part is saturation:
                raise
            bench.failed[part.__name__] = str(error)[:300]
            say(f"{part.__name__}: {error}")
        say(f"{part.__name__}: {time.monotonic() - began:.0f} s")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=NORMAL_SECONDS, help="about how long it takes")
    parser.add_argument("--without-instructions", action="store_true")
    parser.add_argument("--only", nargs="+", default=[], choices=[part.__name__ for part in PARTS], metavar="PART",
                        help="these parts alone, as JSON, without a report")  # fmt: skip
    options = parser.parse_args()
    now = dt.datetime.now(dt.UTC)  # noqa: TID251 -- the name of a report
    machine = {"cores": len(CORES), "python": platform.python_version(), "load_before": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as name, Registry() as registry, brokers(Path(name)) as found:
        bench = Bench(Path(name), found, registry, options.seconds)
        results: dict[str, Any] = {"machine": machine, "failed": bench.failed} | measure(bench, options.only)
    if options.only:
        print(json.dumps(results, indent=2))  # noqa: T201 -- the command's output
        return
    if not options.without_instructions:
        results["instructions"] = {key: instructions.measure(tree) for key, tree in instructions.trees().items()}
    results["summary"] = summary(results)
    results["generated_at"] = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    drawn = page(results, f"make bench BENCH_SECONDS={options.seconds:g}")
    run_id = f"{now:%Y%m%dT%H%M%SZ}"
    data = envelope(drawn, run_id=run_id, schema_version=1) | results["summary"] | results
    paths = write_report(REPORTS, run_id, json.loads(json.dumps(data)), drawn)
    print(json.dumps(results["summary"], indent=2))  # noqa: T201 -- the command's output
    say(f"report: {paths['html'].relative_to(ROOT)}")


if __name__ == "__main__":
    main()
