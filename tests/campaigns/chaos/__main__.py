"""``make chaos``: a seeded schedule of faults on the real processes; exit code 0 only if nothing came of it.

With ``CHAOS_PEERS=1`` (the default of odd seeds) the instances watch each other's process, so that a standby takes over
from one that was killed; without, the one that is restarted goes on.
"""

import os
import shutil
import sys
import time
from pathlib import Path

from tests.campaigns.chaos import report
from tests.campaigns.chaos.environment import SharedParts
from tests.campaigns.chaos.faults import FAULTS
from tests.campaigns.chaos.runner import play, schedule
from tests.harness import ending

LEAST = 30
"""Faults of each kind, where there is room for so many."""


def _kept(shared: SharedParts, seed: int) -> Path:
    """Copy the logs of all parts to where they outlive the run."""
    logs = report.FOLDER / f"chaos-{seed}-logs"
    logs.mkdir(parents=True, exist_ok=True)
    for log in (*shared.directory.glob("kafka/*.log"), *(shared.directory / f"seed-{seed}").glob("*.*")):
        shutil.copy2(log, logs)
    return logs


def main() -> int:
    """Run; returns the exit code."""
    seed = int(os.environ.get("CHAOS_SEED") or 1)
    count = int(os.environ.get("CHAOS_FAULTS") or 200)
    seconds = float(os.environ.get("CHAOS_SECONDS") or max(60.0, count * 1.0))
    symbols, rate = os.environ.get("CHAOS_SYMBOLS") or "20", os.environ.get("CHAOS_RATE") or "1000"
    crashes = int(os.environ.get("CHAOS_CRASHES") or 30)
    began = time.monotonic()
    least = min(LEAST, count * 3 // (4 * len(FAULTS))) or 1
    peers = bool(int(os.environ.get("CHAOS_PEERS") or seed % 2))
    streams = os.environ.get("CHAOS_STREAMS") or "trade"
    with_others = streams != "trade"
    options = ["--symbols", symbols, "--rate", rate, *(os.environ.get("CHAOS_SIMULATOR") or "").split()]
    ending.by_signal()  # else the parts would live on without their runner

    def say(text: str) -> None:
        sys.stdout.write(f"{time.monotonic() - began:7.1f} s  {text}\n")
        sys.stdout.flush()

    with SharedParts() as shared:
        say(f"seed {seed}: {count} faults in {seconds:g} s, {symbols} symbols at {rate} trades/s")
        passed = False
        try:
            outcome = play(
                shared, f"seed-{seed}", schedule(seed, count, seconds, least=least, streams=with_others),
                settings={"K2_BINANCE_STREAMS": streams}, seed=seed, simulator=options,
                settle_seconds=300.0, crashes=crashes, peers=peers, say=say,
            )  # fmt: skip
            passed = outcome.passed
        finally:
            if not passed:
                say(f"logs are in {_kept(shared, seed)}")
    command = f"make chaos CHAOS_SEED={seed} CHAOS_FAULTS={count} CHAOS_SECONDS={seconds:g}" + "".join(
        f" {name}={value!r}" if " " in value else f" {name}={value}"
        for name in ("CHAOS_SYMBOLS", "CHAOS_RATE", "CHAOS_SIMULATOR", "CHAOS_STREAMS", "CHAOS_PEERS")
        if (value := os.environ.get(name))
    )
    paths = report.write(outcome, command, f"chaos-{seed}-{count}")
    for name, value in report.summary(outcome).items():
        sys.stdout.write(f"  {name:26}  {f'{value:,}' if isinstance(value, int) else value}\n")
    for problem in outcome.problems:
        sys.stdout.write(f"  FAILED: {problem}\n")
    say(f"{'PASS' if outcome.passed else 'FAIL'}: {paths['html'].relative_to(report.ROOT)}")
    return 0 if outcome.passed else 1


if __name__ == "__main__":
    sys.exit(main())
