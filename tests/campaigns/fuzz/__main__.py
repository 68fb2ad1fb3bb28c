"""``make fuzz``: the oracles under atheris, guided by coverage; needs ``pip install atheris`` (35 MB, Linux only).

``FUZZ_SECONDS`` (60) for each target, ``FUZZ`` names targets. What is found is printed, and kept in .cache/fuzz/.
"""

import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

CACHE = Path(__file__).resolve().parents[3] / ".cache" / "fuzz"


def main() -> int:
    """Fuzz every target in a process of its own; returns the exit code."""
    if find_spec("atheris") is None:
        sys.stderr.write("atheris is not installed: pip install atheris. (The same oracles run with the tests.)\n")
        return 2
    if sys.argv[1:]:
        return fuzz(sys.argv[1])
    from tests.campaigns.fuzz.oracles import ORACLES

    seconds = int(os.environ.get("FUZZ_SECONDS") or "60")
    codes = {}
    for name in (os.environ.get("FUZZ") or " ".join(ORACLES)).split():
        sys.stdout.write(f"--- {name}, {seconds} s\n")
        sys.stdout.flush()
        codes[name] = subprocess.run(
            [sys.executable, "-m", "tests.campaigns.fuzz", name, f"-max_total_time={seconds}"],
            check=False,
            timeout=seconds * 5 + 120,
        ).returncode
    for name, code in codes.items():
        sys.stdout.write(f"{name:16} {'ok' if code == 0 else f'FAILED ({code})'}\n")
    return 1 if any(codes.values()) else 0


def fuzz(name: str) -> int:
    """Fuzz one target; does not return where something is found."""
    atheris: Any = import_module("atheris")
    with atheris.instrument_imports(include=["ingest"]):  # branches of what was imported before would not be seen
        oracles = import_module("tests.campaigns.fuzz.oracles")
    corpus = CACHE / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(oracles.SEEDS[name]):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [f"-artifact_prefix={CACHE}/{name}-", "-max_len=2000", "-print_final_stats=1", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, *sys.argv[2:], str(corpus)], oracles.ORACLES[name])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
