"""The outcome of the last ``make deploy-drill``, held against what each version must end as.

A version that the drill did not deploy is wrong like one that ended in the wrong state: nothing is known of it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.campaigns.deployment.drill import DONE, EXPECTED
from tests.campaigns.deployment.judged_sources import plugins_sha256
from tests.campaigns.verdicts.row import Row
from tests.harness.processes import ROOT

PART = "deployments: versions of the last make deploy-drill"
DRILLS = (ROOT / "reports" / "drills" / "deploy.json", ROOT / "reports" / "examples" / "drills" / "deploy.json")


def deployments(drills: Sequence[Path] = DRILLS) -> Row:
    """The last run of ``make deploy-drill``, else the committed one.

    Right is a version that ended in its state of ``EXPECTED``. In which step it was found out is the drill's business.
    """
    path = next((path for path in drills if path.exists()), None)
    if path is None:
        return Row(PART, 0, [f"no outcome of a drill: {drills[0].name} is missing; run make deploy-drill"])
    where = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name
    try:
        drill = json.loads(path.read_text(encoding="utf-8"))
        done = [(str(one["version"]), str(one["state"]), str(one["reason"])) for one in drill["deployments"]]
    except (ValueError, KeyError, TypeError) as error:
        return Row(PART, 0, [f"{where} is not the outcome of a drill ({error!r}); run make deploy-drill"])
    found = {version for version, _, _ in done}
    wrong = [
        f"{version}: {state}, {_must(version)}; {reason}"
        for version, state, reason in done
        if version not in EXPECTED or state != EXPECTED[version][0]
    ]
    wrong += [f"{version}: not deployed, {_must(version)}" for version in EXPECTED if version not in found]
    return Row(PART, len(EXPECTED), wrong, f"{_counts(done)}; {where}, {drill.get('finished_at')}, {_judged(drill)}")


def _must(version: str) -> str:
    return f"must be {EXPECTED[version][0]}" if version in EXPECTED else "no version of the drill"


def _counts(done: Sequence[tuple[str, str, str]]) -> str:
    bad = [state for version, state, _ in done if version in EXPECTED and EXPECTED[version][0] != DONE]
    good = [state for version, state, _ in done if version in EXPECTED and EXPECTED[version][0] == DONE]
    return (
        f"{bad.count(DONE)} of {len(bad)} bad versions live, {len(good) - good.count(DONE)} of {len(good)} good ones "
        "refused"
    )


def _judged(drill: Mapping[str, Any]) -> str:
    """Whether the drill ran with the sources that are here now."""
    judged = drill.get("plugins_sha256")
    if not judged:
        return "which plugins/ it judged is not stated"
    return "of these plugins/" if judged == plugins_sha256() else f"of ANOTHER plugins/ ({str(judged)[:12]})"
