"""The versions that the deployment's form offers: those that the agent can start, as `reconcile` found them last."""

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ingest.decoding import Undecodable, decode_json
from ingest_ops.agent.slots import AgentRefusal, AgentTrouble
from ingest_ops.common.files import read_file

if TYPE_CHECKING:
    from ingest_ops.agent.client import AgentClient

log = logging.getLogger(__name__)

FILE = Path("deployments") / "versions.json"
MOST = 50
MOST_BYTES = 64 * 1024


def known() -> list[str]:
    """The newest first; empty where there is no list yet. Read when the DAG is parsed, from one small file."""
    path = Path(os.environ.get("K2_DEPLOY_REPORTS", "reports")) / FILE
    try:
        found = decode_json(read_file(path, MOST_BYTES))
    except (OSError, Undecodable):
        return []
    return [str(one) for one in found][:MOST] if isinstance(found, list) else []


def refresh(reports: Path, agent: "AgentClient") -> None:
    """Keep what the agent names. One that does not answer, or an older one, leaves the list as it is."""
    path = reports / FILE
    try:
        text = json.dumps(agent.versions()[:MOST])
        if not path.exists() or path.read_text("utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    except (AgentRefusal, AgentTrouble, OSError) as error:
        log.info("no list of versions: %s", error)
