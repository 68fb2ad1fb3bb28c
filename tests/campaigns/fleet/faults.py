"""What happens to a fleet: each fault does its worst and returns; whether the fleet recovers is seen afterwards."""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from tests.campaigns.fleet.environment import FleetEnvironment

SHORT, LONG = (1.0, 3.0), (8.0, 12.0)
"""Seconds of freezing: within the session's time-out of six seconds, and beyond it."""
MOST_INSTANCES = 4

Fault = Callable[[FleetEnvironment, random.Random], str]


def _victim(env: FleetEnvironment, rng: random.Random) -> str:
    return rng.choice(env.running)


def kill(env: FleetEnvironment, rng: random.Random) -> str:
    """SIGKILL of an instance and all its children; it is started again after a while."""
    name = _victim(env, rng)
    env.stack.services[name].kill()
    time.sleep(rng.uniform(0.0, 10.0))
    env.instance(name)
    return name


def kill_child(env: FleetEnvironment, rng: random.Random) -> str:
    """SIGKILL of one child."""
    name = _victim(env, rng)
    children = {shard: one["pid"] for shard, one in env.stack.services[name].status()["shards"].items() if one["pid"]}
    if not children:
        return f"{name} has none"
    shard = rng.choice(sorted(children))
    with suppress(ProcessLookupError):
        os.kill(children[shard], signal.SIGKILL)
    service = env.stack.services[name]
    env.until(lambda: service.status()["shards"][shard]["pid"] != children[shard], f"{name} has seen the kill", 60.0)
    return f"{name}, shard {shard}"


def kill_supervisor(env: FleetEnvironment, rng: random.Random) -> str:
    """SIGKILL of a supervisor alone: its children are orphans. It is started again."""
    name = _victim(env, rng)
    process = env.stack.services[name].process
    if process is not None:
        process.kill()
        process.wait()
    env.instance(name)
    return name


def _freeze(env: FleetEnvironment, rng: random.Random, seconds: tuple[float, float]) -> str:
    name = _victim(env, rng)
    env.stack.services[name].pause()
    time.sleep(rng.uniform(*seconds))
    env.stack.services[name].resume()
    return name


def freeze_briefly(env: FleetEnvironment, rng: random.Random) -> str:
    """SIGSTOP for less than the session."""
    return _freeze(env, rng, SHORT)


def freeze_long(env: FleetEnvironment, rng: random.Random) -> str:
    """SIGSTOP for longer than the session: its shards are written elsewhere when it thaws."""
    return _freeze(env, rng, LONG)


def restart(env: FleetEnvironment, rng: random.Random) -> str:
    """SIGTERM, and a start: two planned moves."""
    name = _victim(env, rng)
    _end(env, name)
    env.instance(name)
    return name


def add(env: FleetEnvironment, rng: random.Random) -> str:
    """Another instance; with as many as there may be, one is restarted."""
    if len(env.running) >= MOST_INSTANCES:
        return restart(env, rng)
    name = next(one for one in "abcdefgh" if one not in env.running)
    env.instance(name)
    return name


def remove(env: FleetEnvironment, rng: random.Random) -> str:
    """SIGTERM for good; with few instances left, one is added."""
    if len(env.running) <= 2:
        return add(env, rng)
    name = _victim(env, rng)
    _end(env, name)
    return name


def _end(env: FleetEnvironment, name: str) -> None:
    """As Docker does it: the signal is for the supervisor alone."""
    service = env.stack.services[name]
    if service.process is not None:
        service.process.send_signal(signal.SIGTERM)
    code = service.wait(60.0)
    if code != 0:
        raise RuntimeError(f"instance {name} ended with {code} after SIGTERM:\n{service.tail()}")


FAULTS: dict[str, Fault] = {
    one.__name__: one for one in (kill, kill_child, kill_supervisor, freeze_briefly, freeze_long, restart, add, remove)
}
PLANNED = frozenset({"restart", "add", "remove"})
"""Moves that are hand-overs: nothing is lost sight of."""


def schedule(seed: int, number: int) -> list[str]:
    """The kinds of so many faults: every kind comes before one comes again."""
    rng = random.Random(seed)
    kinds: list[str] = []
    while len(kinds) < number:
        kinds += rng.sample(sorted(FAULTS), len(FAULTS))
    return kinds[:number]
