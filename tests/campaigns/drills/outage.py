"""The broker is away for two minutes at 2,000 trades/s over 20 symbols: no restart, bounded memory, nothing lost.

``OUTAGE_SECONDS`` (120) is an environment variable.
"""

import os
import time

from tests.campaigns.drills.environment import MB, DrillEnvironment, run


def drill() -> int:
    seconds = float(os.environ.get("OUTAGE_SECONDS", "120"))
    with DrillEnvironment("outage", ["--symbols", "20", "--rate", "2000", "--seed", "2"]) as env:
        service = env.stack.service("blue")
        env.stack.wait(env.stack.writing, "the service as writer")
        time.sleep(10)
        before = service.rss()
        assert service.process is not None
        pid = service.process.pid
        env.say(f"the broker is stopped; the service holds {before / MB:.0f} MB")
        env.broker.stop()
        for _ in range(max(1, round(seconds / 20))):
            time.sleep(min(20.0, seconds))
            samples = service.metrics()
            env.say(
                f"held {samples['ingest_held_trades']:,.0f}, queued {samples['ingest_buffered_trades']:,.0f}, shed "
                f"{samples['ingest_trades_shed_total']:,.0f}, {service.rss() / MB:.0f} MB, ready: {service.healthy()}"
            )
        during = env.resources.rss_max
        env.broker.start()
        back = time.monotonic()
        seen = env.consumer.count
        env.consumer.wait_new(seen, 60)
        first = time.monotonic() - back
        env.say(f"the broker is back; committing again {first:.1f} s later")
        lag = env.stack.wait(lambda: _behind(env) < 4000, "the live tail", seconds=600)
        env.say(f"caught up with the live tail {first + lag:.1f} s after the broker was back")
        healthy = env.stack.wait(service.healthy, "readiness", seconds=60) < 60
        env.settle("blue")
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
            "rest_429": env.stack.simulator.state()["counters"].get("rest_429", 0),
        }
        also = {"no restart": same, "ready afterwards": healthy, "rss below 200 MB": env.resources.rss_max < 200 * MB}
        return env.conclude(figures, also=also)


def _behind(env: DrillEnvironment) -> int:
    made = env.stack.simulator.state()["symbols"]
    committed = env.stack.committed()
    return sum(entry["last_id"] - committed.get(symbol, 0) for symbol, entry in made.items())


if __name__ == "__main__":
    run(drill)
