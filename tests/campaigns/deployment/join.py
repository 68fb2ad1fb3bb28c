"""Results of several runs of ``make deploy-airflow``, each with a part of its tests (``ONLY``), as one report.

``python -m tests.campaigns.deployment.join first/kills.json second/kills.json``

What a run has found wrong stays wrong here, and what none of them has killed is not shown.
"""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from tests.campaigns.deployment.kills import COMMAND, FOLDER, Outcome, say, write


def joined(runs: list[dict[str, Any]], *, folder: Path = FOLDER) -> Path:
    """Write one report of what ``runs`` (the JSON of each) have shown. Returns the path of its JSON."""
    outcomes = [msgspec.convert(one, Outcome) for run in runs for one in run["deployments"]]
    others = [(str(name), figure) for run in runs for name, figure in run["also"].items()]
    return write(
        outcomes, others, folder=folder, command=f"{COMMAND}, in {len(runs)} runs with a part of the tests each"
    )


if __name__ == "__main__":
    say(str(joined([json.loads(Path(name).read_text("utf-8")) for name in sys.argv[1:]])))
