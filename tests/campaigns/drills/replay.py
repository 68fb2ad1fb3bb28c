"""Recorded Binance trades at 20 times their speed, with two rotations and one SIGKILL: 19,904 trades, all exact."""

import sys
import time

from tests.campaigns.drills.environment import DrillEnvironment, run
from tests.harness.processes import http_json
from tests.harness.recordings import BTCUSDT_TRADES, BTCUSDT_TRADES_COUNT, recording

SPEED = 20
SECONDS = 650.4 / SPEED


def drill() -> int:
    path = recording(BTCUSDT_TRADES)
    if path is None:
        sys.stderr.write("no recordings: set K2_RECORDINGS_DIR\n")
        return 2
    with DrillEnvironment("replay", ["--replay", str(path), "--speed", str(SPEED), "--paused"]) as env:
        service = env.stack.service("blue")
        env.stack.wait(env.stack.writing, "the service as writer")
        env.stack.simulator.market("start")
        began = time.monotonic()

        def at(share: float) -> None:
            time.sleep(max(0.0, began + share * SECONDS - time.monotonic()))

        def rotate() -> None:
            http_json(
                f"{service.control_url}/control/rotate", method="POST", body={},
                token=env.stack.settings()["K2_CONTROL_TOKEN"],
            )  # fmt: skip

        at(0.2)
        env.say("first rotation")
        rotate()
        at(0.45)
        env.say("kill -9")
        seen = env.consumer.count
        killed = time.monotonic()
        service.kill()
        service.start(wait=False)
        env.consumer.wait_new(seen, 30)
        recovery = time.monotonic() - killed
        service.wait_ready()
        at(0.7)
        env.say("second rotation")
        rotate()
        at(1.0)
        env.settle("blue")
        rotations = sum(v for k, v in service.metrics().items() if k.startswith("binance_connection_rotations_total"))
        weight = service.metrics()["binance_rest_weight_total"]
        visible = env.consumer.quiet(1.0)
        figures = {
            "speed": SPEED,
            "visible": visible,
            "recovery_s": round(recovery, 3),
            "rest_weight_since_kill": weight,
        }
        also = {f"{BTCUSDT_TRADES_COUNT} trades": visible == BTCUSDT_TRADES_COUNT, "second rotation": rotations == 1}
        return env.conclude(figures, also=also)


if __name__ == "__main__":
    run(drill)
