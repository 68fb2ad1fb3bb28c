"""Instructions per trade, stage by stage, as valgrind counts them: repeatable where a clock is not.

``make bench-instructions`` prints them beside the committed figures; with ``--update`` it replaces those. The count of
a stage is that of its work alone: what imports and preparations cost lies before the first mark. Kernel and broker are
not in it.
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
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.harness import compiled
from tests.harness.processes import ROOT, Process

FIGURES = Path(__file__).with_name("instructions.json")
MEASURED = 3000
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true", help="replace the committed figures")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child(json.loads(options.child))
        return
    committed = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    found = {name: measure(tree) for name, tree in trees().items()}
    lines = []
    for name, counts in found.items():
        lines.append(f"{name:22} {'per trade':>10} {'committed':>10} {'change':>8}")
        for stage, count in counts.items():
            before = committed.get(name, {}).get(stage)
            change = f"{count / before - 1:+.1%}" if before else ""
            lines.append(f"{stage:22} {count:>10,} {before or '':>10} {change:>8}")
        lines += [f"{'all, ' + client:22} {total:>10,}" for client, total in per_trade(counts).items()]
    print("\n".join(lines))  # noqa: T201 -- the command's output
    if options.update:
        FIGURES.write_text(json.dumps({"build": build(), **found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
