"""Eight generated days in a real Prometheus, and the report on seven of them: ``make validation-demo``."""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from ingest_ops.validation.day import midnight
from tests.harness.production_week import DAY, FIRST, EightDays, LoadedPrometheus, calm, eventful

END = FIRST + timedelta(days=7)


def evidence(world: EightDays, reports: Path, *, lost: int = 0) -> None:
    """An audit after each day; a deployment for each hand-over from one process to another."""
    (reports / "audit").mkdir(parents=True, exist_ok=True)
    totals = {"missing": lost, "duplicated": 0, "reordered": 0, "altered": 0, "voids": 0, "committed": 1_000_000}
    for day in range(8):
        when = FIRST + timedelta(days=day)
        data = {
            "schema_version": 1,
            "kind": "audit",
            "run_id": str(when),
            "audited_at": f"{when + timedelta(days=1)}T00:10:00+00:00",
            "verdict": "FAIL" if lost else "PASS",
            "reason": f"{lost} missing" if lost else "nothing is wrong",
            "totals": totals,
            "covers": {"from": 0.0, "to": midnight(when + timedelta(days=1)) + 600},
            "symbols": {symbol: {} for symbol in (*world.symbols, "BTCUSDT")},
        }
        (reports / "audit" / f"{when}.json").write_text(json.dumps(data))
    (reports / "deployments").mkdir(exist_ok=True)
    for process in world.processes[1:]:
        if process.version != world.processes[0].version:
            start, end = world.origin + process.start, world.origin + process.writes[0][0] + 900
            day = int(process.start // DAY)
            data = {
                "kind": "deployment",
                "run_id": f"{FIRST + timedelta(days=day)}-{process.version}",
                "title": f"Deployment of {process.version}",
                "verdict": "PASS",
                "summary": "live",
                "generated_at": "",
                "window": {"start": start, "end": end},
                "deployment_kind": "deploy",
                "plan": {"version": process.version},
                "facts": {"candidate": process.slot, "live": world.processes[0].slot},
                "trail": {
                    "chain": "unbroken",
                    "lines": [
                        {"n": 1, "at": start - 5, "what": "opened", "data": {}},
                        {"n": 2, "at": start, "what": "BUILD -> STANDBY", "data": {"reason": "built"}},
                        {"n": 3, "at": start + 20, "what": "STANDBY -> SHADOW", "data": {"reason": "warm"}},
                        {"n": 4, "at": end, "what": "VALIDATE -> RETIRE", "data": {"reason": "passed"}},
                    ],
                },
            }
            (reports / "deployments" / f"{data['run_id']}.json").write_text(json.dumps(data))


def main() -> int:
    """Make the days, load them, report; says what it took. Returns 0 where the limits of time and size hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--week", choices=("calm", "eventful"), default="eventful")
    parser.add_argument("--symbols", type=int, default=50)
    parser.add_argument("--reports", type=Path, default=Path("reports"))
    args = parser.parse_args()
    world = (calm if args.week == "calm" else eventful)(symbols=args.symbols)
    evidence(world, args.reports)
    with tempfile.TemporaryDirectory() as folder:
        server = LoadedPrometheus(Path(folder), world)
        _say(f"writing eight days of {args.symbols} symbols as OpenMetrics, promtool makes blocks of them")
        server.load()
        with server:
            command = [
                sys.executable, "-m", "ingest_ops", "report", "--days", "7", "--end", str(END), "--refresh",
                "--prometheus", server.url, "--reports", str(args.reports),
            ]  # fmt: skip
            _say(" ".join(command[1:]))
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            began = time.monotonic()
            done = subprocess.run(command, check=False, env=os.environ | {"K2_REPORT_LABEL": "generated days"})
            seconds = time.monotonic() - began
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    html = (args.reports / "validation" / f"{END}-7d.html").stat().st_size / 2**20
    _say(f"exit code {done.returncode}; {seconds:.1f} s (limit 60), HTML {html:.2f} MB (limit 3)")
    _say(
        f"{processor:.1f} s of one processor; most memory of the report or of promtool: {after.ru_maxrss / 1024:.0f} MB"
    )
    # Processor time: a busy machine makes no report slow.
    return 0 if processor < 60 and html < 3 and after.ru_maxrss / 1024 < 500 else 1


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
