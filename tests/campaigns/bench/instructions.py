"""Instructions per trade, stage by stage, as valgrind counts them: repeatable where a clock is not.

``make bench-instructions`` prints them beside the committed figures; with ``--update`` it replaces those. The count of
a stage is that of its work alone: what imports and preparations cost lies before the first mark. Kernel and broker are
not in it.

Exit code 0: no figure is more than 2 % above the committed one; 1: one is; 2: they are of another build of Python or of
the libraries and cannot be compared.
"""

import argparse
import gc
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.harness import compiled
from tests.harness.processes import ROOT, Process

FIGURES = Path(__file__).with_name("instructions.json")
MEASURED = 3000
ALLOWED = 0.02
"""Between two measurements of the same sources on the same build lies less."""
MORE_MEASUREMENTS = 2
WARM_UP = 1200
BY_OTHERS = ("msgspec", "websockets", "picows")
PLAIN, COMPILED = "instructions", "compiled"
"""The figures of the sources as they are, and of the build whose hot path is compiled."""


class MeasurementFailedError(Exception):
    """Valgrind did not deliver: the text says what it said."""


def build() -> dict[str, str]:
    """What the counts depend on besides our code."""
    key = {
        "python": sys.version,
        "mypy": version("mypy"),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
    }
    return key | {name: version(name) for name in BY_OTHERS if importlib.util.find_spec(name)}


def _stages(source: dict[str, str]) -> dict[str, Callable[[int], Any]]:
    from tests.campaigns.bench import stages  # late: only the child needs what it imports

    found: dict[str, Callable[[int], Any]] = {
        "reference": stages.reference,
        "receive_websockets": stages.receiving("websockets", source),
    }
    if importlib.util.find_spec("picows") and importlib.util.find_spec("ingest.binance.picows_transport"):
        found["receive_picows"] = stages.receiving("picows", source)
    return found | {
        "decode": stages.decoding,
        "connection": stages.connecting,
        "sequence": stages.sequencing,
        "encode": stages.encoding,
        "queue": stages.queueing,
        "pipeline": stages.pipelining,
        "write": stages.writing,
    }


def _child(source: dict[str, str]) -> None:
    """Run every stage; the system call is the mark at which callgrind writes down what it has counted."""
    stages = _stages(source)
    gc.freeze()  # as the service does: else what is imported is counted with each full collection
    for stage in stages.values():
        work = stage(WARM_UP + MEASURED)
        next(work)
        work.send(WARM_UP)
        gc.collect()  # else chance decides how many of the collector's passes are counted: one costs some percent
        os.getppid()
        work.send(MEASURED)
        os.getppid()
        work.close()


def measure(tree: Path = ROOT) -> dict[str, int]:
    """Instructions per trade of each stage, of the package in ``tree``. Raises ``MeasurementFailedError``."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        ready = directory / "source.ready.json"
        command = [sys.executable, "-m", "tests.campaigns.bench.source", "--symbols", "100", "--ready-file", str(ready)]
        with Process("source", command, directory=directory, environment=os.environ) as source:
            out = directory / "callgrind"
            done = subprocess.run(
                [
                    "valgrind", "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={out}",
                    sys.executable, "-m", "tests.campaigns.bench.instructions", "--child", json.dumps(source.ready),
                ],
                cwd=tree,
                env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONMALLOC": "pymalloc"},
                capture_output=True, text=True, check=False, timeout=1800,
            )  # fmt: skip
            if done.returncode:
                raise MeasurementFailedError(f"valgrind ended with {done.returncode}:\n{done.stderr[-3000:]}")
            names = list(_stages({"ws_url": ""}))
            return {
                # Parts are numbered from 1; the even ones end with the second mark of a stage.
                stage: _total(Path(f"{out}.{2 * number + 2}")) // MEASURED
                for number, stage in enumerate(names)
            }


def least(tree: Path, excess: Callable[[Mapping[str, int]], Mapping[str, object]]) -> dict[str, int]:
    """Measure, and again while there is an excess; returns the least of each stage. Raises ``MeasurementFailedError``.

    A starved machine delivers in smaller parts, and every wake-up costs: that only ever adds to what is measured.
    """
    counts = measure(tree)
    for _ in range(MORE_MEASUREMENTS):
        if not excess(counts):
            break
        again = measure(tree)
        counts = {stage: min(count, again[stage]) for stage, count in counts.items()}
    return counts


def above(counts: Mapping[str, int], committed: Mapping[str, int]) -> dict[str, float]:
    """Stage -> relative change, where it is more than is allowed. The reference is no work of ours."""
    changes = {stage: counts[stage] / committed[stage] - 1 for stage in counts.keys() & committed.keys()}
    return {stage: change for stage, change in changes.items() if change > ALLOWED and stage != "reference"}


def _total(part: Path) -> int:
    found = re.search(r"^(?:totals|summary): (\d+)", part.read_text(), re.MULTILINE)
    if found is None:
        raise MeasurementFailedError(f"{part.name} has no total")
    return int(found[1])


def trees() -> dict[str, Path]:
    """Name of the figures -> where the package is that they are of."""
    return {PLAIN: ROOT, COMPILED: compiled.tree()}


def per_trade(counts: Mapping[str, int]) -> dict[str, int]:
    """Our code's instructions per trade on the whole way, by transport."""
    rest = sum(counts[stage] for stage in ("connection", "pipeline", "write"))
    return {stage.removeprefix("receive_"): counts[stage] + rest for stage in counts if stage.startswith("receive_")}


def main() -> int:
    """Measure, print and compare; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true", help="replace the committed figures")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child(json.loads(options.child))
        return 0
    committed = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    comparable = committed.get("build") == build() and not options.update
    found: dict[str, dict[str, int]] = {}
    for name, tree in trees().items():
        figures = committed.get(name, {})
        found[name] = least(tree, partial(above, committed=figures if comparable else {}))
        sys.stdout.write("\n".join(_table(name, found[name], figures)) + "\n")
        sys.stdout.flush()
    if options.update:
        FIGURES.write_text(json.dumps({"build": build(), **found}, indent=2) + "\n")
        return 0
    return _verdict(found, committed) if comparable else _not_comparable()


def _table(name: str, counts: Mapping[str, int], committed: Mapping[str, int]) -> list[str]:
    lines = [f"{name:22} {'per trade':>10} {'committed':>10} {'change':>8}"]
    for stage, count in counts.items():
        before = committed.get(stage)
        change = f"{count / before - 1:+.1%}" if before else ""
        lines.append(f"{stage:22} {count:>10,} {before or '':>10} {change:>8}")
    return lines + [f"{'all, ' + client:22} {total:>10,}" for client, total in per_trade(counts).items()]


def _verdict(found: Mapping[str, Mapping[str, int]], committed: Mapping[str, Mapping[str, int]]) -> int:
    more = [
        f"{stage} ({name}) {change:+.1%}"
        for name, counts in found.items()
        for stage, change in above(counts, committed[name]).items()
    ]
    text = f"above the committed figures by more than {ALLOWED:.0%}: {', '.join(more) or 'none'}"
    sys.stdout.write(f"{text}\n")
    return 1 if more else 0


def _not_comparable() -> int:
    sys.stdout.write("the committed figures are of another build of Python or of the libraries: nothing is compared\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
