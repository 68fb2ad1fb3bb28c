"""Two services at once: one writes. The writer is frozen, the other takes over, the thawed one stands by; six times.

``ROUNDS`` (6) is an environment variable. Then one planned hand-over after another through the control API
(``HANDOVERS``, 10), whose visible gap is measured at the consumer.
"""

import os
import time
import uuid

from tests.campaigns.drills.environment import DrillEnvironment, run, spread
from tests.harness.processes import http_json

LEASE = 3.0
NAMES = ("blue", "green")


def drill() -> int:
    rounds, handovers = int(os.environ.get("ROUNDS", "6")), int(os.environ.get("HANDOVERS", "10"))
    settings = {"K2_TAKEOVER_AFTER_SECONDS": str(LEASE)}
    takeovers: list[float] = []
    gaps: list[float] = []
    most = 0
    with DrillEnvironment("two-services", ["--symbols", "20", "--rate", "2000", "--seed", "3"], settings) as env:
        stack = env.stack
        for name in NAMES:
            stack.service(name, start=False).start(wait=False)
        for name in NAMES:
            stack.services[name].wait_ready()

        def writers() -> list[str]:
            return [name for name in NAMES if stack.writing(name)]

        def roles() -> dict[str, str]:
            return {name: str(stack.services[name].status().get("role")) for name in NAMES}

        stack.wait(lambda: sorted(roles().values()) == ["active", "standby"], "one writer and one standby")
        env.say(f"started together: {roles()}")
        for number in range(1, rounds + 1):
            writer = writers()[0]
            other = next(name for name in NAMES if name != writer)
            frozen = time.monotonic()
            stack.services[writer].pause()
            time.sleep(0.2)
            seen = env.consumer.count
            if not env.consumer.wait_new(seen, 60):
                raise TimeoutError(f"{other} has not taken over from the frozen {writer}")
            takeovers.append(time.monotonic() - frozen)
            stack.wait(lambda name=other: stack.writing(name), "the other one as writer")  # type: ignore[misc]
            time.sleep(1.0)
            stack.services[writer].resume()
            stack.wait(
                lambda old=writer: roles()[old] == "standby",  # type: ignore[misc]
                "the thawed one as standby",
                seconds=60,
            )
            most = max(most, len(writers()))
            env.say(f"round {number}: {writer} frozen, {other} wrote {takeovers[-1]:.2f} s later; {roles()}")
            time.sleep(1.0)
        for _ in range(handovers):
            other = next(name for name in NAMES if name not in writers())
            time.sleep(1.0)
            env.consumer.forget_gaps()
            http_json(
                f"{stack.services[other].control_url}/control/promote",
                method="POST", body={"deployment_id": uuid.uuid4().hex, "generation": 2**62},
                token=stack.settings()["K2_CONTROL_TOKEN"], timeout=90.0,
            )  # fmt: skip
            time.sleep(1.0)
            gaps.append(env.consumer.longest_gap)
            stack.wait(lambda: sorted(roles().values()) == ["active", "standby"], "one writer", seconds=30)
        env.say(f"{handovers} planned hand-overs, visible gap {spread(gaps)}")
        env.settle(*NAMES)
        figures = {
            "rounds": rounds,
            "lease_s": LEASE,
            "takeover_p50_s": spread(takeovers)["p50"],
            "takeover_max_s": spread(takeovers)["max"],
            "handovers": handovers,
            "handover_gap_p50_s": spread(gaps)["p50"],
            "handover_gap_max_s": spread(gaps)["max"],
        }
        return env.conclude(figures, also={"never two writers": most <= 1})


if __name__ == "__main__":
    run(drill)
