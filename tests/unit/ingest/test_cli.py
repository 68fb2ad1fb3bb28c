"""The command line: help, settings shown with secrets masked, exit codes, lazy imports."""

import io
import json
import subprocess
import sys

import pytest

from ingest import cli
from ingest.command import exit_codes
from ingest.core.errors import BadSettings, Retry, Stop
from ingest.settings import MASK

ROOT_MODULES = ("ingest.service", "ingest.binance", "ingest.kafka", "confluent_kafka", "websockets", "httpx2")


def shown(environment: dict[str, str], *, as_json: bool = False, listing: bool = False) -> tuple[int, str]:
    out = io.StringIO()
    return cli.check(environment, as_json=as_json, listing=listing, out=out), out.getvalue()


def test_check_shows_every_setting_and_no_secret() -> None:
    secret = "canary-0123456789"  # noqa: S105
    code, text = shown({"K2_CONTROL_TOKEN": secret, "K2_KAFKA_OPTION_SASL_PASSWORD": secret, "K2_SLOT": "green"})
    assert code == 0
    assert secret not in text
    lines = dict(line.split("=", 1) for line in text.splitlines())
    assert lines["K2_CONTROL_TOKEN"] == lines["K2_KAFKA_OPTION_SASL_PASSWORD"] == MASK
    assert lines["K2_SLOT"] == "green"
    assert lines["K2_BINANCE_CONNECTION_MAX_LIFETIME_HOURS"] == "4"


def test_check_tells_every_problem_on_a_line() -> None:
    code, text = shown({"K2_BINANCE_PING_INTERVAL_SECONDS": "soon", "K2_SHARD_COUNT": "0", "K2_CONTROL_TOKEN": "x"})
    assert code == 2
    assert [line.split("=")[0] for line in text.splitlines()] == ["K2_BINANCE_PING_INTERVAL_SECONDS", "K2_SHARD_COUNT"]
    assert "'soon': allowed is a number, at least 1" in text


def test_check_as_json() -> None:
    code, text = shown({}, as_json=True)
    found = json.loads(text)
    assert (code, found["ok"]) == (0, True)
    assert found["settings"]["K2_KAFKA_TOPIC"] == "market.crypto.trades.binance"
    code, text = shown({"K2_BINANCE_SYMBOLS": "btc"}, as_json=True)
    found = json.loads(text)
    assert (code, found["ok"], len(found["problems"])) == (2, False, 1)


def test_check_lists_what_can_be_set() -> None:
    _, text = shown({}, listing=True)
    assert "K2_BINANCE_PING_TIMEOUT_SECONDS (a number, more than 0, at most 60; default 10)" in text
    _, as_json = shown({}, listing=True, as_json=True)
    names = [setting["name"] for setting in json.loads(as_json)["settings"]]
    assert len(names) == len(set(names)) > 50


def test_help_has_examples_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    assert "exit codes: 0" in text
    assert all(name in text for name in ("run", "check", "topics", "simulate", "audit"))


@pytest.mark.parametrize("command", ["run", "check", "topics", "simulate", "audit"])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert f"usage: ingest {command}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["fly"], ["check", "--nonsense"]])
def test_what_is_not_understood_is_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage: ingest" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (BadSettings(["A=1: no", "B=2: no"]), 2, "ingest: A=1: no\ningest: B=2: no\n"),
        (Stop("topics are missing"), 3, "ingest: topics are missing\n"),
        (Retry("the broker is away"), 75, "ingest: the broker is away; try again\n"),
    ],
)
def test_exit_codes_mean_something(
    error: Exception, code: int, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> int:
        raise error

    monkeypatch.setattr(cli, "_service", fail)
    assert cli.main(["run"]) == code
    assert capsys.readouterr().err == text


def test_a_crash_is_no_verdict_and_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_service", lambda: 1 // 0)
    assert cli.main(["run"]) == exit_codes.CRASHED == 70
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_an_error_cannot_forge_a_line_nor_steer_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = 'the registry answered 401: \x1b[2J\n{"level": "INFO", "message": "forged"}\r\u2028\x9b'

    def fail() -> int:
        raise Stop(text)

    monkeypatch.setattr(cli, "_service", fail)
    assert cli.main(["run"]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith("ingest: ") for line in lines] == [True, True]
    assert not any(ord(character) < 32 or character in "\x7f\x9b\u2028" for line in lines for character in line)


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["--help"], ()),
        (["check", "--list"], ()),
        (["check"], ("ingest.binance", "ingest.kafka", "confluent_kafka")),
        (["simulate", "--help"], ("websockets",)),
        (["audit", "--help"], ("httpx2", "confluent_kafka")),
    ],
)
def test_nothing_is_imported_that_is_not_asked_for(arguments: list[str], allowed: tuple[str, ...]) -> None:
    code = f"""
import sys
from ingest.cli import main
try:
    main({arguments!r})
except SystemExit:
    pass
print([name for name in {ROOT_MODULES!r} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=200)
    imported = done.stderr.strip().splitlines()[-1]
    assert set(eval(imported)) <= set(allowed)  # noqa: S307 -- a list of our own names


def test_a_proxy_variable_that_is_not_used_is_named() -> None:
    code, text = shown({"https_proxy": "http://user:secret@proxy:3128"})
    assert code == 0
    assert "# HTTPS_PROXY is set and not used: set K2_BINANCE_PROXY" in text
    assert "secret" not in text
    _, text = shown({"HTTPS_PROXY": "http://proxy:3128"}, as_json=True)
    assert json.loads(text)["unused_proxies"] == ["HTTPS_PROXY"]
    _, text = shown({"HTTPS_PROXY": "http://proxy:3128", "K2_BINANCE_PROXY": "http://proxy:3128"})
    assert "not used" not in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["topics", "--partitions", "0"],
        ["topics", "--partitions", "-4"],
        ["topics", "--partitions", "99999999999999999999"],
        ["topics", "--replication-factor", "0"],
        ["topics", "--replication-factor", "-1"],
        ["topics", "--replication-factor", "70000"],
        ["topics", "--retention", "nan"],
        ["audit", "--topic", ""],
        ["audit", "--topic", "a b"],
        ["audit", "--positions-topic", ".."],
    ],
)
def test_an_impossible_option_is_named_before_anything_is_connected(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert f"argument {arguments[1]}: " in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check", "check --list", "completion bash"])
def test_a_full_device_is_one_line_and_code_2(command: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m ingest {command} > /dev/full"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert done.stderr.startswith("ingest: standard output cannot be written: ")
