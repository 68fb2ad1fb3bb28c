"""The broker is away for two minutes at 2,000 trades/s over 20 symbols: no restart, bounded memory, nothing lost.

``OUTAGE_SECONDS`` (120) is an environment variable.
"""

import os
import time

from tests.campaigns.drills.world import MB, World, run


def drill() -> int:
    seconds = float(os.environ.get("OUTAGE_SECONDS", "120"))
    with World("outage", ["--symbols", "20", "--rate", "2000", "--seed", "2"]) as world:
        service = world.stack.service("blue")
        world.stack.wait(world.stack.writing, "the service as writer")
        time.sleep(10)
        before = service.rss()
        assert service.process is not None
        pid = service.process.pid
        world.say(f"the broker is stopped; the service holds {before / MB:.0f} MB")
        world.broker.stop()
        for _ in range(max(1, round(seconds / 20))):
            time.sleep(min(20.0, seconds))
            samples = service.metrics()
            world.say(
                f"held {samples['ingest_held_trades']:,.0f}, queued {samples['ingest_buffered_trades']:,.0f}, shed "
                f"{samples['ingest_trades_shed_total']:,.0f}, {service.rss() / MB:.0f} MB, ready: {service.healthy()}"
            )
        during = world.scales.heaviest
        world.broker.start()
        back = time.monotonic()
        seen = world.eyes.count
        world.eyes.wait_new(seen, 60)
        first = time.monotonic() - back
        world.say(f"the broker is back; committing again {first:.1f} s later")
        lag = world.stack.wait(lambda: _behind(world) < 4000, "the live tail", seconds=600)
        world.say(f"caught up with the live tail {first + lag:.1f} s after the broker was back")
        healthy = world.stack.wait(service.healthy, "readiness", seconds=60) < 60
        world.settle("blue")
        samples = service.metrics()
        same = service.alive and service.process.pid == pid
        figures = {
            "outage_s": seconds,
            "rss_before_mb": round(before / MB, 1),
            "rss_during_mb": round(during / MB, 1),
            "first_commit_after_s": round(first, 2),
            "caught_up_after_s": round(first + lag, 1),
            "trades_shed": round(samples["ingest_trades_shed_total"]),
            "trades_backfilled": round(samples["ingest_trades_backfilled_total"]),
            "rest_429": world.stack.simulator.state()["counters"].get("rest_429", 0),
        }
        also = {"no restart": same, "ready afterwards": healthy, "rss below 200 MB": world.scales.heaviest < 200 * MB}
        return world.conclude(figures, also=also)


def _behind(world: World) -> int:
    made = world.stack.simulator.state()["symbols"]
    committed = world.stack.committed()
    return sum(entry["last_id"] - committed.get(symbol, 0) for symbol, entry in made.items())


if __name__ == "__main__":
    run(drill)
