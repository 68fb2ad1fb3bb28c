import concurrent.futures
import hmac
from typing import Any

import pytest

from ingest.control.server import ControlServer
from ingest.core.errors import Fenced, IngestError, Recycle, Retry, Stop
from ingest.http.auth import Role
from ingest.http.commands import ID_HEADER, MAX_AGE_SECONDS, MAX_AHEAD_SECONDS, PROCESS_HEADER, TIME_HEADER
from tests.unit.ingest.control.conftest import TOKEN, TOKENS, WALL_CLOCK, Control, FakeCommands, FakeProbe, ask

WRONG = "guess"


# ---- control: who may


def test_without_the_token_nothing_is_told_or_done(control: Control, commands: FakeCommands) -> None:
    for token in (None, "", "wrong", TOKEN + "x", TOKEN[:-1], TOKEN.upper(), "caf\u00e9"):
        for method, path in (("GET", "/control/status"), ("POST", "/control/drain"), ("GET", "/nowhere")):
            control.now += 100
            answered = control.ask(method, path, token=token)
            assert answered.status == 401
            assert answered.headers["WWW-Authenticate"].startswith("Bearer")
            assert TOKEN not in answered.body.decode()
    basic = ask(control.server.url, "GET", "/control/status", headers={"Authorization": f"Basic {TOKEN}"})
    assert basic.status == 401
    assert commands.calls == []


def test_the_token_is_compared_in_constant_time(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[object, object]] = []
    real = hmac.compare_digest

    def watched(left: bytes, right: bytes) -> bool:
        compared.append((left, right))
        return real(left, right)

    monkeypatch.setattr("hmac.compare_digest", watched)
    assert control.ask("GET", "/control/status", token=WRONG).status == 401
    assert control.ask("GET", "/control/status").status == 200
    given = {left for left, _ in compared}
    assert given == {WRONG.encode(), TOKEN.encode()}
    assert {right for left, right in compared if left == WRONG.encode()} == {one.encode() for one in TOKENS.values()}


def test_guessing_is_limited_until_the_window_has_passed(control: Control) -> None:
    for _ in range(10):
        assert control.ask("GET", "/control/status", token=WRONG).status == 401
    limited = control.ask("GET", "/control/status", token=WRONG)
    assert limited.status == 429
    assert 1 <= int(limited.headers["Retry-After"]) <= 60
    assert control.ask("GET", "/control/status").status == 200, "whoever guesses does not lock the operator out"
    control.now += int(limited.headers["Retry-After"])
    assert control.ask("GET", "/control/status", token=WRONG).status == 401


def test_a_missing_token_locks_nobody_out(control: Control) -> None:
    for _ in range(15):
        assert control.ask("GET", "/control/status", token=None).status == 401
    assert control.ask("GET", "/control/status").status == 200


def test_a_control_server_without_a_token_is_refused(probe: FakeProbe, commands: FakeCommands) -> None:
    with pytest.raises(Stop, match="K2_CONTROL_TOKEN"):
        ControlServer("127.0.0.1", 0, tokens={Role.READ: "a-token-that-reads"}, probe=probe, commands=commands)


# ---- control: what


def test_the_operator_reads_the_status(control: Control) -> None:
    answered = control.ask("GET", "/control/status")
    process = control.ask("GET", "/control/status").content["process"]
    assert (answered.status, answered.content) == (200, {"role": "standby", "process": process})


@pytest.mark.parametrize(
    ("verb", "body", "arguments"),
    [
        ("promote", {"deployment_id": "v1.2_3-a", "generation": 0}, {"deployment_id": "v1.2_3-a", "generation": 0}),
        ("promote", {"deployment_id": "d", "generation": 4}, {"deployment_id": "d", "generation": 4}),
        ("stand_by", {}, {}),
        ("drain", None, {}),
        ("drain", b" \n", {}),
        ("rotate", {}, {}),
        ("rotate", {"connection": "a-1"}, {"connection": "a-1"}),
        ("symbols", {"add": ["BTCUSDT", "1000SATSUSDT", "BTCUSDT"]}, {"add": ["BTCUSDT", "1000SATSUSDT"]}),
        ("symbols", {"remove": ["币安人生USDT"], "add": []}, {"add": [], "remove": ["币安人生USDT"]}),
        ("thaw", {"symbol": "BTCUSDT", "next_id": 7}, {"symbol": "BTCUSDT", "next_id": 7}),
        (
            "thaw",
            {"symbol": "BTCUSDT", "next_id": 7, "actor": "jane"},
            {"symbol": "BTCUSDT", "next_id": 7, "actor": "jane"},
        ),
    ],
)
def test_a_command_is_passed_on_with_its_checked_arguments(
    control: Control, commands: FakeCommands, verb: str, body: object, arguments: dict[str, Any]
) -> None:
    answered = control.post(verb, body)
    assert (answered.status, answered.content) == (200, {"state": "done"})
    assert commands.calls == [(verb, arguments)]


@pytest.mark.parametrize(
    ("verb", "body", "problem"),
    [
        ("promote", {}, "deployment_id"),
        ("promote", None, "deployment_id"),
        ("promote", {"deployment_id": "a"}, "generation"),
        ("promote", {"deployment_id": 5}, "deployment_id"),
        ("promote", {"deployment_id": ""}, "deployment_id"),
        ("promote", {"deployment_id": "a" * 65}, "deployment_id"),
        ("promote", {"deployment_id": "a\n"}, "deployment_id"),
        ("promote", {"deployment_id": "a/b"}, "deployment_id"),
        ("promote", {"deployment_id": "a", "generation": "4"}, "generation"),
        ("promote", {"deployment_id": "a", "generation": True}, "generation"),
        ("promote", {"deployment_id": "a", "generation": -1}, "generation"),
        ("promote", {"deployment_id": "a", "genration": 1}, "genration"),
        ("promote", b"{", "promote: Input data was truncated"),
        ("promote", b"[]", "Expected `object`"),
        ("promote", b"\xff", "promote"),
        ("promote", b"[" * 60_000, "promote"),
        ("promote", b'{"deployment_id": "a", "generation": 1, "x": ' + b"[" * 60_000, "promote"),
        ("stand_by", {"now": True}, "now"),
        ("drain", "x", "Expected `object`"),
        ("rotate", {"connection": 3}, "connection"),
        ("symbols", {}, "at least one symbol"),
        ("symbols", {"add": []}, "at least one symbol"),
        ("symbols", {"add": "BTCUSDT"}, "add"),
        ("symbols", {"add": ["btcusdt"]}, "add[0]"),
        ("symbols", {"add": ["BTC/USDT"]}, "add[0]"),
        ("symbols", {"add": ["A", "B"], "remove": ["B"]}, "B in both"),
        ("thaw", {"symbol": "BTCUSDT"}, "next_id"),
        ("thaw", {"symbol": "BTCUSDT", "next_id": 1.5}, "next_id"),
        ("thaw", {"symbol": "BTCUSDT", "next_id": 2**63}, "next_id"),
        ("thaw", {"symbol": "BTCUSDT", "next_id": 1, "actor": "a\r\nb"}, "actor"),
    ],
)
def test_a_bad_body_is_400_and_says_what_is_wrong(
    control: Control, commands: FakeCommands, verb: str, body: object, problem: str
) -> None:
    answered = control.post(verb, body)
    assert answered.status == 400
    assert problem in answered.content["error"]
    assert commands.calls == []


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (Stop("generation 3 is not newer than 4"), 409, "generation 3 is not newer than 4"),
        (Fenced("another writer"), 409, "another writer"),
        (Retry("the broker is away", after=2.1), 503, "the broker is away"),
        (Recycle("timeout"), 503, "timeout"),
        (TimeoutError(), 504, "did not finish in time"),
        (ZeroDivisionError("secret detail"), 500, "ZeroDivisionError"),
    ],
)
def test_a_refused_command_has_the_status_that_says_what_to_do_next(
    control: Control, commands: FakeCommands, error: BaseException, status: int, text: str
) -> None:
    commands.fail(error)
    answered = control.post("stand_by")
    assert answered.status == status
    assert text in answered.content["error"]
    assert "secret detail" not in answered.content["error"]
    if isinstance(error, Retry):
        assert answered.headers["Retry-After"] == "3"


@pytest.mark.parametrize(
    ("error", "status"), [(Stop("unknown command"), 409), (Retry("busy"), 503), (RuntimeError("loop closed"), 503)]
)
def test_a_command_that_cannot_even_start_is_refused(
    control: Control, commands: FakeCommands, error: IngestError | RuntimeError, status: int
) -> None:
    def refuse(_: object) -> None:
        raise error

    commands.outcome = refuse
    assert control.post("stand_by").status == status


def test_a_command_that_is_cancelled_is_503(control: Control, commands: FakeCommands) -> None:
    def cancel(future: concurrent.futures.Future[dict[str, Any]]) -> None:
        future.cancel()

    commands.outcome = cancel
    answered = control.post("stand_by")
    assert answered.status == 503
    assert "was cancelled" in answered.content["error"]


def test_a_command_without_an_outcome_is_504(control: Control, commands: FakeCommands) -> None:
    commands.outcome = lambda future: None
    answered = control.post("promote", {"deployment_id": "d", "generation": 2})
    assert answered.status == 504
    assert "/control/status" in answered.content["error"]


def test_wrong_paths_and_methods_of_the_control_server(control: Control, commands: FakeCommands) -> None:
    for path in ("/control", "/control/", "/control/explode", "/promote", "/x/control/drain", "/control/drain/"):
        assert control.ask("POST", path, {}).status == 404
    assert control.ask("POST", "/control/status", {}).headers["Allow"] == "GET, HEAD"
    got = control.ask("GET", "/control/drain")
    assert (got.status, got.headers["Allow"]) == (405, "POST")
    assert commands.calls == []


# ---- control: roles, repeated and late commands


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        (Role.READ, set()),
        (Role.OPERATE, {"drain", "rotate"}),
        (Role.DEPLOY, {"drain", "rotate", "stand_by", "watch"}),
    ],
)
def test_a_role_may_do_what_it_may_and_no_more(
    control: Control, commands: FakeCommands, role: Role, allowed: set[str]
) -> None:
    assert control.ask("GET", "/control/status", token=TOKENS[role]).status == 200
    for name in ("drain", "rotate", "stand_by", "watch"):
        answered = control.ask("POST", f"/control/{name}", {}, token=TOKENS[role])
        assert answered.status == (200 if name in allowed else 403)
        assert name in allowed or "role" in answered.content["error"]
    assert {name for name, _ in commands.calls} == allowed


def _drain(control: Control, command_id: str, at: float | str) -> int:
    headers = {"Authorization": f"Bearer {TOKEN}", ID_HEADER: command_id, TIME_HEADER: str(at)}
    return ask(control.server.url, "POST", "/control/drain", headers=headers).status


def test_a_repeated_a_late_and_an_early_command_are_refused(control: Control, commands: FakeCommands) -> None:
    assert _drain(control, "command-x", WALL_CLOCK) == 200
    assert _drain(control, "command-x", WALL_CLOCK) == 409
    assert _drain(control, "command-x", WALL_CLOCK + 1) == 409, "another time does not make it another command"
    assert _drain(control, "command-late", WALL_CLOCK - MAX_AGE_SECONDS - 1) == 409
    assert _drain(control, "command-early", WALL_CLOCK + MAX_AHEAD_SECONDS + 0.1) == 409
    assert _drain(control, "command-ahead", WALL_CLOCK + MAX_AHEAD_SECONDS - 0.1) == 200
    assert _drain(control, "command-old", WALL_CLOCK - 1) == 409, "from before this process began"
    for name, at in (("short", WALL_CLOCK), ("command-y", ""), ("command-y", "nan"), ("command\ty", WALL_CLOCK)):
        assert _drain(control, name, at) == 400
    assert len(commands.calls) == 2


def test_a_command_from_the_future_is_refused_with_this_clock_s_time(control: Control) -> None:
    """It would be accepted a second time after a restart, which forgets its id."""
    headers = {"Authorization": f"Bearer {TOKEN}", ID_HEADER: "command-z", TIME_HEADER: str(WALL_CLOCK + 55)}
    answered = ask(control.server.url, "POST", "/control/drain", headers=headers)
    assert answered.status == 409
    assert f"this clock, which says {WALL_CLOCK:.3f}" in answered.content["error"]


def test_a_command_for_another_process_is_refused(control: Control, commands: FakeCommands) -> None:
    """Of the other slot, or of the one that was here before."""
    process = control.ask("GET", "/control/status").content["process"]
    for number, (meant, status) in enumerate([("0" * 32, 409), (process, 200)]):
        headers = {"Authorization": f"Bearer {TOKEN}", ID_HEADER: f"command-{number}", TIME_HEADER: str(WALL_CLOCK)}
        answered = ask(control.server.url, "POST", "/control/drain", headers={**headers, PROCESS_HEADER: meant})
        assert answered.status == status
    assert len(commands.calls) == 1


def test_requests_of_other_sites_and_for_foreign_names_are_refused(control: Control, status_url: str) -> None:
    assert ask(status_url, "GET", "/status", headers={"Origin": "http://evil.example"}).status == 403
    assert ask(status_url, "GET", "/status", headers={"Host": "evil.example"}).status == 421
    for host in ("localhost:9095", "ingest-blue:9095", "10.0.0.7", "[::1]:9095"):
        assert ask(status_url, "GET", "/status", headers={"Host": host}).status == 200
        assert ask(status_url, "GET", "/status", headers={"Host": host, "Origin": f"http://{host}"}).status == 200
    headers = {"Authorization": f"Bearer {TOKEN}", "Origin": "http://evil.example"}
    assert ask(control.server.url, "GET", "/control/status", headers=headers).status == 403


def test_the_token_is_never_logged(control: Control, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    assert control.post("drain").status == 200
    assert control.ask("GET", "/control/status", token=f"{TOKEN}-not").status == 401
    assert "drain" in caplog.text
    assert "wrong token" in caplog.text
    assert TOKEN not in caplog.text
