"""Every symbol of the exchange, one SIGKILL and 20 seconds of nothing: until each symbol is whole again.

Before the kill the service is in its usual state: every symbol has a position, and the weight that the start cost is a
minute old. Environment: ``RESTART_SYMBOLS`` (1500), ``RESTART_RATE`` (290 trades/s over all: 25 million a day),
``RESTART_PAUSE`` (20 seconds) and ``RESTART_LIMIT`` (120 seconds until all are whole).
"""

import os
import time
from collections import deque

from tests.campaigns.drills.environment import DrillEnvironment, run
from tests.harness.processes import ServiceProcess

FILL_RATE = "20000"
"""Trades a second until every symbol has traded once: on the exchange all have, since long before."""
FILL_SECONDS = 120.0
SETTLE_SECONDS = 65.0
"""The window of the weight, and a little."""
WINDOW_SECONDS = 60.0
WEIGHT_LIMIT = 6000
RECORDED = ("--single", "0.915", "--skew", "1.1", "--burst", "290")
"""The shape of the recorded market, as in tests/unit/ingest/service/test_backfill_restart.py."""
EVERY_SECONDS = 2.0


class Weight:
    """What the service spends, and the most of it in a minute."""

    def __init__(self, service: ServiceProcess) -> None:
        self._service = service
        self._seen: deque[tuple[float, float]] = deque([(time.monotonic(), 0.0)])
        self.total = 0.0
        self.most = 0.0

    def look(self) -> None:
        """Read the counter; while the service starts there is none."""
        try:
            self.total = self._service.metrics()["binance_rest_weight_total"]
        except (OSError, KeyError):
            return
        now = time.monotonic()
        self._seen.append((now, self.total))
        while now - self._seen[0][0] > WINDOW_SECONDS:
            self._seen.popleft()
        self.most = max(self.most, self.total - self._seen[0][1])


def usual(env: DrillEnvironment, rate: float) -> dict[str, int]:
    """Bring the service into its usual state; returns symbol -> last committed id, as the service states it."""
    simulator = env.stack.simulator
    listed = simulator.state()["symbols"]

    def traded() -> int:
        return sum(
            1 for name, one in simulator.state()["symbols"].items() if one["last_id"] >= listed[name]["first_id"]
        )

    deadline = time.monotonic() + FILL_SECONDS
    while traded() < len(listed) and time.monotonic() < deadline:
        time.sleep(1.0)
    simulator.market("rate", rate=rate)
    env.say(f"{traded()} of {len(listed)} symbols have traded; the service starts")
    env.stack.service("blue")
    env.stack.wait(env.stack.writing, "the service as writer")
    enough = 0.99 * len(listed)
    env.stack.wait(lambda: len(env.stack.committed()) >= enough, "positions of all symbols", seconds=600.0)
    env.say("all symbols have positions")
    time.sleep(SETTLE_SECONDS)
    return env.stack.committed()


def drill() -> int:
    symbols = os.environ.get("RESTART_SYMBOLS", "1500")
    rate = float(os.environ.get("RESTART_RATE", "290"))
    pause = float(os.environ.get("RESTART_PAUSE", "20"))
    limit = float(os.environ.get("RESTART_LIMIT", "120"))
    simulator = [
        "--symbols",
        symbols,
        "--rate",
        FILL_RATE,
        "--seed",
        "5",
        "--weight-limit",
        str(WEIGHT_LIMIT),
        *RECORDED,
    ]
    with DrillEnvironment("restart-all", simulator, {"K2_BINANCE_SYMBOLS": "*"}) as env:
        committed = usual(env, rate)
        service = env.stack.services["blue"]
        service.kill()
        env.say(f"killed; {len(committed)} symbols have a position; nothing runs for {pause:g} s")
        time.sleep(pause)
        traded = {name: entry["last_id"] for name, entry in env.stack.simulator.state()["symbols"].items()}
        behind = [name for name, last_id in committed.items() if traded.get(name, -1) > last_id]
        missing = sum(traded[name] - committed[name] for name in behind)
        env.say(f"{len(behind)} symbols traded meanwhile, {missing} trades")
        began = time.monotonic()
        service.start(wait=False)
        weight = Weight(service)

        def open_symbols() -> int:
            now = env.stack.committed()
            return sum(1 for name in behind if now.get(name, -1) < traded[name])

        halfway: float | None = None
        while (left := open_symbols()) and time.monotonic() - began < 4 * limit:
            weight.look()
            if halfway is None and left <= len(behind) / 2:
                halfway = time.monotonic() - began
            env.say(f"{left} symbols are not whole, weight {weight.total:.0f}")
            time.sleep(EVERY_SECONDS)
        whole = time.monotonic() - began
        weight.look()
        env.say(f"every symbol is whole {whole:.1f} s after the start")
        env.settle("blue")
        refused = env.stack.simulator.state()["counters"].get("rest_429", 0)
        figures = {
            "symbols": int(symbols),
            "rate": rate,
            "pause_s": pause,
            "symbols_behind": len(behind),
            "trades_missing": missing,
            "half_whole_after_s": round(halfway, 1) if halfway is not None else None,
            "all_whole_after_s": round(whole, 1),
            "weight_spent": round(weight.total),
            "weight_most_in_a_minute": round(weight.most),
            "rest_429": refused,
        }
        also = {
            "symbols were behind": bool(behind),
            "whole in time": left == 0 and whole <= limit,
            "weight never exceeded": refused == 0 and weight.most <= WEIGHT_LIMIT,
        }
        return env.conclude(figures, also=also)


if __name__ == "__main__":
    run(drill)
