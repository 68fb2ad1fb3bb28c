"""The simulator from outside: REST and admin over HTTP, TLS, plans and options."""

import asyncio
import json
import ssl
import subprocess
import sys
from argparse import ArgumentParser
from itertools import islice
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ingest.simulator import cli
from ingest.simulator.app import Simulator
from ingest.simulator.injection import KINDS
from ingest.simulator.plan import SURVIVABLE, PlanError, Step, from_file, seeded
from tests.unit.ingest.simulator.client import connected, receive
from tests.unit.ingest.simulator.conftest import Start, trade, until


def client(url: object, **options: Any) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=str(url), trust_env=False, **options)


async def test_rest_over_http_with_keep_alive(simulator: Start) -> None:
    async with simulator() as exchange, client(exchange.ready["rest_url"]) as http:
        ids = trade(exchange, count=3)
        answer = await http.get("/api/v3/historicalTrades", params={"symbol": "BTCUSDT", "fromId": ids[1]})
        assert [row["id"] for row in answer.json()] == ids[1:]
        assert answer.headers["X-MBX-USED-WEIGHT-1M"] == "25"
        assert (await http.get("/api/v3/nothing")).status_code == 404
        assert (await http.get("/api/v3/ping")).json() == {}
        exchange.injector.inject("rest_hang", {})
        with pytest.raises(httpx2.ReadTimeout):
            await http.get("/api/v3/ping", timeout=0.5)


async def test_http_that_is_none(simulator: Start) -> None:
    async with simulator() as exchange:
        host, port = str(exchange.ready["rest_url"]).removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400")
        writer.close()
        await writer.wait_closed()


async def test_admin_state_ledger_faults_and_market(simulator: Start) -> None:
    async with (
        simulator() as exchange,
        client(exchange.ready["admin_url"]) as http,
        connected(exchange, "/stream?streams=btcusdt@trade"),
    ):
        ids = trade(exchange, count=5)
        hit = (await http.post("/admin/faults", json={"kind": "void", "symbol": "BTCUSDT", "count": 2})).json()
        assert hit == {"kind": "void", "symbol": "BTCUSDT", "first": ids[-1] + 1, "last": ids[-1] + 2}
        state = (await http.get("/admin/state")).json()
        assert state["symbols"]["BTCUSDT"] == {
            "first_id": ids[0],
            "last_id": ids[-1] + 2,
            "floor_id": ids[0],
            "forgotten": False,
            "former": [],
            "sent_trades": 5,
            "voids": [[ids[-1] + 1, ids[-1] + 2]],
            "status": "TRADING",
            "base_asset": "BTC",
            "quote_asset": "USDT",
        }
        assert {"rest_429", "rest_weight", "fault_reset", "handshakes"} <= set(state["counters"])
        assert [one["streams"] for one in state["connections"]] == [1]
        page = (await http.get("/admin/ledger", params={"symbol": "BTCUSDT", "from_id": ids[0], "limit": 3})).json()
        assert [row[0] for row in page["trades"]] == ids[:3]
        assert page["trades"][0][1:] == ["61837.63000000", "0.02000000", page["trades"][0][3], True]
        assert page["next_from_id"] == ids[3]
        page = (await http.get("/admin/ledger", params={"symbol": "BTCUSDT", "from_id": ids[3], "limit": 100})).json()
        assert (len(page["trades"]), page["next_from_id"]) == (2, None)
        assert (await http.post("/admin/market", json={"action": "start"})).json()["running"] is True
        assert (await http.post("/admin/market", json={"action": "rate", "rate": 5000})).json()["rate"] == 5000
        await until(lambda: exchange.ledger.symbols["BTCUSDT"].sent_trades > 5)
        assert (await http.post("/admin/market", json={"action": "stop"})).json()["running"] is False


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/admin/nothing", None, 404),
        ("GET", "/admin/ledger?symbol=NOSUCH", None, 404),
        ("GET", "/admin/ledger", None, 400),
        ("GET", "/admin/ledger?symbol=BTCUSDT&from_id=x", None, 400),
        ("POST", "/admin/faults", "{", 400),
        ("POST", "/admin/faults", "[]", 400),
        ("POST", "/admin/faults", '{"a":' + "[" * 100_000, 400),
        ("POST", "/admin/faults", '{"kind":"nonsense"}', 400),
        ("POST", "/admin/market", '{"action":"dance"}', 400),
        ("POST", "/admin/market", '{"action":"rate","rate":-1}', 400),
    ],
)
async def test_admin_says_what_is_wrong(
    simulator: Start, method: str, path: str, body: str | None, status: int
) -> None:
    async with simulator() as exchange, client(exchange.ready["admin_url"]) as http:
        answer = await http.request(method, path, content=body)
        assert answer.status_code == status
        assert answer.json()["error"]


async def test_tls_by_its_own_authority(simulator: Start) -> None:
    async with simulator(tls=True, tls_names=("simulator",)) as exchange:
        trusting = ssl.create_default_context(cafile=str(exchange.ready["ca_file"]))
        async with connected(exchange, "/ws/btcusdt@trade", ssl=trusting) as connection:
            ids = trade(exchange)
            assert (await receive(connection))[0]["t"] == ids[0]
        async with connected(exchange, "/ws", ssl=trusting, server_hostname="simulator"):
            pass
        async with client(exchange.ready["rest_url"], verify=trusting) as http:
            assert (await http.get("/api/v3/ping")).json() == {}
        with pytest.raises(ssl.SSLCertVerificationError):
            async with connected(exchange, "/ws"):
                pass


@pytest.mark.parametrize("flaw", ["expired", "wrong_host", "unknown_ca"])
async def test_certificates_that_must_be_refused(simulator: Start, flaw: str, tmp_path: Path) -> None:
    async with simulator(tls=True, tls_flaw=flaw, tls_dir=tmp_path) as exchange:
        trusting = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        with pytest.raises(ssl.SSLCertVerificationError):
            async with connected(exchange, "/ws", ssl=trusting):
                pass


def test_a_seeded_plan_is_repeatable_and_takes_back_what_lasts() -> None:
    steps = list(islice(seeded(4, 60.0), 3000))
    assert steps == list(islice(seeded(4, 60.0), 3000))
    assert steps != list(islice(seeded(5, 60.0), 3000))
    assert [step.at for step in steps] == sorted(step.at for step in steps)
    assert {step.kind for step in steps} == set(SURVIVABLE)
    assert 0.6 < len(steps) / steps[-1].at < 1.6
    skews = [step.options["ms"] for step in steps if step.kind == "clock_skew"]
    assert skews.count(0) >= len(skews) // 2
    assert {step.kind for step in islice(seeded(4, 60.0, kinds=("gap", "reset")), 100)} == {"gap", "reset"}


def test_plans_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    for text in ("{", "[3]", '[{"kind":"gap"}]', '[{"at":1,"kind":"nonsense"}]'):
        path.write_text(text)
        with pytest.raises(PlanError):
            from_file(path)
    with pytest.raises(PlanError):
        seeded(1, 1.0, kinds=("id_reset",))
    with pytest.raises(PlanError):
        seeded(1, 0.0)


async def test_every_step_that_a_seed_can_draw_can_be_done(simulator: Start) -> None:
    plan = [Step(0.0, step.kind, step.options) for step in islice(seeded(1, 60.0), 400)]
    async with simulator(plan=plan) as exchange:
        exchange.driver.start()
        await until(lambda: exchange.counters["plan_done"] + exchange.counters["plan_failed"] == len(plan))
        assert exchange.counters["plan_failed"] == 0


async def test_a_plan_begins_with_the_first_trade(simulator: Start, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text('[{"at":0.02,"kind":"void","count":2},{"at":0,"kind":"delist","symbol":"NOSUCH"}]')
    async with simulator(plan=from_file(path)) as exchange:
        await asyncio.sleep(0.05)
        assert not {"plan_done", "plan_failed"} & set(exchange.counters)
        exchange.driver.start()
        await until(lambda: exchange.counters["plan_done"])
        assert (exchange.counters["plan_done"], exchange.counters["plan_failed"]) == (1, 1)
        assert sum(len(book.voids) for book in exchange.ledger.symbols.values()) == 1


async def test_clearing_ends_the_plan(simulator: Start) -> None:
    async with simulator(plan=[Step(0.0, "gap", {}), Step(1.5, "gap", {})]) as exchange:
        exchange.driver.start()
        await until(lambda: exchange.counters["fault_gap"])
        exchange.injector.inject("clear", {})
        await asyncio.sleep(1.7)
        assert exchange.counters["fault_gap"] == 1


async def test_what_is_kept_is_bounded_on_request(simulator: Start) -> None:
    async with simulator(keep=10) as exchange:
        trade(exchange, count=100)
        await until(lambda: len(exchange.ledger.symbols["BTCUSDT"].held) == 10)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--symbols", "0"],
        ["--symbols", "NOQUOTE"],
        ["--replay", "/nonexistent/file"],
        ["--fault-plan", "/nonexistent/file"],
        ["--fault-rate", "1", "--fault-kinds", "nonsense"],
    ],
)
def test_options_that_cannot_be_used(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    parser = ArgumentParser()
    cli.add_arguments(parser)
    assert cli.run(parser.parse_args(arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith("ingest simulate: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rate", "0"], ["--rate", "nan"], ["--speed", "-1"], ["--ping-interval", "0"], ["--port", "-1"],
        ["--port", "65536"], ["--host", "http://x"], ["--memory", "0"], ["--keep", "-1"], ["--burst", "0"],
        ["--ready-file", ""], ["--weight-limit", "0"], ["--seed", "x"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_values_that_no_option_has(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    parser = ArgumentParser()
    cli.add_arguments(parser)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(arguments)
    assert ended.value.code == 2
    assert "allowed is" in (error := capsys.readouterr().err) or "is not" in error


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "simulator:9444"}, 200),
        ({"Host": "[::1]:9444"}, 200),
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example:80"}, 421),
        ({"Host": "simulator:9444", "Origin": "http://simulator:9444"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
    ids=str,
)
async def test_the_admin_api_refuses_what_a_browser_sends_for_another_site(
    simulator: Start, headers: dict[str, str], status: int
) -> None:
    async with simulator() as exchange, client(exchange.ready["admin_url"]) as http:
        answer = await http.post("/admin/faults", json={"kind": "gap"}, headers=headers)
        assert answer.status_code == status
        assert exchange.counters["fault_gap"] == (status == 200)


async def test_memory_is_bounded_over_all_symbols(simulator: Start) -> None:
    async with simulator(memory_mb=80 * 300 / 2**20) as exchange:
        trade(exchange, count=2000)
        trade(exchange, "ETHUSDT", count=1000)
        books = exchange.ledger.symbols
        await until(lambda: sum(len(book.held) for book in books.values()) <= 300)
        assert [len(books[name].held) for name in ("BTCUSDT", "ETHUSDT")] == [200, 100]
        state = exchange.injector._exchange.ledger.symbols["BTCUSDT"]
        assert state.forgotten


def test_every_option_reaches_the_simulator() -> None:
    parser = ArgumentParser()
    cli.add_arguments(parser)
    text = (
        "--symbols BTCUSDT --rate 7 --seed 9 --burst 3 --paused --keep 5 --layout no_m --ping-interval 1 "
        "--pong-timeout 2 --lax-pongs --lifetime 3 --max-messages 4 --max-streams 6 --max-connects 8 --ban-after 2 "
        "--flat-errors --no-deflate --compress --weight-limit 11 --history-lag 1.5 --retention 12 --tls "
        "--port 1 --rest-port 2 --admin-port 3"
    )
    options = cli.options(parser.parse_args(text.split()))
    assert (options.rate, options.seed, options.burst, options.keep, options.paused) == (7.0, 9, 3, 5, True)
    assert (options.port, options.rest_port, options.admin_port, options.tls) == (1, 2, 3, True)
    assert (options.weight_limit, options.history_lag_s, options.retention, options.layout) == (11, 1.5, 12, "no_m")
    rules = options.rules
    assert (rules.ping_interval_s, rules.pong_timeout_s, rules.lifetime_s, rules.strict_pong) == (1.0, 2.0, 3.0, False)
    assert (rules.messages, rules.streams, rules.connects, rules.ban_after) == (4, 6, 8, 2)
    assert (rules.error_shape, rules.negotiate_deflate, rules.compress) == ("flat", False, True)


def test_it_needs_nothing_of_the_service() -> None:
    code = "import sys, ingest.simulator.cli; print([name for name in sys.modules if name.startswith('ingest.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout.replace("'", '"'))
    assert all(name.startswith(("ingest.simulator", "ingest.command")) for name in loaded), loaded
    assert Simulator.__module__ in loaded


def test_the_reference_names_every_fault_and_every_limit() -> None:
    page = (Path(__file__).resolve().parents[4] / "docs" / "reference" / "simulator.md").read_text()
    assert [kind for kind in KINDS if f"`{kind}`" not in page] == []
    parser = ArgumentParser()
    cli.add_arguments(parser)
    rules = next(group for group in parser._action_groups if group.title == "rules")
    options = [action.option_strings[0] for action in rules._group_actions]
    assert [option for option in options if option not in page] == []
