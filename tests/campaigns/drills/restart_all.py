"""Every symbol of the exchange, one SIGKILL and 20 seconds of nothing: until each symbol is whole again.

``RESTART_SYMBOLS`` (1500), ``RESTART_RATE`` (600 trades/s over all, unevenly as on the exchange), ``RESTART_PAUSE`` (20
seconds) and ``RESTART_LIMIT`` (120 seconds until all are whole) are environment variables.
"""

import os
import time

from tests.campaigns.drills.world import World, run

WARM_SECONDS = 20.0
WEIGHT_LIMIT = 6000


def drill() -> int:
    symbols = os.environ.get("RESTART_SYMBOLS", "1500")
    rate = os.environ.get("RESTART_RATE", "600")
    pause = float(os.environ.get("RESTART_PAUSE", "20"))
    limit = float(os.environ.get("RESTART_LIMIT", "120"))
    simulator = ["--symbols", symbols, "--rate", rate, "--seed", "5", "--weight-limit", str(WEIGHT_LIMIT)]
    with World("restart-all", simulator, {"K2_BINANCE_SYMBOLS": "*"}) as world:
        service = world.stack.service("blue")
        world.stack.wait(world.stack.writing, "the service as writer")
        time.sleep(WARM_SECONDS)
        committed = world.stack.committed()  # as the running service states it
        service.kill()
        world.say(f"killed; {len(committed)} symbols have a position; nothing runs for {pause:g} s")
        time.sleep(pause)
        traded = {name: entry["last_id"] for name, entry in world.stack.simulator.state()["symbols"].items()}
        behind = [name for name, last_id in committed.items() if traded.get(name, -1) > last_id]
        missing = sum(traded[name] - committed[name] for name in behind)
        world.say(f"{len(behind)} symbols traded meanwhile, {missing} trades")
        began = time.monotonic()
        service.start(wait=False)

        def open_symbols() -> int:
            now = world.stack.committed()
            return sum(1 for name in behind if now.get(name, -1) < traded[name])

        halfway: float | None = None
        while (left := open_symbols()) and time.monotonic() - began < 4 * limit:
            if halfway is None and left <= len(behind) / 2:
                halfway = time.monotonic() - began
            world.say(f"{left} symbols are not whole")
            time.sleep(2.0)
        whole = time.monotonic() - began
        world.say(f"every symbol is whole {whole:.1f} s after the start")
        samples = service.metrics()
        spent = samples["binance_rest_weight_total"]
        world.settle("blue")
        refused = world.stack.simulator.state()["counters"].get("rest_429", 0)
        figures = {
            "symbols": int(symbols),
            "rate": float(rate),
            "pause_s": pause,
            "symbols_behind": len(behind),
            "trades_missing": missing,
            "half_whole_after_s": round(halfway, 1) if halfway is not None else None,
            "all_whole_after_s": round(whole, 1),
            "weight_spent": round(spent),
            "rest_429": refused,
        }
        also = {
            "symbols were behind": bool(behind),
            "whole in time": left == 0 and whole <= limit,
            "weight never exceeded": refused == 0,
        }
        return world.conclude(figures, also=also)


if __name__ == "__main__":
    run(drill)
