"""``make chaos``: a seeded schedule of faults on the real processes; exit code 0 only if nothing came of it."""

import os
import shutil
import signal
import sys
import time

from tests.chaos import report
from tests.chaos.arena import Ground
from tests.chaos.runner import play, schedule


def main() -> int:
    """Run; returns the exit code."""
    seed = int(os.environ.get("CHAOS_SEED") or 1)
    count = int(os.environ.get("CHAOS_FAULTS") or 200)
    seconds = float(os.environ.get("CHAOS_SECONDS") or max(60.0, count * 1.0))
    symbols, rate = os.environ.get("CHAOS_SYMBOLS") or "20", os.environ.get("CHAOS_RATE") or "1000"
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else the parts would live on without their runner

    def say(text: str) -> None:
        sys.stdout.write(f"{time.monotonic() - began:7.1f} s  {text}\n")
        sys.stdout.flush()

    with Ground() as ground:
        say(f"seed {seed}: {count} faults in {seconds:g} s, {symbols} symbols at {rate} trades/s")
        outcome = play(
            ground, f"seed-{seed}", schedule(seed, count, seconds),
            seed=seed, simulator=["--symbols", symbols, "--rate", rate], say=say,
        )  # fmt: skip
        if not outcome.passed:
            logs = report.FOLDER / f"chaos-{seed}-logs"
            shutil.copytree(ground.directory / f"seed-{seed}", logs, dirs_exist_ok=True)
            say(f"logs are in {logs}")
    command = f"make chaos CHAOS_SEED={seed} CHAOS_FAULTS={count} CHAOS_SECONDS={seconds:g}"
    paths = report.write(outcome, command, f"chaos-{seed}-{count}")
    for name, value in report.summary(outcome).items():
        sys.stdout.write(f"  {name:26}  {f'{value:,}' if isinstance(value, int) else value}\n")
    for problem in outcome.problems:
        sys.stdout.write(f"  FAILED: {problem}\n")
    say(f"{'PASS' if outcome.passed else 'FAIL'}: {paths['html'].relative_to(report.ROOT)}")
    return 0 if outcome.passed else 1


if __name__ == "__main__":
    sys.exit(main())
