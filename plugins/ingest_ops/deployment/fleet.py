"""The shards of a fleet, as the deployer finds them: a file names the agent of each, the canary first."""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from ingest.core.errors import BadSettings
from ingest.decoding import Undecodable, decode_typed
from ingest_ops.common.files import read_file
from ingest_ops.deployment.plan import ShardName
from ingest_ops.deployment.settings import DeploySettings, is_address

MOST_SHARDS = 1000
MOST_BYTES = 2**20


class Shard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One shard: a pair of slots with an agent."""

    name: ShardName
    """The value of the label ``shard`` of its targets in Prometheus: both slots, and the agent."""
    agent_url: str


class _Fleet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    shards: Annotated[list[Shard], Meta(min_length=1, max_length=MOST_SHARDS)]


def load_shards(settings: DeploySettings) -> list[Shard]:
    """The shards, the canary first; none where no file is set. Raises ``BadSettings``."""
    if not settings.fleet_file:
        return []
    path = Path(settings.fleet_file)
    try:
        shards = decode_typed(read_file(path, MOST_BYTES), _Fleet).shards
    except (OSError, Undecodable) as error:
        raise BadSettings([f"K2_DEPLOY_FLEET_FILE: {path}: {error}"]) from error
    problems = [
        f"K2_DEPLOY_FLEET_FILE: {path}: shard {one.name}: agent_url: allowed is http(s)://host[:port]"
        for one in shards
        if not is_address(one.agent_url)
    ]
    for what, values in (("name", [one.name for one in shards]), ("agent_url", [one.agent_url for one in shards])):
        if len(set(values)) < len(values):
            problems.append(f"K2_DEPLOY_FLEET_FILE: {path}: two shards with the same {what}")
    if problems:
        raise BadSettings(problems)
    return shards


def of_shard(settings: DeploySettings, shard: Shard) -> DeploySettings:
    """The settings with that shard's agent."""
    return msgspec.structs.replace(settings, agent_url=shard.agent_url)


def of_name(settings: DeploySettings, name: str) -> DeploySettings:
    """The settings with the agent of the shard of that name; the same without a name. Raises ``BadSettings``."""
    if not name:
        return settings
    shards = load_shards(settings)
    found = next((one for one in shards if one.name == name), None)
    if found is None:
        known = ", ".join(one.name for one in shards[:20]) or "none, K2_DEPLOY_FLEET_FILE is not set"
        raise BadSettings([f"--shard {name}: no such shard; known are {known}"])
    return of_shard(settings, found)
