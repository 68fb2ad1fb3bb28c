"""The outcome of the last ``make deploy-drill``, held against what each version must end as.

A version that the drill did not deploy is wrong like one that ended in the wrong state: nothing is known of it. An
outcome of other sources than those that are here now says nothing about these: it is not judged, which the row says.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.campaigns.deployment.drill import DONE, EXPECTED
from tests.campaigns.deployment.judged_sources import FOLDERS, sources_sha256
from tests.campaigns.verdicts.row import Row
from tests.harness.processes import ROOT

PART = "deployments: versions of the last make deploy-drill"
DRILLS = (ROOT / "reports" / "drills" / "deploy.json", ROOT / "reports" / "examples" / "drills" / "deploy.json")
AGAIN = "run make deploy-drill"


def deployments(drills: Sequence[Path] = DRILLS) -> Row:
    """The last run of ``make deploy-drill``, else the committed one; none that is of other sources.

    Right is a version that ended in its state of ``EXPECTED`` and that the drill found as expected in all else: where
    and why it was found out, the audit, the trail and the writers.
    """
    path = next((path for path in drills if path.exists()), None)
    if path is None:
        return Row(PART, 0, note=f"NOT JUDGED: no outcome of a drill, {drills[0].name} is missing; {AGAIN}")
    where = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name
    try:
        drill = json.loads(path.read_text(encoding="utf-8"))
        if other := _other_sources(drill.get("sources_sha256")):
            return Row(PART, 0, note=f"NOT JUDGED: {where}: {other}")
        rows = [(str(one["version"]), str(one["state"]), str(one["reason"])) for one in drill["deployments"]]
        as_expected = [one["good"] is True for one in drill["deployments"]]
        counts = _counts(rows)
        wrong = [
            f"the drill counts {name}: {drill[name]}, its deployments are {number}; {AGAIN}"
            for name, number in counts.items()
            if drill[name] != number
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return Row(PART, 0, [f"{where} is not the outcome of a drill ({error!r}); {AGAIN}"])
    found = {version for version, _, _ in rows}
    for (version, state, reason), good in zip(rows, as_expected, strict=True):
        if version not in EXPECTED or state != EXPECTED[version][0]:
            wrong.append(f"{version}: {state}, {_must(version)}; {reason}")
        elif not good:
            wrong.append(f"{version}: {state}, but not as expected: step, reason, audit, trail or writers; {reason}")
    wrong += [f"{version}: not deployed, {_must(version)}" for version in EXPECTED if version not in found]
    return Row(PART, len(EXPECTED), wrong, f"{_shown(counts)}; {where}, {drill.get('finished_at')}")


def _must(version: str) -> str:
    return f"must be {EXPECTED[version][0]}" if version in EXPECTED else "no version of the drill"


def _counts(rows: Sequence[tuple[str, str, str]]) -> dict[str, int]:
    """What the drill counts, by the names of its outcome."""
    good = [state for version, state, _ in rows if version in EXPECTED and EXPECTED[version][0] == DONE]
    bad = [state for version, state, _ in rows if version in EXPECTED and EXPECTED[version][0] != DONE]
    return {
        "good_versions": len(good),
        "false_refusals": len(good) - good.count(DONE),
        "bad_versions": len(bad),
        "bad_versions_live": bad.count(DONE),
    }


def _shown(counts: Mapping[str, int]) -> str:
    return (
        f"{counts['bad_versions_live']} of {counts['bad_versions']} bad versions live, {counts['false_refusals']} of "
        f"{counts['good_versions']} good ones refused"
    )


def _other_sources(judged: object) -> str:
    """Why the drill says nothing of the sources that are here now; empty if it ran with them."""
    try:
        here = sources_sha256()
    except (OSError, RuntimeError) as error:
        return f"which sources are here is not known: {error}"
    if judged == here:
        return ""
    shown = f"the digest of the drill is {str(judged)[:40]}" if judged else "the drill states no digest"
    return f"the drill is not of these {' and '.join(f'{one}/' for one in FOLDERS)}: {shown}, here {here}; {AGAIN}"
