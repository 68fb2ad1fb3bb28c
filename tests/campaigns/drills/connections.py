"""Ten minutes in which no connection grows old: rotations, shutdowns and resets at 2,000 trades/s over 50 symbols.

A rotation each 15 s, by order or by age, whichever is first; a ``serverShutdown`` each minute; a reset each 20 s:
nothing lost, nothing twice, and no REST call for a rotation. ``CONNECTION_SECONDS`` (600) is an environment variable;
``PAIR=1`` keeps a permanent second connection, and then a reset may cost no hole and no history either, only the cheap
question for the last ids of symbols that are silent after a reconnect.

With one connection a reset does cost calls: what was traded until the next handshake is fetched. A call is put down to
the reset before it from the reset until no hole is open, and at least for as long as silent symbols are looked at after
a reconnect. Every other call, and every hole found at another time, is put down to a rotation.
"""

import os
import threading
import time
from dataclasses import dataclass, field

from ingest.binance.tail_gap_check import LOOK_SECONDS
from tests.campaigns.drills.environment import DrillEnvironment, run
from tests.harness.processes import ServiceProcess, SimulatorProcess, http_json

ROTATION_EVERY = 15.0
SHUTDOWN_EVERY = 60.0
SHUTDOWN_LEAD = 5.0
RESET_EVERY = 20.0
AFTERMATH = LOOK_SECONDS[-1] + 3.0
"""Seconds after a reset in which a call may be its consequence although no hole is open."""
HISTORY, LAST_IDS = "rest_calls:/api/v3/historicalTrades", "rest_calls:/api/v3/ticker/24hr"


@dataclass
class Sums:
    """What was counted while the consequences of a reset lasted, and what at other times."""

    after_resets: dict[str, float] = field(default_factory=dict)
    otherwise: dict[str, float] = field(default_factory=dict)


class Ledger(threading.Thread):
    """Puts REST calls, holes and rotations down to resets or to rotations, twice a second."""

    def __init__(self, simulator: SimulatorProcess, service: ServiceProcess) -> None:
        super().__init__(name="ledger", daemon=True)
        self._simulator = simulator
        self._service = service
        self._closing = threading.Event()
        self._reset_at = float("-inf")
        self._unsettled = False
        self._lock = threading.Lock()
        self.last = self._read()
        self.first = dict(self.last)
        self.sums = Sums(dict.fromkeys(self.last, 0.0), dict.fromkeys(self.last, 0.0))

    def run(self) -> None:
        while not self._closing.wait(0.5):
            with self._lock:
                self._account()

    def reset(self) -> None:
        """Inject a reset; from now on its consequences are expected."""
        with self._lock:
            self._account()
            self._reset_at = time.monotonic()
            self._unsettled = True
            self._simulator.fault("reset", connection="oldest")

    def close(self) -> None:
        """Stop."""
        self._closing.set()
        self.join(20)

    def _account(self) -> None:
        now = self._read()
        sums = self.sums.after_resets if self._unsettled else self.sums.otherwise
        for name, value in now.items():
            sums[name] += value - self.last[name]
        self.last = now
        if time.monotonic() - self._reset_at > AFTERMATH and self._service.metrics()["ingest_gaps_open"] == 0:
            self._unsettled = False

    def _read(self) -> dict[str, float]:
        counters = self._simulator.state()["counters"]
        metrics = self._service.metrics()

        def total(name: str) -> float:
            return sum(value for key, value in metrics.items() if key == name or key.startswith(f"{name}{{"))

        return {
            "history_calls": float(counters.get(HISTORY, 0)),
            "rest_calls": float(counters.get(HISTORY, 0) + counters.get(LAST_IDS, 0)),
            "holes": metrics["ingest_gaps_found_total"],
            "rotations": total("binance_connection_rotations_total"),
            "scheduled": metrics['binance_connection_rotations_total{reason="scheduled"}'],
            "server_shutdown": metrics['binance_connection_rotations_total{reason="server_shutdown"}'],
            "reconnects": total("binance_reconnects_total"),
            "pongs": float(counters.get("pongs_received", 0)),
            "slow_pongs": float(counters.get("pongs_slow", 0) + counters.get("pong_timeouts", 0)),
        }


def drill() -> int:
    seconds, pair = float(os.environ.get("CONNECTION_SECONDS", "600")), os.environ.get("PAIR") == "1"
    settings = {
        "K2_BINANCE_CONNECTION_MAX_LIFETIME_SECONDS": f"{ROTATION_EVERY:g}",
        "K2_BINANCE_DUAL_CONNECTIONS": str(pair).lower(),
    }
    name = "connections-pair" if pair else "connections"
    with DrillEnvironment(
        name, ["--symbols", "50", "--rate", "2000", "--seed", "5", "--ping-interval", "1"], settings
    ) as env:
        service, simulator = env.stack.service("blue"), env.stack.simulator
        env.stack.wait(env.stack.writing, "the service as writer")
        env.stack.wait(lambda: len(env.stack.committed()) == 50, "all symbols in Kafka", seconds=60)
        time.sleep(AFTERMATH)  # a start asks REST, too
        ledger = Ledger(simulator, service)
        ledger.start()
        began = time.monotonic()
        resets = shutdowns = orders = 0
        # A notice comes when no rotation is under way: else it would only repeat what is being done.
        due = {"reset": RESET_EVERY, "shutdown": SHUTDOWN_EVERY - 6.0, "rotation": 12.0, "say": 60.0}
        try:
            while (now := time.monotonic() - began) < seconds:
                if now >= due["reset"]:
                    due["reset"] += RESET_EVERY
                    ledger.reset()
                    resets += 1
                if now >= due["shutdown"]:
                    due["shutdown"] += SHUTDOWN_EVERY
                    simulator.fault("server_shutdown", connection="oldest", lead_s=SHUTDOWN_LEAD)
                    shutdowns += 1
                if now >= due["rotation"]:
                    due["rotation"] += ROTATION_EVERY
                    http_json(
                        f"{service.control_url}/control/rotate", method="POST", body={},
                        token=env.stack.settings()["K2_CONTROL_TOKEN"], timeout=60.0,
                    )  # fmt: skip
                    orders += 1
                if now >= due["say"]:
                    due["say"] += 60.0
                    sums = ledger.sums
                    env.say(
                        f"{resets} resets, {shutdowns} shutdowns, {env.consumer.count:,} trades visible; "
                        f"apart from resets {sums.otherwise['rotations']:.0f} rotations, "
                        f"{sums.otherwise['rest_calls']:.0f} REST calls"
                    )
                time.sleep(0.1)
        finally:
            ledger.close()
        env.settle("blue")
        apart, after = ledger.sums.otherwise, ledger.sums.after_resets
        whole = {name: apart[name] + after[name] for name in apart}
        figures = {
            "minutes": round(seconds / 60.0, 1),
            "connections": 2 if pair else 1,
            "resets": resets,
            "shutdowns_announced": shutdowns,
            "rotations": int(whole["rotations"]),
            "rotations_scheduled": int(whole["scheduled"]),
            "rotations_after_shutdown": int(whole["server_shutdown"]),
            "rotations_apart_from_resets": int(apart["rotations"]),
            "rest_calls_for_rotations": int(apart["rest_calls"]),
            "holes_from_rotations": int(apart["holes"]),
            "rest_calls_after_resets": int(after["rest_calls"]),
            "history_calls_after_resets": int(after["history_calls"]),
            "holes_after_resets": int(after["holes"]),
            "server_pings_answered": int(whole["pongs"]),
            "server_pings_answered_after_1_s": int(whole["slow_pongs"]),
        }
        also = {
            "no REST call for a rotation": apart["rest_calls"] == 0 and apart["holes"] == 0,
            "rotations were seen apart from resets": apart["rotations"] > 0,
            "server pings answered within 1 s (p99)": 0 < whole["pongs"] >= 100 * whole["slow_pongs"],
            # Not each one: a connection whose successor is being opened already needs no other.
            "shutdowns were answered": whole["server_shutdown"] > 0 or shutdowns == 0,
            "rotations each 15 s": whole["rotations"] >= 0.8 * orders and whole["scheduled"] > 0,
            "every reset was felt": whole["reconnects"] >= resets * 0.9,
            **({"no hole and no history": whole["history_calls"] == whole["holes"] == 0} if pair else {}),
        }
        return env.conclude(figures, also=also)


if __name__ == "__main__":
    run(drill)
