"""``make deploy-drill``: a good version goes live, bad ones do not, each for the right reason, and the audit is clean.

Arguments: the versions to deploy (default: all of ``EXPECTED``), and ``--default-windows`` for the deployer's own
windows instead of short ones: a good version then takes half an hour. Writes ``reports/drills/deploy.json`` and
``deploy.md``; the report of each deployment is kept in ``reports/deployments/``.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.campaigns.deployment.environment import DeploymentEnvironment
from tests.campaigns.deployment.judged_sources import sources_sha256, still
from tests.harness.kafka import KafkaBroker
from tests.harness.processes import ROOT

ABORTED, ROLLED_BACK, DONE = "ABORTED", "ROLLED_BACK", "DONE"
SHADOW, VALIDATE = "SHADOW", "VALIDATE"

EXPECTED: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "v2": (DONE, (), ()),
    "alters": (ABORTED, (SHADOW,), ("G7a", "P2")),
    "alters-silently": (ABORTED, (SHADOW,), ("P2",)),
    "alters-later": (ROLLED_BACK, (VALIDATE,), ("S3", "P3")),
    "wrong-times-later": (ROLLED_BACK, (VALIDATE,), ("S3", "P3")),
    "wrong-clock": (ROLLED_BACK, (VALIDATE,), ("S3", "P3")),
    "wrong-clock-in-records": (ABORTED, (SHADOW,), ("G7a", "P2")),
    "no-time-of-sending": (ABORTED, (SHADOW,), ("G7a", "P2")),
    "receives-too-early": (ABORTED, (SHADOW,), ("G7a", "P2")),
    "drops-fields": (ABORTED, (SHADOW,), ("G7a", "P2")),
    "slower": (DONE, (), ()),
    "loses-trades": (ABORTED, (SHADOW,), ("S1",)),
    "drops-a-symbol": (ABORTED, (SHADOW,), ("S1",)),
    "drops-a-symbol-later": (ROLLED_BACK, (VALIDATE,), ("S5", "C3")),
    "fewer-symbols": (ABORTED, (SHADOW,), ("P1",)),
    "no-back-fill": (ROLLED_BACK, (VALIDATE,), ("C8", "S5")),
    "rejects-trades": (ROLLED_BACK, (VALIDATE,), ("E3", "C8", "G6")),
    "slow-commits": (ROLLED_BACK, (VALIDATE, "HANDOVER"), ("C7", "not within")),
    "slow-commits-at-times": (ROLLED_BACK, (VALIDATE, "HANDOVER"), ("C7", "not within")),
    "burns-processor": (ABORTED, (SHADOW, "SHADOW_HELD"), ("C4",)),
    "blocks-the-loop": (ROLLED_BACK, (VALIDATE,), ("",)),
    "adds-a-field": (DONE, (), ()),
    "leaks": (ABORTED, (SHADOW,), ("G5",)),
    "leaks-later": (ROLLED_BACK, (VALIDATE,), ("G5",)),
    "leaks-slowly": (ABORTED, (SHADOW, "SHADOW_HELD"), ("C6",)),
    "leaks-slowly-later": (ROLLED_BACK, (VALIDATE, "VALIDATE_HELD"), ("C6",)),
    "stops-receiving": (ABORTED, (SHADOW,), ("G2", "G4")),
    "logs-errors": (ABORTED, (SHADOW,), ("G6",)),
    "metrics-vanish": (ABORTED, ("SHADOW_HELD",), ("no data",)),
    "comparison-vanishes": (ABORTED, ("SHADOW_HELD",), ("no data",)),
    "metrics-freeze": (ABORTED, (SHADOW,), ("G4",)),
    "bigger": (DONE, (), ()),
    "does-not-start": (ABORTED, ("STANDBY",), ("ended with 3",)),
    "dies-in-watch": (ABORTED, (SHADOW,), ("ended with -9",)),
    "dies-at-cut-over": (ROLLED_BACK, ("HANDOVER",), ("ended with -9",)),
    "dies-in-validation": (ROLLED_BACK, (VALIDATE,), ("ended with -9",)),
    "busier-machine": (DONE, (), ()),
}
"""Version -> the state that it must end in, the states in which it may be found out, and one of the words why."""


DAMAGES = frozenset({
    "alters-later", "wrong-times-later", "wrong-clock", "drops-a-symbol-later", "no-back-fill", "rejects-trades",
})  # fmt: skip
"""Versions that may write something wrong before they are found out: the audit may fail, and the next one gets a new
topic."""


@dataclass(frozen=True)
class Outcome:
    """How one deployment ended."""

    version: str
    good: bool
    state: str
    reason: str
    failed_in: str = ""
    seconds: float = 0.0
    writers: tuple[str, ...] = ()
    audit: str = "none"
    handover_seconds: float | None = None
    gap_seconds: float | None = None
    roll_back_seconds: float | None = None
    roll_back_gap_seconds: float | None = None


def attempt(field: DeploymentEnvironment, version: str, **plan: float) -> Outcome:
    """Deploy a version and hold the outcome against what is expected of it."""
    before, began = field.writers(), time.monotonic()
    _, report = field.deploy(version, f"drill-{version}", **plan)
    facts: dict[str, Any] = report["facts"]
    state, failed_in, words = EXPECTED[version]
    audit = (facts.get("audit") or {}).get("verdict", "none")
    after = [facts["candidate"]] if state == "DONE" else before
    good = (
        report["state"] == state
        and facts["failed_in"] in (failed_in or ("",))
        and (not words or any(word in facts["reason"] for word in words))
        and (audit == "PASS" or version in DAMAGES)
        and report["trail"]["chain"] == "unbroken"
        and field.writers() == after
    )
    return Outcome(
        version=version,
        good=good,
        state=report["state"],
        failed_in=facts["failed_in"],
        reason=facts["reason"],
        seconds=round(time.monotonic() - began, 1),
        writers=tuple(field.writers()),
        audit=audit,
        handover_seconds=facts["handover_seconds"],
        gap_seconds=facts["gap_seconds"],
        roll_back_seconds=facts["roll_back_seconds"] if report["state"] == "ROLLED_BACK" else None,
        roll_back_gap_seconds=facts["roll_back_gap_seconds"],
    )


def keep(folder: Path, pattern: str) -> None:
    """Copy reports to where they are looked for: at once, so that what was proved stays if the drill is ended."""
    target = ROOT / "reports" / "deployments"
    target.mkdir(parents=True, exist_ok=True)
    for path in folder.glob(pattern):
        shutil.copyfile(path, target / path.name)


def _one(field: DeploymentEnvironment, version: str) -> Outcome:
    try:
        one = attempt(field, version)
    except (RuntimeError, TimeoutError, subprocess.TimeoutExpired) as error:
        one = Outcome(version=version, good=False, state="no report", reason=str(error))
    sys.stdout.write(
        f"{'ok    ' if one.good else 'FAILED'} {version:22} {one.state:12} {one.failed_in:12} "
        f"audit {one.audit} {one.seconds:6.1f} s  {one.reason[:110]}\n"
    )
    sys.stdout.flush()
    keep(field.directory / "reports" / "deployments", f"drill-{version}.*")
    return one


def page(summary: Mapping[str, Any]) -> str:
    """The outcomes as a Markdown table."""
    lines = [
        "# Versions deployed\n",
        f"`{summary['command']}`, {summary['finished_at']}: {summary['verdict']}. {summary['bad_versions_live']} of "
        f"{summary['bad_versions']} bad versions went live, {summary['false_refusals']} of {summary['good_versions']} "
        "good ones were refused.\n",
        "| version | as expected | ended | in | audit | s | why |\n| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in summary["deployments"]:
        cells = (one["version"], "yes" if one["good"] else "**no**", one["state"], one["failed_in"], one["audit"],
                 f"{one['seconds']:.0f}", one["reason"].replace("|", "/").replace("\n", " "))  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


DEFAULT_WINDOWS = "--default-windows"


def main(arguments: Sequence[str]) -> int:
    """Run the drill; returns the exit code."""
    versions = [one for one in arguments if one != DEFAULT_WINDOWS]
    usual: dict[str, Any] = (
        {"plan": {}, "scrape_seconds": 15.0, "command_seconds": 3600.0} if DEFAULT_WINDOWS in arguments else {}
    )
    if unknown := set(versions) - EXPECTED.keys():
        sys.stderr.write(f"no such version: {', '.join(sorted(unknown))}; there are {', '.join(EXPECTED)}\n")
        return 2
    judged = sources_sha256()  # before a process has read them: they may be edited meanwhile
    directory = Path(tempfile.mkdtemp(prefix="k2-deploy-"))
    outcomes: list[Outcome] = []
    remaining = list(versions or EXPECTED)
    with KafkaBroker(directory / "kafka") as kafka:
        for number in range(len(remaining)):
            if not remaining:
                break
            with DeploymentEnvironment(
                directory / f"field-{number}", kafka.bootstrap_servers, topic=f"trades.drill-{number}", **usual
            ) as field:
                while remaining:
                    outcomes.append(_one(field, remaining.pop(0)))
                    if outcomes[-1].audit != "PASS":
                        break  # the topic is damaged: the next version gets another
    good = all(one.good for one in outcomes)
    harmless = [one for one in outcomes if EXPECTED[one.version][0] == DONE]
    summary = {
        "schema_version": 1,
        "drill": "deploy",
        "verdict": "PASS" if good else "FAIL",
        "command": f"make deploy-drill{' FAULTS=' + chr(34) + ' '.join(arguments) + chr(34) if arguments else ''}",
        "finished_at": datetime.fromtimestamp(time.time_ns() // 1_000_000_000, UTC).isoformat(),
        "sources_sha256": still(judged),
        "good_versions": len(harmless),
        "false_refusals": sum(one.state != DONE for one in harmless),
        "bad_versions": len(outcomes) - len(harmless),
        "bad_versions_live": sum(one.state == DONE for one in outcomes if one not in harmless),
        "deployments": [asdict(one) for one in outcomes],
    }
    path = ROOT / "reports" / "drills" / "deploy.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(summary, indent=2) + "\n")
    path.with_suffix(".md").write_text(page(summary))
    if good:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        sys.stdout.write(f"logs are in {directory}\n")
    sys.stdout.write(f"{summary['verdict']}: {sum(one.good for one in outcomes)} of {len(outcomes)} as expected\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
