"""The file that names the shards: read whole, or refused with what is wrong and where."""

import json
from pathlib import Path

import msgspec
import pytest

from ingest.core.errors import BadSettings
from ingest_ops.deployment.fleet import MOST_BYTES, Shard, load_shards, of_name
from ingest_ops.deployment.settings import DeploySettings

TWO = [{"name": "0", "agent_url": "http://a:9099"}, {"name": "1", "agent_url": "http://b:9099"}]


def settings(path: Path, content: object) -> DeploySettings:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return DeploySettings(fleet_file=str(path))


def test_the_first_is_the_canary_and_each_has_its_agent(tmp_path: Path) -> None:
    one = settings(tmp_path / "fleet.json", {"shards": TWO})
    assert load_shards(one) == [msgspec.convert(shard, Shard) for shard in TWO]
    assert of_name(one, "1").agent_url == "http://b:9099"


def test_without_a_file_there_is_one_pair_of_slots() -> None:
    assert load_shards(DeploySettings()) == []
    with pytest.raises(BadSettings, match="--shard 0: no such shard; known are none, K2_DEPLOY_FLEET_FILE is not set"):
        of_name(DeploySettings(), "0")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "malformed|truncated"),
        ("[]", "Expected `object`"),
        ({"shards": []}, "length >= 1"),
        ({"shards": [{"name": "0"}]}, "agent_url"),
        ({"shards": TWO, "canary": "0"}, "canary"),
        ({"shards": [{**TWO[0], "name": 'x"y'}]}, "name"),
        ({"shards": [{**TWO[0], "name": "n" * 17}]}, "name"),
        ({"shards": [{**TWO[0], "agent_url": "ftp://a"}]}, r"shard 0: agent_url: allowed is http\(s\)://host\[:port\]"),
        ({"shards": [TWO[0], {**TWO[1], "name": "0"}]}, "two shards with the same name"),
        ({"shards": [TWO[0], {**TWO[0], "name": "1"}]}, "two shards with the same agent_url"),
        (" " * (MOST_BYTES + 1), "more than 1048576"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_its_problem(tmp_path: Path, content: object, text: str) -> None:
    one = settings(tmp_path / "fleet.json", content)
    with pytest.raises(BadSettings, match=f"K2_DEPLOY_FLEET_FILE: .*fleet.json.*({text})"):
        load_shards(one)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"nowhere\.json"):
        load_shards(DeploySettings(fleet_file=str(tmp_path / "nowhere.json")))
