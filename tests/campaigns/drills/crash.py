"""What a crash of the writer costs: SIGKILL, restarted at once, again and again, at the exchange's real request weight.

Environment: ``KILLS`` (40), ``PAUSE`` (20) seconds between them, ``SYMBOLS`` (50), ``RATE`` (500) trades/s in all,
``STANDBY`` (1; 0: without a standby), ``LIMIT_P50`` and ``LIMIT_P99`` in seconds. Measured at a consumer of committed
records: from the kill to the first new trade of any symbol, and how long it took until every symbol was whole.
"""

import math
import os
import threading
import time

from tests.campaigns.drills.environment import DrillEnvironment, run, spread
from tests.harness.kafka import free_ports
from tests.harness.processes import ServiceProcess

NAMES = ("blue", "green")
RESTART_SECONDS = 0.1
"""Docker's pause before it restarts a container for the first time."""
ON_THE_WAY_SECONDS = 0.05
"""What was committed before the kill has reached the consumer by then; no take-over is as quick."""


def drill() -> int:
    kills, pause = int(os.environ.get("KILLS", "40")), float(os.environ.get("PAUSE", "20"))
    symbols, rate = os.environ.get("SYMBOLS", "50"), os.environ.get("RATE", "500")
    names = NAMES if os.environ.get("STANDBY", "1") == "1" else NAMES[:1]
    limits = (
        float(os.environ.get("LIMIT_P50", "0.5" if len(names) > 1 else "0.7")),
        float(os.environ.get("LIMIT_P99", "2" if len(names) > 1 else "60")),
    )
    ports = dict(zip(NAMES, free_ports(2), strict=True))
    peers = {"K2_PEERS": ",".join(f"http://127.0.0.1:{ports[name]}" for name in names)}
    first: list[float] = []
    whole: list[float] = []
    with DrillEnvironment("crash", ["--symbols", symbols, "--rate", rate, "--seed", "23"], peers) as env:
        for name in names:
            env.stack.service(name, start=False, K2_METRICS_PORT=str(ports[name])).start(wait=False)
        for service in env.stack.services.values():
            service.wait_ready()

        def writer() -> str | None:
            return next((name for name in names if env.stack.writing(name)), None)

        def other_ready() -> bool:
            return all(connected(env.stack.services[name]) for name in names) if len(names) > 1 else True

        env.stack.wait(lambda: writer() is not None, "a writer")
        for number in range(1, kills + 1):
            env.stack.wait(lambda: writer() is not None and other_ready(), "a writer, and a standby that watches it")
            time.sleep(pause)
            name = writer() or names[0]
            service = env.stack.services[name]
            service.kill()
            killed, seen = time.monotonic(), env.consumer.count
            restart = threading.Timer(RESTART_SECONDS, service.start, kwargs={"wait": False})
            restart.start()
            time.sleep(ON_THE_WAY_SECONDS)
            seen = max(seen, env.consumer.count)
            if not env.consumer.wait_new(seen, 120):
                raise TimeoutError(f"nothing was committed within 120 s of kill {number}")
            first.append(time.monotonic() - killed)
            restart.join()
            env.stack.wait(lambda: (found := writer()) is not None and no_holes(env.stack.services[found]), "no holes")
            whole.append(time.monotonic() - killed)
            if number % 5 == 0:
                env.say(f"{number} kills; first commit {spread(first)}, whole {spread(whole)}")
        env.stack.wait(other_ready, "both instances")
        env.settle(*names)
        p99 = sorted(first)[math.ceil(0.99 * len(first)) - 1]
        figures = {
            "kills": kills,
            "standby": len(names) > 1,
            "symbols": int(symbols),
            "first_commit_p50_s": spread(first)["p50"],
            "first_commit_p99_s": round(p99, 3),
            "whole_p50_s": spread(whole)["p50"],
            "whole_max_s": spread(whole)["max"],
        }
        p50 = spread(first)["p50"] or math.inf
        return env.conclude(
            figures,
            also={f"p50 within {limits[0]:g} s": p50 <= limits[0], f"p99 within {limits[1]:g} s": p99 <= limits[1]},
        )


def connected(service: ServiceProcess) -> bool:
    """Whether an instance watches the process of another one."""
    try:
        return service.metrics().get("ingest_peers_connected") == 1
    except OSError:
        return False


def no_holes(service: ServiceProcess) -> bool:
    """Whether nothing is missing for any symbol."""
    try:
        return service.status().get("holes") == 0
    except (OSError, ValueError):
        return False


if __name__ == "__main__":
    run(drill)
