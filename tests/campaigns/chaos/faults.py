"""The faults of the chaos runner: what each does to the env, and the row of the fault table that it stands for."""

import random
import threading
import time
import urllib.error
import uuid
from collections.abc import Callable
from typing import Any

from ingest.simulator.plan import SURVIVABLE
from tests.campaigns.chaos.environment import ChaosEnvironment
from tests.campaigns.chaos.fault_kind import Act, Fault, NeverHere, NothingToStrike, Undo, ignore, simulated, undone
from tests.campaigns.chaos.faults_streams import STREAM_FAULTS
from tests.harness.processes import http_json
from tests.harness.proxy import END_TXN, PRODUCE

TOKEN = "a-token-for-tests-only"  # noqa: S105
NEWEST = 2**62
"""A generation that is newer than any that is recorded."""


def _victim(env: ChaosEnvironment, options: dict[str, Any]) -> str:
    writer = env.writer()
    if options.get("writer") and writer is not None:
        env.struck_writer = True
        return writer
    names = env.available()
    if not names:
        raise NothingToStrike
    name = str(names[int(options.get("pick", 0)) % len(names)])
    env.struck_writer = name == writer
    return name


def kill(env: ChaosEnvironment, options: dict[str, Any]) -> None:
    name = _victim(env, options)
    env.expected.add(name)
    env.instance(name).kill()


def terminate(env: ChaosEnvironment, options: dict[str, Any]) -> None:
    name = _victim(env, options)
    env.expected.add(name)
    env.instance(name).signal(15)


def freeze(env: ChaosEnvironment, options: dict[str, Any]) -> Undo:
    name = _victim(env, options)
    if env.frozen:
        raise NothingToStrike  # one at a time: somebody must be left to write
    service = env.instance(name)
    service.pause()
    env.frozen.add(name)

    def thaw() -> None:
        service.resume()
        env.frozen.discard(name)

    return thaw


def promote(env: ChaosEnvironment, options: dict[str, Any]) -> None:
    writer = env.writer()
    others = [name for name in env.available() if name != writer]
    if not others:
        raise NothingToStrike
    _order(
        env, others[0], "promote", {"deployment_id": uuid.UUID(int=int(options["number"])).hex, "generation": NEWEST}
    )


def rotate(env: ChaosEnvironment, options: dict[str, Any]) -> None:
    _order(env, _victim(env, options), "rotate", {})


def _order(env: ChaosEnvironment, name: str, verb: str, body: dict[str, Any]) -> None:
    def ask() -> None:
        try:
            http_json(
                f"{env.instance(name).control_url}/control/{verb}", method="POST", body=body, token=TOKEN, timeout=30
            )
        except (urllib.error.URLError, OSError, ValueError, KeyError):
            return  # it is being killed, frozen or fenced at this moment: an order may get lost

    threading.Thread(target=ask, name=verb, daemon=True).start()


def broker_killed(env: ChaosEnvironment, options: dict[str, Any]) -> Undo:
    broker = env.shared.broker
    if not broker.alive:
        raise NothingToStrike
    broker.kill()
    return lambda: None if broker.alive else _started(env)


def broker_stopped(env: ChaosEnvironment, options: dict[str, Any]) -> Undo:
    broker = env.shared.broker
    if not broker.alive:
        raise NothingToStrike
    broker.stop(15)
    return lambda: None if broker.alive else _started(env)


def _started(env: ChaosEnvironment) -> None:
    env.shared.broker.start(wait=False)


def broker_frozen(env: ChaosEnvironment, options: dict[str, Any]) -> Undo:
    if not env.shared.broker.alive:
        raise NothingToStrike
    env.shared.broker.pause()
    return env.shared.broker.resume


def proxy_cut(env: ChaosEnvironment, options: dict[str, Any]) -> None:
    env.shared.proxy.cut()


def proxy_delay(env: ChaosEnvironment, options: dict[str, Any]) -> Undo:
    env.shared.proxy.delay(float(options["delay"]))
    return lambda: env.shared.proxy.delay(0.0)


def proxy_black_hole(env: ChaosEnvironment, options: dict[str, Any]) -> Undo:
    env.shared.proxy.black_hole(True)
    return lambda: env.shared.proxy.black_hole(False)


def proxy_refuses(env: ChaosEnvironment, options: dict[str, Any]) -> Undo:
    env.shared.proxy.refuse(True)
    env.shared.proxy.cut()
    return lambda: env.shared.proxy.refuse(False)


def end_txn_held(env: ChaosEnvironment, options: dict[str, Any]) -> Undo:
    proxy = env.shared.proxy
    proxy.hold(END_TXN)
    return lambda: ignore(proxy.release())


def registry_down(env: ChaosEnvironment, options: dict[str, Any]) -> Undo:
    env.shared.registry.failing = 503
    return lambda: _registry(env, None)


def registry_refuses(env: ChaosEnvironment, options: dict[str, Any]) -> Undo:
    _registry(env, 409)
    return lambda: _registry(env, None)


def _registry(env: ChaosEnvironment, status: int | None) -> None:
    env.shared.registry.failing = status
    # A service that has been refused may take a moment to end: its exit code stays excused for the rest of the run.
    env.registry_refuses = env.registry_refuses or status is not None


def packets_dropped(env: ChaosEnvironment, options: dict[str, Any]) -> Undo:
    if env.drop is None:
        raise NeverHere
    env.drop.begin()
    return env.drop.end


def clock_jumps(env: ChaosEnvironment, options: dict[str, Any]) -> Undo:
    if not env.clocks:
        raise NeverHere
    clock = env.clocks[_victim(env, options)]
    env.clocks_moved = True
    clock.jump(float(options["seconds"]))
    return lambda: clock.jump(0.0)


def _bounded(draw: Callable[[random.Random], dict[str, Any]]) -> Callable[[random.Random], dict[str, Any]]:
    def drawn(dice: random.Random) -> dict[str, Any]:
        options = draw(dice)
        return {**options, "attempts": min(ATTEMPTS, int(options["attempts"]))}

    return drawn


def _pick(dice: random.Random) -> dict[str, Any]:
    return {"pick": dice.randrange(2), "writer": dice.random() < 0.7}


ROWS = {
    "reset": 1, "black_hole": 2, "stall": 2, "server_shutdown": 6, "close": 1, "handshake": 11, "handshake_hang": 2,
    "refuse_connects": 7, "malformed": 13, "huge_frame": 14, "deflate_bomb": 14, "unknown_event": 15,
    "error_object": 15, "array": 15, "binary": 15, "bad_decimal": 16, "missing_field": 17, "mistyped_field": 17,
    "duplicate": 18, "altered_duplicate": 18, "replay": 18, "reorder": 19, "rest_429": 9, "rest_418": 10,
    "clock_skew": 21,
}  # fmt: skip
CONNECTING = frozenset({"handshake", "handshake_hang", "refuse_connects"})
"""What keeps a client from connecting at all: it must have connected again before the next of them strikes. A refused
address is not tried for half a minute, so that they would follow each other faster than anybody can connect."""
ATTEMPTS = 2
"""So many handshakes are refused at most, for the same reason."""
LASTING: dict[str, dict[str, Any]] = {
    "clock_skew": {"ms": 0},
    "layout": {"name": "current"},
    "history_lag": {"seconds": 0.0},
}

FAULTS: tuple[Fault, ...] = (
    Fault("kill", 34, kill, 6.0, draw=_pick, group="service"),
    Fault("terminate", 33, terminate, 3.0, draw=_pick, group="service"),
    Fault("freeze_short", 3, freeze, 2.0, (0.3, 1.5), _pick, group="service"),
    Fault("freeze_long", 38, freeze, 2.0, (4.0, 7.0), _pick, group="service"),
    Fault("promote", 37, promote, 4.0, draw=lambda dice: {"number": dice.getrandbits(64)}, group="service"),
    Fault("rotate", 5, rotate, 3.0, draw=_pick),
    Fault("broker_killed", 22, broker_killed, 0.8, (0.5, 3.0), after_end=True, group="broker"),
    Fault("broker_stopped", 22, broker_stopped, 0.4, (0.5, 3.0), after_end=True, group="broker"),
    Fault("broker_frozen", 22, broker_frozen, 2.0, (0.4, 4.0), after_end=True, group="broker"),
    Fault("kafka_connections_cut", 23, proxy_cut, 4.0, group="broker"),
    Fault(
        "kafka_slow",
        31,
        proxy_delay,
        2.0,
        (0.5, 3.0),
        lambda dice: {"delay": dice.choice((0.05, 0.2, 0.4))},
        group="broker",
    ),
    Fault("kafka_black_hole", 22, proxy_black_hole, 2.0, (0.3, 4.0), after_end=True, group="broker"),
    # Longer than a message may wait: what is under way fails, and the service must know that it did.
    Fault("kafka_outage", 22, proxy_black_hole, 0.4, (11.0, 15.0), after_end=True, group="broker"),
    Fault("kafka_refuses", 22, proxy_refuses, 2.0, (0.3, 3.0), after_end=True, group="broker"),
    Fault("end_txn_held", 32, end_txn_held, 5.0, (0.6, 4.0), group="broker"),
    Fault("registry_down", 29, registry_down, 2.0, (1.0, 5.0)),
    Fault("registry_refuses", 30, registry_refuses, 0.7, (0.5, 2.0)),
    Fault(
        "clock_jumps",
        21,
        clock_jumps,
        1.5,
        (1.0, 8.0),
        lambda dice: {**_pick(dice), "seconds": dice.choice((-3600.0, 3600.0))},
    ),
    Fault("packets_dropped", 2, packets_dropped, 1.0, (1.0, 6.0), group="exchange"),
    *(
        Fault(
            kind,
            ROWS.get(kind, 0),
            undone(kind, LASTING[kind]) if kind in LASTING else simulated(kind),
            weight,
            (1.0, 6.0) if kind in LASTING else (0.0, 0.0),
            _bounded(draw) if kind == "handshake" else draw,
            group="exchange" if kind in CONNECTING else "",
        )
        for kind, (weight, draw) in SURVIVABLE.items()
    ),
)

# --- aimed at the moment that hurts most, not by a clock: no schedule draws these by itself, ``plans`` names them ---


def standby_frozen(env: ChaosEnvironment, options: dict[str, Any]) -> Undo:
    """Nobody takes over meanwhile, so that the writer must live with what it has done."""
    writer = env.writer()
    others = [name for name in env.available() if name != writer]
    if writer is None or not others or env.frozen:
        raise NothingToStrike
    return freeze(env, {"pick": env.available().index(others[0])})


def killed_in_commit(env: ChaosEnvironment, options: dict[str, Any]) -> Undo:
    """Everything of a transaction is in the log and its commit is on the way when the writer dies.

    In turns that of the next transaction, which begins after a pause, and that of one right behind another.
    """
    writer, proxy = env.writer(), env.shared.proxy
    if writer is None:
        raise NothingToStrike
    proxy.hold(END_TXN, skip=int(options.get("round", 0)) % 2)
    if not proxy.holding.wait(2.0):
        proxy.release()
        raise NothingToStrike
    env.struck_writer = True
    env.expected.add(writer)
    env.instance(writer).kill()
    return lambda: ignore(proxy.release())


def commit_late(env: ChaosEnvironment, options: dict[str, Any]) -> Undo:
    """A commit that was given up and sent again arrives when a part of the next transaction is in the log."""
    proxy = env.shared.proxy
    proxy.release_behind(PRODUCE)
    proxy.hold(END_TXN)
    if not proxy.holding.wait(2.0):
        proxy.release()
        raise NothingToStrike
    return lambda: ignore(proxy.release())


def commit_unanswered(env: ChaosEnvironment, options: dict[str, Any]) -> Undo:
    """A commit arrives, and its answer does not come until it has been given up."""
    proxy = env.shared.proxy
    proxy.unanswered(END_TXN)
    if not proxy.holding.wait(2.0):
        proxy.unanswered(None)
        raise NothingToStrike
    return lambda: proxy.black_hole(False)


def market_silent(env: ChaosEnvironment, options: dict[str, Any]) -> Undo:
    """Nobody trades."""
    env.stack.simulator.market("stop")
    return lambda: ignore(env.stack.simulator.market("start"))


def received_not_in_history(env: ChaosEnvironment, options: dict[str, Any]) -> None:
    """Ids exist nowhere, and for some time history lacks the trades behind them, too, which the stream has."""
    lost = env.stack.simulator.fault("void", count=2)
    env.stack.simulator.fault("history_hole", symbol=lost["symbol"], back=5, count=20, calls=30)


AIMED: tuple[Fault, ...] = (
    Fault("received_not_in_history", 0, received_not_in_history, 1.0),
    Fault("market_silent", 0, market_silent, 1.0, (18.0, 18.0)),
    Fault("standby_frozen", 38, standby_frozen, 1.0, (20.0, 20.0)),
    Fault("killed_in_commit", 34, killed_in_commit, 1.0, (6.0, 6.0), group="service"),
    Fault("commit_late", 32, commit_late, 1.0, (3.0, 3.0), group="broker"),
    Fault("commit_unanswered", 22, commit_unanswered, 1.0, (13.0, 13.0), after_end=True, group="broker"),
    Fault(
        "no_quantity",
        16,
        simulated("bad_decimal"),
        1.0,
        draw=lambda _: {"truth": True, "field": "q", "value": "0.00000000"},
    ),
    Fault("history_short", 0, undone("retention", {"trades": None}), 1.0, (1.0, 2.0), lambda _: {"trades": 5}),
)
BY_NAME = {fault.name: fault for fault in (*FAULTS, *STREAM_FAULTS, *AIMED)}
ROLES_TELL: tuple[Act, ...] = (kill, terminate, freeze)
"""What these cost depends on whether they strike the writer or its standby."""


def now() -> float:
    """The runner's clock."""
    return time.monotonic()
