"""Recorded Binance trades at 20 times their speed, with two rotations and one SIGKILL: 19,904 trades, all exact."""

import sys
import time

from tests.campaigns.drills.world import World, run
from tests.harness.processes import http_json
from tests.harness.recordings import BTCUSDT_TRADES, BTCUSDT_TRADES_COUNT, recording

SPEED = 20
SECONDS = 650.4 / SPEED


def drill() -> int:
    path = recording(BTCUSDT_TRADES)
    if path is None:
        sys.stderr.write("no recordings: set K2_RECORDINGS_DIR\n")
        return 2
    with World("replay", ["--replay", str(path), "--speed", str(SPEED), "--paused"]) as world:
        service = world.stack.service("blue")
        world.stack.wait(world.stack.writing, "the service as writer")
        world.stack.simulator.market("start")
        began = time.monotonic()

        def at(share: float) -> None:
            time.sleep(max(0.0, began + share * SECONDS - time.monotonic()))

        def rotate() -> None:
            http_json(
                f"{service.control_url}/control/rotate", method="POST", body={},
                token=world.stack.settings()["K2_CONTROL_TOKEN"],
            )  # fmt: skip

        at(0.2)
        world.say("first rotation")
        rotate()
        at(0.45)
        world.say("kill -9")
        seen = world.eyes.count
        killed = time.monotonic()
        service.kill()
        service.start(wait=False)
        world.eyes.wait_new(seen, 30)
        recovery = time.monotonic() - killed
        service.wait_ready()
        at(0.7)
        world.say("second rotation")
        rotate()
        at(1.0)
        world.settle("blue")
        rotations = sum(v for k, v in service.metrics().items() if k.startswith("binance_connection_rotations_total"))
        weight = service.metrics()["binance_rest_weight_total"]
        visible = world.eyes.quiet(1.0)
        figures = {
            "speed": SPEED,
            "visible": visible,
            "recovery_s": round(recovery, 3),
            "rest_weight_since_kill": weight,
        }
        also = {f"{BTCUSDT_TRADES_COUNT} trades": visible == BTCUSDT_TRADES_COUNT, "second rotation": rotations == 1}
        return world.conclude(figures, also=also)


if __name__ == "__main__":
    run(drill)
