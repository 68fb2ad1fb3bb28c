"""Which auditor reports and deployments call, from what the slots say over real sockets."""

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from deploy.airflow import audit_of_feed
from deploy.airflow.audit_of_feed import CANNOT_JUDGE, EXCHANGE, command, main, topics

NOBODY = "http://127.0.0.1:1"
ENVIRONMENT = {
    "SIMULATED_TOPIC": "simulated",
    "K2_KAFKA_BOOTSTRAP_SERVERS": "kafka:9092",
    "K2_KAFKA_SCHEMA_REGISTRY_URL": "http://registry",
}
Slot = Callable[[str], str]


@pytest.fixture
def slot() -> Iterator[Slot]:
    """Makes slots; gives the address of each."""
    servers: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def make(body: str) -> str:
        class Status(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if self.path == "/status" else 404)
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Status)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield make
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_slot_that_is_stopped_or_talks_nonsense_does_not_count(slot: Slot) -> None:
    good = slot(json.dumps({"topic": "simulated"}))
    assert topics([good, NOBODY, slot("no json"), slot("[]"), slot("{}")]) == {"simulated"}


def test_the_simulator_s_topic_goes_to_its_ledger_and_every_other_to_the_exchange() -> None:
    simulated = command("simulated", ENVIRONMENT, ["--json", "x"])
    assert "--ledger=http://simulator:9444" in simulated
    assert simulated[-2:] == ["--json", "x"]
    real = command("market", ENVIRONMENT, [])
    assert f"--ledger-rest={EXCHANGE}" in real
    assert "--topic=market" in real
    elsewhere = command("market", {**ENVIRONMENT, "K2_BINANCE_REST_URL": "https://other"}, [])
    assert "--ledger-rest=https://other" in elsewhere


@pytest.mark.parametrize("named", [[], ["one", "two"]])
def test_nothing_is_audited_on_a_guess(
    slot: Slot, named: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit_of_feed, "SLOTS", [slot(json.dumps({"topic": name})) for name in named])
    monkeypatch.setattr(os, "execv", lambda *_: pytest.fail("an audit was begun"))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == CANNOT_JUDGE
    assert "no audit" in capsys.readouterr().err


def test_the_auditor_takes_the_place_of_the_script(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[list[str]] = []
    monkeypatch.setattr(audit_of_feed, "SLOTS", [slot(json.dumps({"topic": "simulated"})), NOBODY])
    monkeypatch.setattr(os, "execv", lambda _, line: begun.append(line))
    monkeypatch.setattr(sys, "argv", ["audit_of_feed.py", "--json", "figures"])
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    main()
    assert begun == [command("simulated", ENVIRONMENT, ["--json", "figures"])]
