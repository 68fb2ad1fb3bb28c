"""SIGKILL at random moments, fifty times, at 2,000 trades/s over 20 symbols: nothing lost, nothing twice.

``KILLS`` (50) and ``SEED`` (1) are environment variables. A kill may come while the service is still starting.
"""

import os
import random
import time

from tests.campaigns.drills.environment import DrillEnvironment, run, spread


def drill() -> int:
    kills, seed = int(os.environ.get("KILLS", "50")), int(os.environ.get("SEED", "1"))
    dice = random.Random(seed)
    recoveries: list[float] = []
    interrupted = 0
    with DrillEnvironment("kill-50", ["--symbols", "20", "--rate", "2000", "--seed", str(seed)]) as env:
        service = env.stack.service("blue")
        env.stack.wait(env.stack.writing, "the service as writer")
        for number in range(1, kills + 1):
            time.sleep(dice.uniform(0.05, 3.0))
            service.kill()
            killed = time.monotonic()
            seen = env.consumer.count
            time.sleep(0.01)
            seen = max(seen, env.consumer.count)
            service.start(wait=False)
            patience = dice.choice([0.3, 30.0, 30.0, 30.0])
            if env.consumer.wait_new(seen, patience):
                recoveries.append(time.monotonic() - killed)
            else:
                interrupted += 1  # the next kill finds it starting
            if number % 10 == 0:
                env.say(f"{number} kills; {env.consumer.count:,} trades visible; recovery {spread(recoveries)}")
        service.wait_ready()
        env.settle("blue")
        figures = {
            "kills": kills,
            "kills_while_starting": interrupted,
            "seed": seed,
            "recovery_p50_s": spread(recoveries)["p50"],
            "recovery_p95_s": spread(recoveries)["p95"],
            "recovery_max_s": spread(recoveries)["max"],
        }
        light = 0 < env.resources.rss_max < 200 * 2**20
        return env.conclude(figures, also={"rss below 200 MB": light})


if __name__ == "__main__":
    run(drill)
