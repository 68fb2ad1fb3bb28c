"""``make handovers``: one hand-over after another at full rate, there and back, with the deployer's own client.

``HANDOVERS`` (100) and ``RATE`` (5000 trades/s) are environment variables. Every second one is a roll-back: the same
verb on the predecessor, measured from the decision until it writes. The gap is measured twice: by the new writer
(predecessor's last commit to its own first) and by a consumer that waits for the next record. Where the time of each
went is told by stages; whether a new writer had to ask the exchange for anything, by what was filled from history. The
audit has the last word. Writes ``reports/deployments/handovers.json`` and its page.
"""

import math
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from ingest.metrics import TAKE_OVER_STAGES
from ingest_ops.common.verdict import Verdict
from ingest_ops.deployment.control import ControlClient, ControlTrouble
from ingest_ops.render import (
    Chart,
    Code,
    Fact,
    Facts,
    Page,
    Section,
    Series,
    Table,
    Threshold,
    envelope,
    write_report,
)
from tests.campaigns.drills.environment import DrillEnvironment
from tests.harness.processes import ROOT

NAMES = ("blue", "green")
FILLED = "ingest_trades_backfilled_total"
GAP_LIMIT = 1.0
ROLL_BACK_LIMIT = 2.0
BETWEEN_SECONDS = 1.0


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that ``share`` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def one(env: DrillEnvironment, control: ControlClient, target: str, name: str) -> dict[str, Any]:
    """Hand over to ``target``; the figures."""
    url = env.stack.services[target].control_url
    env.consumer.forget_gaps()
    began = time.monotonic()
    role = control.status(url)
    if not control.promote(url, name, role.generation + 1).writes:  # a status may be that of a second ago
        raise ControlTrouble(f"{target} was promoted and does not write")
    seconds = time.monotonic() - began
    if not env.consumer.wait_new(env.consumer.count, 60):
        raise TimeoutError(f"no record became visible after the hand-over to {target}")
    samples = env.stack.services[target].metrics()
    time.sleep(BETWEEN_SECONDS)
    return {
        "to": target,
        "seconds": round(seconds, 4),
        "writer_gap_seconds": round(samples["ingest_handover_gap_seconds"], 4),
        "consumer_gap_seconds": round(env.consumer.longest_gap, 4),
        **{
            f"{stage}_seconds": round(samples[f'ingest_handover_stage_seconds{{stage="{stage}"}}'], 4)
            for stage in TAKE_OVER_STAGES
        },
    }


def main() -> int:
    """Run them; returns the exit code."""
    count, rate = int(os.environ.get("HANDOVERS", "100")), int(os.environ.get("RATE", "5000"))
    figures: list[dict[str, Any]] = []
    with DrillEnvironment("handovers", ["--symbols", "20", "--rate", str(rate), "--seed", "5"]) as env:
        stack = env.stack
        stack.service(NAMES[0])
        stack.wait(lambda: env.consumer.count > 0, "the first writer's first trades")
        stack.service(NAMES[1])
        control = ControlClient(stack.settings()["K2_CONTROL_TOKEN"])

        def roles() -> dict[str, str]:
            return {name: control.status(stack.services[name].control_url).role for name in NAMES}

        def filled() -> int:
            return sum(round(service.metrics()[FILLED]) for service in stack.services.values())

        stack.wait(lambda: sorted(roles().values()) == ["active", "standby"], "one writer and one standby")
        first = next(name for name, role in roles().items() if role == "active")
        other = next(name for name in NAMES if name != first)
        if not env.consumer.wait_new(env.consumer.count + 2 * rate, 120):
            raise TimeoutError("the market is not written at its rate")
        before = filled()
        for number in range(count):
            target = other if number % 2 == 0 else first
            figures.append(one(env, control, target, f"handovers-{number}"))
            stack.wait(lambda: sorted(roles().values()) == ["active", "standby"], "the fenced one warm", seconds=60)
            if number % 10 == 9:
                env.say(f"{number + 1} hand-overs; the last: {figures[-1]}")
        seen = env.consumer.count
        env.settle(*NAMES)
        asked = filled() - before
        for service in stack.services.values():
            service.terminate()
        code, audit = stack.audit()
        control.close()
        lasted = time.monotonic() - env.began
    return report(figures, audit, code, rate=rate, lasted=lasted, seen=seen, asked=asked)


def report(
    figures: list[dict[str, Any]],
    audit: dict[str, Any],
    code: int,
    *,
    rate: int,
    lasted: float,
    seen: int,
    asked: int,
) -> int:
    """Print, write, judge."""
    totals = audit["totals"]
    command = f"HANDOVERS={len(figures)} RATE={rate} make handovers"
    forth, back = figures[0::2], figures[1::2]
    result: dict[str, Any] = {"handovers": len(figures), "rate": rate, "trades_committed": totals["committed"]}
    for key, values in (
        ("writer_gap", [f["writer_gap_seconds"] for f in figures]),
        ("consumer_gap", [f["consumer_gap_seconds"] for f in figures]),
        ("handover", [f["seconds"] for f in forth]),
        ("roll_back", [f["seconds"] for f in back] or [0.0]),
    ):
        result |= {
            f"{key}_p50_seconds": percentile(values, 0.5),
            f"{key}_p99_seconds": percentile(values, 0.99),
            f"{key}_max_seconds": max(values),
        }
    for stage in TAKE_OVER_STAGES:
        values = [f[f"{stage}_seconds"] for f in figures]
        result |= {
            f"stage_{stage}_p50_seconds": percentile(values, 0.5),
            f"stage_{stage}_p99_seconds": percentile(values, 0.99),
        }
    result |= {
        "trades_filled_from_history": asked,
        "lost": totals["missing"],
        "duplicated": totals["duplicated"],
        "audit": audit["verdict"],
    }
    checks = {
        f"visible gap p99 below {GAP_LIMIT:g} s": result["consumer_gap_p99_seconds"] < GAP_LIMIT,
        f"roll-back p99 below {ROLL_BACK_LIMIT:g} s": result["roll_back_p99_seconds"] < ROLL_BACK_LIMIT,
        "audit clean": code == 0 and totals["committed"] > 0 and seen > 0,
    }
    verdict = Verdict.PASS if all(checks.values()) else Verdict.FAIL
    page = Page(
        kind="handovers",
        title=f"{len(figures)} hand-overs at {rate:,} trades/s",
        verdict=verdict,
        summary=f"Visible gap p99 {result['consumer_gap_p99_seconds']:.3f} s, roll-back p99 "
        f"{result['roll_back_p99_seconds']:.3f} s; {totals['missing']} lost, {totals['duplicated']} duplicated "
        f"of {totals['committed']:,} trades.",
        reasons=[name for name, good in checks.items() if not good],
        sections=[
            Section("Figures", [Facts([Fact(name.replace("_", " "), value) for name, value in result.items()])]),
            Section(
                "Each hand-over",
                [
                    Chart(
                        title="Visible gap", unit="s", x="number", x_unit="hand-over",
                        series=[
                            Series(who, [(float(n), f[f"{who}_gap_seconds"]) for n, f in enumerate(figures)])
                            for who in ("consumer", "writer")
                        ],
                        thresholds=[Threshold(GAP_LIMIT, "limit of the 99th percentile")],
                    ),
                    Table(["No.", "To", "Seconds", "Writer's gap", "Consumer's gap",
                           *(stage.replace("_", " ") for stage in TAKE_OVER_STAGES)],
                          [[n, *f.values()] for n, f in enumerate(figures)],
                          caption="Seconds. From the fence on nobody writes."),
                ],
            ),
        ],
        facts=[Fact("Made by", Code(command)), Fact("Lasted, seconds", round(lasted))],
        generated_at=datetime.fromtimestamp(time.time_ns() / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )  # fmt: skip
    data = envelope(page, run_id="handovers", schema_version=1) | {
        "command": command,
        "figures": result,
        "checks": checks,
        "each": figures,
    }
    paths = write_report(ROOT / "reports" / "deployments", "handovers", data, page)
    sys.stdout.write("".join(f"  {name:28} {value}\n" for name, value in result.items()))
    sys.stdout.write(f"{verdict}: {page.summary}\n{paths['json']}\n")
    return 0 if verdict is Verdict.PASS else 1


if __name__ == "__main__":
    sys.exit(main())
