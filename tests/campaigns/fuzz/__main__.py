"""``make fuzz``: every oracle under atheris, guided by coverage (Linux; ``atheris.txt`` pins it).

``FUZZ_SECONDS`` (60) for each target, ``FUZZ`` names targets, ``FUZZ_JOBS`` (1) how many run at once. What is found is
printed and kept in .cache/fuzz/; executions and outcome of each target: reports/fuzz/summary.json. ``FUZZ_KEEP=1`` adds
the shortest inputs that reach new code to the corpus of the repository.
"""

import concurrent.futures
import json
import os
import re
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
CACHE = ROOT / ".cache" / "fuzz"
LIBRARY = CACHE / "lib"
SUMMARY = ROOT / "reports" / "fuzz" / "summary.json"
MAX_LENGTH = 4000
KEPT_INPUTS = 40
KEPT_BYTES = 600
_EXECUTIONS = re.compile(r"stat::number_of_executed_units:\s*([0-9]+)")
_PEAK = re.compile(r"stat::peak_rss_mb:\s*([0-9]+)")


def main() -> int:
    """Fuzz every target in a process of its own; returns the exit code."""
    if sys.argv[1:]:
        return fuzz(sys.argv[1])
    if not (LIBRARY / "atheris").is_dir():
        sys.stderr.write("atheris is not installed: make fuzz installs it. (The same oracles run with the tests.)\n")
        return 2
    from tests.campaigns.fuzz import targets

    seconds = int(os.environ.get("FUZZ_SECONDS") or "60")
    names = (os.environ.get("FUZZ") or " ".join(targets.ORACLES)).split()
    with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("FUZZ_JOBS") or "1")) as pool:
        rows = list(pool.map(lambda name: _row(name, seconds), names))
    SUMMARY.parent.mkdir(parents=True, exist_ok=True)
    total = {"seconds": sum(row["seconds"] for row in rows), "executions": sum(row["executions"] for row in rows)}
    SUMMARY.write_text(json.dumps({"schema_version": 1, **total, "targets": rows}, indent=2) + "\n")
    for row in rows:
        sys.stdout.write(
            f"{row['target']:16} {row['executions']:>12,} executions  {row['seconds']:>5} s  "
            f"{row['peak_rss_mb']:>5} MB  {row['outcome']}\n"
        )
    sys.stdout.write(f"{'all':16} {total['executions']:>12,} executions  {total['seconds']:>5} s\n")
    if os.environ.get("FUZZ_KEEP"):
        for name in names:
            _keep(name)
    return int(any(row["outcome"] != "no finding" for row in rows))


def _row(name: str, seconds: int) -> dict[str, Any]:
    began = time.monotonic()
    # The interpreter's hash seed decides the order of sets, and so what is reached: the same in every run.
    done = subprocess.run(
        [sys.executable, "-m", "tests.campaigns.fuzz", name, f"-max_total_time={seconds}"],
        check=False,
        timeout=seconds * 5 + 300,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONPATH": f".:plugins:{LIBRARY}", "PYTHONHASHSEED": "0"},
        cwd=ROOT,
    )
    (CACHE / f"{name}.log").write_text(done.stdout + done.stderr)
    if done.returncode:
        sys.stdout.write(f"--- {name}: {done.returncode}\n{(done.stdout + done.stderr)[-4000:]}\n")
    found, peak = _EXECUTIONS.search(done.stderr), _PEAK.search(done.stderr)
    return {
        "target": name,
        "executions": int(found[1]) if found else 0,
        "seconds": round(time.monotonic() - began),
        "peak_rss_mb": int(peak[1]) if peak else 0,
        "outcome": "no finding" if done.returncode == 0 and found else f"FOUND ({done.returncode})",
    }


def fuzz(name: str) -> int:
    """Fuzz one target; does not return where something is found."""
    atheris: Any = import_module("atheris")
    with atheris.instrument_imports(include=["ingest", "ingest_ops"]):  # what was imported before is not seen
        targets = import_module("tests.campaigns.fuzz.targets")
    import_module("logging").disable()
    corpus = CACHE / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(targets.corpus(name)):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [
        f"-artifact_prefix={CACHE}/{name}-", f"-max_len={MAX_LENGTH}", "-print_final_stats=1", "-verbosity=0",
        "-timeout=20", "-rss_limit_mb=1500",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, *sys.argv[2:], str(corpus)], targets.ORACLES[name])
    atheris.Fuzz()
    return 0


def _keep(name: str) -> None:
    """Add the shortest inputs of the working corpus that the repository lacks."""
    from tests.campaigns.fuzz import targets

    known = targets.corpus(name)
    paths = sorted((CACHE / "corpus" / name).iterdir(), key=lambda path: (path.stat().st_size, path.name))
    found = [path.read_bytes() for path in paths if 0 < path.stat().st_size <= KEPT_BYTES]
    new = [one for one in dict.fromkeys(found) if one not in known]
    step = max(1, len(new) // KEPT_INPUTS)
    lines = [*known, *new[::step][: max(0, KEPT_INPUTS - len(known))]]
    (targets.CORPUS / f"{name}.txt").write_text("".join(f"{one!a}\n" for one in lines), encoding="ascii")


if __name__ == "__main__":
    sys.exit(main())
