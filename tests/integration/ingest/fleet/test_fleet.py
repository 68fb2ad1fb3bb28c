"""Three instances and six shards on the real Kafka: killed, frozen, added and stopped, and one auditor for all."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.harness.fleet import Fleet, WriterLog, fleet_settings
from tests.harness.processes import ROOT, ServiceProcess, http_json, inherited
from tests.harness.registry import Registry
from tests.harness.stack import Stack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

SHARDS = 6
PATIENCE = 120.0
"""For what takes seconds on an idle machine."""


@pytest.fixture
def stack(tmp_path: Path, kafka: str, schema_registry: Registry) -> Iterator[Stack]:
    with Stack(
        tmp_path,
        bootstrap_servers=kafka,
        registry_url=schema_registry.url,
        simulator=("--symbols", "24", "--rate", "300"),
        settings=fleet_settings(SHARDS),
        topic=f"fleet-{uuid.uuid4().hex[:8]}",
    ) as made:
        yield made


def judged(stack: Stack, fleet: Fleet, log: WriterLog) -> None:
    symbols = stack.simulator.state()["symbols"].keys()
    stack.wait(lambda: fleet.committed().keys() == symbols, "a trade of every symbol", seconds=PATIENCE)
    stack.simulator.market("stop")
    stack.wait(fleet.caught_up, "the last trade of every symbol", seconds=PATIENCE)
    code, audit = stack.audit()
    assert code == 0, json.dumps(audit["totals"])
    assert log.two_writers() == []
    counters = stack.simulator.state()["counters"]
    assert (counters["rest_429"], counters["rest_418"]) == (0, 0)


@pytest.mark.parametrize("standbys", [pytest.param("0", marks=pytest.mark.slow), "1"])
def test_shards_move_with_instances_that_die_freeze_come_and_go(stack: Stack, standbys: str) -> None:
    fleet = Fleet(stack, SHARDS)
    wait = partial(stack.wait, seconds=PATIENCE)
    with WriterLog(stack.bootstrap_servers, f"{stack.topic}.positions", SHARDS) as log:
        for name in "abc":
            stack.service(name, K2_STANDBY_WARM=standbys)
        wait(lambda: fleet.written_by("a", "b", "c"), "two shards for each of three instances")
        services = stack.services

        services["b"].kill()
        wait(lambda: fleet.written_by("a", "c"), "the shards of the killed one at the others")
        services["b"].start()
        wait(lambda: fleet.written_by("a", "b", "c"), "the killed one has shards again")

        services["c"].pause()
        time.sleep(9.0)  # longer than its session
        services["c"].resume()
        wait(lambda: fleet.written_by("a", "b", "c") and fleet.written_where_assigned(), "the thawed one has shards")

        began = time.time()  # noqa: TID251 - compared with the broker's stamps
        stack.service("d", K2_STANDBY_WARM=standbys)
        wait(
            lambda: fleet.written_by("a", "b", "c", "d") and fleet.written_where_assigned(), "a share for a fourth one"
        )
        assert services["a"].terminate() == 0
        wait(lambda: fleet.written_by("b", "c", "d") and fleet.written_where_assigned(), "the stopped one's shards")
        planned = [gap for _, at, gap in log.moves() if at >= began]
        assert planned
        assert max(planned) < 5.0, sorted(planned)  # 0.3 on an idle machine
        judged(stack, fleet, log)


@pytest.mark.slow
def test_an_instance_alone_ends_at_once_and_its_successor_goes_on(stack: Stack) -> None:
    fleet = Fleet(stack, SHARDS)
    with WriterLog(stack.bootstrap_servers, f"{stack.topic}.positions", SHARDS) as log:
        only = stack.service("a")
        stack.wait(lambda: fleet.written_by("a"), "six shards", seconds=PATIENCE)
        targets = http_json(f"{only.url}/targets")
        assert [one["labels"]["shard"] for one in targets] == [str(shard) for shard in range(SHARDS)]
        assert {tuple(one["targets"]) for one in targets} == {(only.url.removeprefix("http://"),)}
        assert only.healthy()
        assert only.metrics()[f'ingest_fleet_shards{{fleet="k2-ingest-{stack.topic}-fleet"}}'] == SHARDS
        assert http_json(f"{only.url}/shards/3/status")["shard"] == {"index": 3, "count": SHARDS}
        with pytest.raises(urllib.error.HTTPError, match="404"):
            http_json(f"{only.url}/shards/6/status")
        began = time.monotonic()
        assert only.terminate() == 0
        assert time.monotonic() - began < 15.0  # less than the time for leaving
        only.start()
        stack.wait(lambda: fleet.written_by("a"), "six shards again", seconds=PATIENCE)
        judged(stack, fleet, log)


def test_a_killed_child_is_started_again_and_a_killed_supervisor_leaves_writers_that_end(stack: Stack) -> None:
    fleet = Fleet(stack, SHARDS)
    with WriterLog(stack.bootstrap_servers, f"{stack.topic}.positions", SHARDS) as log:
        one = stack.service("a", K2_FLEET_LEAVE_TIMEOUT_SECONDS="3")
        stack.wait(lambda: fleet.written_by("a"), "six shards", seconds=PATIENCE)
        pid = one.status()["shards"]["2"]["pid"]
        os.kill(pid, signal.SIGKILL)
        stack.wait(lambda: one.status()["shards"]["2"]["starts"] == 2, "the child again", seconds=PATIENCE)
        stack.wait(lambda: fleet.written_by("a"), "six shards", seconds=PATIENCE)
        pids = [entry["pid"] for entry in one.status()["shards"].values()]
        assert one.process is not None
        one.process.kill()
        one.process.wait()
        stack.wait(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the children's end", seconds=60.0)
        assert one.log.read_text().count("the supervisor is gone") == SHARDS
        one.start()
        stack.wait(lambda: fleet.written_by("a"), "six shards at the successor", seconds=PATIENCE)
        judged(stack, fleet, log)


def refused(stack: Stack, name: str, **settings: str) -> str:
    """What an instance says that must not start."""
    service = ServiceProcess(stack.directory, {**stack.settings(), **settings}, instance=name).start(wait=False)
    assert service.wait(60.0) == 3, service.tail()
    return service.tail(3)


def test_what_must_not_be_in_one_fleet_is_refused_and_changes_nothing(stack: Stack) -> None:
    fleet = Fleet(stack, SHARDS)
    with WriterLog(stack.bootstrap_servers, f"{stack.topic}.positions", SHARDS) as log:
        stack.service("a")
        stack.wait(lambda: fleet.written_by("a"), "six shards", seconds=PATIENCE)
        assert "K2_SHARD_COUNT=6, this one 4" in refused(stack, "b", K2_SHARD_COUNT="4")
        assert "records other symbols" in refused(stack, "c", K2_BINANCE_STREAMS="trade,depth")
        for address in ("one", "two"):
            said = refused(stack, "a2", K2_INSTANCE_ID="a", K2_FLEET_ADDRESS=address)
            assert "has K2_INSTANCE_ID=a, at one: give each instance its own" in said
        assert "K2_SHARD_COUNT=7 ingest topics" in refused(stack, "d", K2_SHARD_COUNT="7")
        assert not log.moves()
        judged(stack, fleet, log)


def test_a_shard_is_no_shard_for_other_commands(stack: Stack) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ingest", "positions", "show"],
        env=inherited() | stack.settings(), cwd=ROOT, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "K2_SHARD_INDEX='auto'" in done.stderr


@pytest.mark.slow
def test_with_the_newer_protocol_shards_move_as_well(stack: Stack) -> None:
    fleet = Fleet(stack, SHARDS)
    with WriterLog(stack.bootstrap_servers, f"{stack.topic}.positions", SHARDS) as log:
        for name in "ab":
            stack.service(name, K2_FLEET_GROUP_PROTOCOL="consumer")
        stack.wait(lambda: fleet.written_by("a", "b"), "three shards each", seconds=PATIENCE)
        assert stack.services["a"].terminate() == 0
        stack.wait(lambda: fleet.written_by("b"), "six shards at one", seconds=PATIENCE)
        judged(stack, fleet, log)
