"""The recorded market of BTCUSDT at 20 times its speed: trades, quotes and the book, through four events.

A rotation, a SIGKILL without a standby, a take-over from a frozen writer, and a second rotation. Trades must be exact.
The SIGKILL costs one BREAK of the book and one of the quotes, and a snapshot; nothing else costs any. The book that the
topic makes is compared with the quotes at every point where both are known.
"""

import sys
import time
from decimal import Decimal
from typing import Any

from tests.campaigns.drills.environment import DrillEnvironment, run
from tests.campaigns.drills.tops import Difference, compare
from tests.harness.processes import http_json
from tests.harness.recordings import BTCUSDT_FULL, BTCUSDT_TRADES_COUNT, recording
from tests.harness.stream_topics import committed

SPEED = 20
SECONDS = 650.6 / SPEED
LEASE = 2.0
STREAMS = ("trade", "bookTicker", "depth")
SETTINGS = {"K2_BINANCE_STREAMS": ",".join(STREAMS), "K2_TAKEOVER_AFTER_SECONDS": str(LEASE)}
LEAST_SIDES = 8_000
"""Of 12,984 in the whole recording; the SIGKILL leaves out what passes until the next snapshot, at this speed."""


def drill() -> int:
    path = recording(BTCUSDT_FULL)
    if path is None:
        sys.stderr.write("no recordings: set K2_RECORDINGS_DIR\n")
        return 2
    market = ["--replay", str(path), "--speed", str(SPEED), "--paused"]
    with DrillEnvironment("replay-full", market, SETTINGS) as env:
        figures = _play(env)
        audits = {stream: env.stack.audit_stream(stream) for stream in STREAMS[1:]}
        sections, checks = _judge(env, audits)
        visible = env.consumer.quiet(1.0)
        checks[f"{BTCUSDT_TRADES_COUNT} trades"] = visible == BTCUSDT_TRADES_COUNT
        checks["second rotation"] = figures["rotations_of_green"] == len(STREAMS)
        return env.conclude({"speed": SPEED, **figures, "visible": visible, **sections}, also=checks)


def _play(env: DrillEnvironment) -> dict[str, Any]:
    """Let the market run through all events; returns how long each took to recover, in seconds."""
    stack = env.stack
    blue = stack.service("blue")
    stack.wait(lambda: stack.writing("blue"), "the service as writer")
    stack.simulator.market("start")
    began = time.monotonic()

    def at(share: float, what: str) -> None:
        time.sleep(max(0.0, began + share * SECONDS - time.monotonic()))
        env.say(what)

    def rotate(instance: str) -> None:
        url = f"{stack.services[instance].control_url}/control/rotate"
        http_json(url, method="POST", body={}, token=stack.settings()["K2_CONTROL_TOKEN"])

    at(0.2, "first rotation")
    rotate("blue")
    at(0.4, "kill -9")
    seen, struck = env.consumer.count, time.monotonic()
    blue.kill()
    blue.start(wait=False)
    env.consumer.wait_new(seen, 30)
    recovered = time.monotonic() - struck
    blue.wait_ready()
    green = stack.service("green")
    at(0.65, "blue is frozen")
    seen, struck = env.consumer.count, time.monotonic()
    blue.pause()
    time.sleep(0.2)
    seen = env.consumer.count
    env.consumer.wait_new(seen, 30)
    taken_over = time.monotonic() - struck
    stack.wait(lambda: stack.writing("green"), "green as writer")
    blue.resume()
    at(0.8, "second rotation")
    rotate("green")
    at(1.0, "the recording is over")
    env.settle("green", "blue")
    stack.wait(lambda: _committed(stack.services["green"].status()), "every stream in Kafka", seconds=30.0)
    rotations = sum(v for k, v in green.metrics().items() if k.startswith("binance_connection_rotations_total"))
    return {"recovery_s": round(recovered, 3), "takeover_s": round(taken_over, 3), "rotations_of_green": rotations}


def _committed(status: dict[str, Any]) -> bool:
    """Whether no stream has an event that waits."""
    return all(one["held"] == 0 and not one["gaps"] for one in status["streams"].values())


def _judge(
    env: DrillEnvironment, audits: dict[str, tuple[int, dict[str, Any]]]
) -> tuple[dict[str, Any], dict[str, bool]]:
    """Figures and checks of books and quotes."""
    topic = env.stack.topic
    servers = env.broker.bootstrap_servers
    quotes = committed(servers, topic.replace("trades", "quotes"), "quotes")
    events = committed(servers, topic.replace("trades", "books"), "books")
    tops, book = compare(quotes, events)
    breaks = sum(row["kind"] == "BREAK" for row in quotes)
    depth = audits["depth"][1]["totals"]
    figures = {
        "quotes": len(quotes) - breaks,
        "quote_breaks": breaks,
        "book_updates": book.kinds["UPDATE"],
        "book_breaks": book.kinds["BREAK"],
        "book_snapshots": book.kinds["SNAPSHOT"],
        "books_compared_with_the_exchange": depth["snapshots"],
        "updates_compared_with_the_exchange": depth["ledger"],
        "sides_compared_with_quotes": tops.sides,
        "sides_different": len(tops.different),
        "sides_unexplained": len(tops.unexplained),
        "differences": [_as_json(one) for one in tops.different],
        "audits": {stream: report["reason"] for stream, (_, report) in audits.items()},
    }
    checks = {
        **{f"audit of {stream}": code == 0 for stream, (code, _) in audits.items()},
        "one break of the book, one of the quotes": (book.kinds["BREAK"], breaks) == (1, 1),
        "a snapshot at the beginning and one after the kill": book.kinds["SNAPSHOT"] == 2,
        "every snapshot verified": depth["snapshots"] >= book.kinds["SNAPSHOT"] and not depth["snapshot"],
        "the book in sync at the end": book.in_sync,
        "every difference from a quote explained": tops.sides >= LEAST_SIDES and not tops.unexplained,
    }
    return figures, checks


def _as_json(one: Difference) -> dict[str, Any]:
    def text(pair: tuple[Decimal, Decimal] | None) -> str:
        return "nothing" if pair is None else f"{pair[1]:f} at {pair[0]:f}"

    return {
        "update_id": one.update_id, "side": one.side, "book": text(one.book), "quote": text(one.quote),
        "next_quote_after": one.next_quote_id - one.update_id, "explained": one.explained,
    }  # fmt: skip


if __name__ == "__main__":
    run(drill)
