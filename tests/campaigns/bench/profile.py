"""``make profile``: where the time of the whole service goes at saturation: a flame graph, and a table of functions.

py-spy samples the service from outside, native frames left out: the share of a Python line includes what it calls in C.
It sees nothing of compiled functions, so that the flame graph is that of the plain sources; threads are told for both.
"""

import argparse
import collections
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

from tests.campaigns.bench.cases import SATURATED
from tests.campaigns.bench.environment import OTHERS, BenchEnvironment, Case, on_core
from tests.campaigns.bench.run import REPORTS
from tests.harness.kafka import KafkaBroker
from tests.harness.processes import ROOT
from tests.harness.registry import Registry

PER_SECOND = 250


def sampler() -> str:
    """Path of py-spy."""
    beside = Path(sys.executable).parent / "py-spy"
    found = str(beside) if beside.exists() else shutil.which("py-spy")
    if found is None:
        raise SystemExit("no py-spy: install it beside this Python (pip install py-spy)")
    return found


def record(lab: BenchEnvironment, trades: int, svg: Path, folded: Path) -> None:
    """Sample the service while it takes so many trades."""
    process = lab.clients[0].process
    assert process is not None
    stop = threading.Event()

    def feed() -> None:
        while not stop.is_set():
            lab.transfer(trades)

    feeding = threading.Thread(target=feed)
    feeding.start()
    try:
        for form, path in (("flamegraph", svg), ("raw", folded)):
            subprocess.run(
                [sampler(), "record", "--pid", str(process.pid), "--format", form, "--output", str(path),
                 "--rate", str(PER_SECOND), "--duration", "8"],
                check=True, capture_output=True, timeout=120,
            )  # fmt: skip
    finally:
        stop.set()
        feeding.join()


def table(folded: Path, rows: int = 25) -> str:
    """The functions that are on top of the stack most often."""
    tops: collections.Counter[str] = collections.Counter()
    for line in folded.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        name = re.sub(r":\d+\)$", ")", stack.split(";")[-1])
        tops[name] += int(count)
    total = sum(tops.values())
    return "\n".join(f"{count / total:6.1%}  {name}" for name, count in tops.most_common(rows))


def threads(lab: BenchEnvironment, trades: int) -> str:
    """CPU of each thread as the kernel counts it, microseconds per trade.

    py-spy shows a thread that waits for the interpreter's lock as working: this is what each really needs.
    """
    process = lab.clients[0].process
    assert process is not None

    def used() -> dict[tuple[str, str], int]:
        tasks = Path(f"/proc/{process.pid}/task")
        return {
            (task.name, (task / "comm").read_text().strip()): int((task / "schedstat").read_text().split()[0])
            for task in tasks.iterdir()
        }

    before = used()
    lab.transfer(trades)
    costs = sorted(((now - before.get(key, 0)) / trades / 1e3, key[1]) for key, now in used().items())
    return "\n".join(f"{cost:6.2f}  {name}" for cost, name in reversed(costs) if cost >= 0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transport", default="websockets", choices=("websockets", "picows"))
    parser.add_argument("--trades", type=int, default=200_000)
    options = parser.parse_args()
    sampler()
    REPORTS.mkdir(parents=True, exist_ok=True)
    svg, folded = REPORTS / "profile.svg", REPORTS / "profile.folded"
    case = Case(options.transport, settings=SATURATED)
    with tempfile.TemporaryDirectory() as name, Registry() as registry:
        with on_core(OTHERS):
            broker = KafkaBroker(Path(name) / "kafka")
            broker.start()
        try:
            by_thread = []
            for build in (case, replace(case, compiled=False)):
                with BenchEnvironment(build, Path(name), broker.bootstrap_servers, registry) as lab:
                    lab.warm_up(options.trades // 4)
                    title = "compiled" if build.compiled else "not compiled"
                    by_thread.append(f"{title}:\n{threads(lab, options.trades)}")
                    if not build.compiled:
                        record(lab, options.trades, svg, folded)
        finally:
            broker.stop()
    svg.write_text(svg.read_text().replace(sys.executable, "python").replace(f"{ROOT}{os.sep}", ""))
    text = "\n".join((table(folded), "", "CPU \N{MICRO SIGN}s per trade by thread", *by_thread))
    (REPORTS / "profile.txt").write_text(text + "\n")
    print(text)  # noqa: T201 -- the command's output
    print(f"{os.path.relpath(svg)}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main()
