"""What a crash of the writer costs: SIGKILL, restarted at once, again and again, at the exchange's real request weight.

Environment: ``KILLS`` (40), ``PAUSE`` (20) seconds between them, ``SYMBOLS`` (50), ``RATE`` (500) trades/s in all,
``STANDBY`` (1; 0: without a standby), ``LIMIT_P50`` and ``LIMIT_MAX`` in seconds. Measured at a consumer of committed
records: from the kill to the first trade that was written after it, and until no symbol had a gap.
"""

import math
import os
import threading
import time

from tests.campaigns.drills.environment import DrillEnvironment, run, spread
from tests.harness.kafka import free_ports
from tests.harness.processes import ServiceProcess
from tests.harness.topics import ends

NAMES = ("blue", "green")
RESTART_SECONDS = 0.1
"""Docker's pause before it restarts a container for the first time."""


def drill() -> int:
    kills, pause = int(os.environ.get("KILLS", "40")), float(os.environ.get("PAUSE", "20"))
    symbols, rate = os.environ.get("SYMBOLS", "50"), os.environ.get("RATE", "500")
    standby = os.environ.get("STANDBY", "1") == "1"
    names = NAMES if standby else NAMES[:1]
    limit_p50 = float(os.environ.get("LIMIT_P50", "0.5" if standby else "0.7"))
    limit_max = float(os.environ.get("LIMIT_MAX", "2" if standby else "60"))
    ports = dict(zip(NAMES, free_ports(2), strict=True))
    peers = {"K2_PEERS": ",".join(f"http://127.0.0.1:{ports[name]}" for name in names)}
    simulator = ["--symbols", symbols, "--rate", rate, "--seed", "23"]
    first: list[float] = []
    whole: list[float] = []
    with DrillEnvironment("crash" if standby else "crash-alone", simulator, peers) as env:
        stack, services = env.stack, env.stack.services
        for name in names:
            stack.service(name, start=False, K2_METRICS_PORT=str(ports[name])).start(wait=False)
        for service in services.values():
            service.wait_ready()

        def writer() -> str | None:
            return next((name for name in names if stack.writing(name)), None)

        def complete() -> bool:
            return writer() is not None and (not standby or all(map(connected, services.values())))

        for number in range(1, kills + 1):
            stack.wait(complete, "a writer, and a standby that watches it")
            time.sleep(pause)
            stack.wait(lambda: writer() is not None, "a writer")
            service = services[str(writer())]
            service.kill()
            killed = time.monotonic()
            restart = threading.Timer(RESTART_SECONDS, service.start, kwargs={"wait": False})
            restart.start()
            if not env.consumer.wait_beyond(ends(stack.bootstrap_servers, stack.topic), 120):
                raise TimeoutError(f"nothing was committed within 120 s of kill {number}")
            first.append(time.monotonic() - killed)
            restart.join()
            stack.wait(lambda: (found := writer()) is not None and without_gaps(services[found]), "no gaps")
            whole.append(time.monotonic() - killed)
            if number % 5 == 0:
                env.say(f"{number} kills; first commit {spread(first)}, no gaps {spread(whole)}")
        stack.wait(complete, "both instances" if standby else "the instance")
        env.settle(*names)
        found, gaps = spread(first), spread(whole)
        figures = {
            "command": f"make crash KILLS={kills} PAUSE={pause:g} SYMBOLS={symbols} RATE={rate} STANDBY={standby:d}",
            "kills": kills,
            "first_commit_p50_s": found["p50"],
            "first_commit_p95_s": found["p95"],
            "first_commit_max_s": found["max"],
            "no_gaps_p50_s": gaps["p50"],
            "no_gaps_max_s": gaps["max"],
        }
        return env.conclude(
            figures,
            also={
                f"p50 within {limit_p50:g} s": (found["p50"] or math.inf) <= limit_p50,
                f"longest within {limit_max:g} s": (found["max"] or math.inf) <= limit_max,
            },
        )


def connected(service: ServiceProcess) -> bool:
    """Whether an instance watches the process of another one."""
    try:
        return service.metrics().get("ingest_peers_connected") == 1
    except OSError:
        return False


def without_gaps(service: ServiceProcess) -> bool:
    """Whether nothing is missing for any symbol."""
    try:
        return service.status().get("holes") == 0
    except (OSError, ValueError):
        return False


if __name__ == "__main__":
    run(drill)
