"""Every option of every command, with values that nobody would give: an exit code of the table, and no traceback."""

import argparse
import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ingest.cli
import ingest_ops.__main__
from ingest.audit.run import Outcome
from ingest.command import exit_codes
from ingest.simulator.app import Simulator
from ingest_ops.agent.slots import AgentRefusal

KNOWN = {code for code, _, _ in exit_codes.TABLE} - {exit_codes.CRASHED}
NASTY = (
    "", " ", "-", "--", "-1", "0", "1", "nan", "inf", "-inf", "1e999", "9" * 400, "0x10", "1_000", "\u0661", "\x00",
    "\udcff", "\x1b[2J", "a\nb", ":", ":99999", "h:", "[::1]:1", "localhost:70000", "h" * 300, "a..b", "a" * 70 + ".b",
    "http://", "http://[", "http://h:99999", "http://u:p@h", "http://h/ws", "ftp://h", "socks5://h", "//", "/dev/null",
    "/nonexistent/x", ".", "..", "../../x", "%s", "{}", "*", ",", ",,", "=", "=x", "K=V", "K=env:NO_SUCH", "2026-02-30",
    "BTCUSDT", "BTCUSDT,BTCUSDT", "ETH/DAI", "币安人生", "blue", "true", "None", "debug=all", "logger=x",
)  # fmt: skip
Main = Callable[[list[str]], int]


class Asked(BaseException):
    """The parser, as it is about to parse."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def parser_of(main: Main, words: list[str]) -> argparse.ArgumentParser:
    def ask(parser: argparse.ArgumentParser, *_: object) -> None:
        raise Asked(parser)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", ask)
        with pytest.raises(Asked) as asked:
            main(words)
    return asked.value.parser


def commands() -> Iterator[tuple[Main, list[str], list[argparse.Action]]]:
    """Each command's program, its words and its actions."""
    for main, names in ((ingest.cli.main, ingest.cli.HELP), (ingest_ops.__main__.main, ingest_ops.__main__.COMMANDS)):
        for name in names:
            (subs,) = (one for one in parser_of(main, [name])._actions if isinstance(one, argparse._SubParsersAction))
            sub: argparse.ArgumentParser = subs.choices[name]
            inner = [one for one in sub._actions if isinstance(one, argparse._SubParsersAction)]
            for word, part in inner[0].choices.items() if inner else [("", sub)]:
                yield main, [name, *([word] if word else [])], [a for a in part._actions if a.dest != "help"]


COMMANDS = {
    " ".join(words) + f" ({main.__module__.split('.')[0]})": (main, words, acts) for main, words, acts in commands()
}


@st.composite
def arguments(draw: st.DrawFn, words: list[str], actions: list[argparse.Action]) -> list[str]:
    value = st.sampled_from(NASTY) | st.text(max_size=8)
    found = list(words)
    optional = [action for action in actions if action.option_strings]
    chosen = [action for action in optional if action.required]
    chosen += draw(st.lists(st.sampled_from(optional), max_size=3)) if optional else []
    for action in chosen:
        found.append(action.option_strings[-1])
        if action.nargs != 0:
            values = st.sampled_from([str(one) for one in action.choices]) if action.choices else value
            found[-1] += f"={draw(values)}"
    found += [draw(value) for action in actions if not action.option_strings]
    return found


@pytest.fixture
def harmless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing listens, waits or leaves this machine; everything before that is real."""

    class Over(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            return True

    def no_docker(**_: object) -> None:
        raise AgentRefusal("no Docker")

    async def serve(options: Any, announce: Any) -> None:
        Simulator(options)

    monkeypatch.chdir(tmp_path)
    for name in ("K2_AGENT_TOKEN", "K2_CONTROL_TOKEN"):
        monkeypatch.setenv(name, "a-token-for-tests-only")
    monkeypatch.setattr(ingest.cli, "_service", lambda: 0)
    replaced: dict[str, dict[str, Any]] = {
        "ingest.kafka.topics": {"create": lambda *_, **__: [], "verify_settled": lambda *_, **__: None},
        "ingest.control.health_command": {"ask": lambda *_: (False, "no answer")},
        "ingest.connection_check": {"INIT_SECONDS": 1.0, "READ_SECONDS": 1.0},
        "ingest.simulator.cli": {"serve": serve},
        "ingest_ops.soak.calibration": {"run": lambda *_: ""},
        "ingest_ops.report.cli": {"_read": lambda *_, **__: {}, "audit": lambda *_, **__: None},
    }
    for module, attributes in replaced.items():
        part = importlib.import_module(module)
        for attribute, value in attributes.items():
            monkeypatch.setattr(part, attribute, value)
    monkeypatch.setattr("ingest.audit.run.Audit.run", lambda _: Outcome())
    monkeypatch.setattr("ingest.audit.cli.watch", lambda *_, **__: None)
    monkeypatch.setattr("ingest_ops.soak.engine.Engine.run", lambda self, _: self.record)
    monkeypatch.setattr("ingest_ops.agent.docker_slots.DockerSlots.connect", no_docker)
    for server in ("agent", "exporter"):
        monkeypatch.setattr(f"ingest_ops.{server}.cli.threading", SimpleNamespace(Event=Over))
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr("time.sleep", lambda _: None)


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.usefixtures("harmless")
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data())
def test_no_option_ends_in_a_traceback(name: str, data: st.DataObject, capsys: pytest.CaptureFixture[str]) -> None:
    main, words, actions = COMMANDS[name]
    given_arguments = data.draw(arguments(words, actions))
    try:
        code = main(given_arguments)
    except SystemExit as ended:  # argparse's own
        code = int(ended.code or 0)
    shown = capsys.readouterr()
    assert code in KNOWN, shown.err
    assert "Traceback" not in shown.err
    assert "\x1b" not in shown.out


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["--newest-hours", "nan"], "--newest-hours"),
        (["--timeout", "-1"], "--timeout"),
        (["--listen", ":99999"], "--listen"),
        (["--every", "inf"], "--every"),
        (["--schema-registry-url", "http://[::1"], "--schema-registry-url"),
    ],
)
def test_what_an_option_refuses_is_named(arguments: list[str], option: str, capsys: pytest.CaptureFixture[str]) -> None:
    needed = ["--bootstrap-servers", "h:1", "--schema-registry-url", "http://h:1", "--ledger", "http://h:1"]
    with pytest.raises(SystemExit) as ended:
        ingest.cli.main(["audit", *needed, *arguments])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert f"argument {option}" in error
    assert sys.getdefaultencoding() == "utf-8"


@pytest.mark.parametrize(
    ("main", "words", "usage", "text"),
    [
        (ingest.cli.main, ["check", "--lst"], "ingest check", "unrecognized arguments: --lst"),
        (
            ingest.cli.main,
            ["check", "--list", "--connect"],
            "ingest check",
            "--connect: not allowed with argument --list",
        ),
        (ingest_ops.__main__.main, ["hold", "--lst"], "python -m ingest_ops hold", "unrecognized arguments: --lst"),
    ],
)
def test_a_wrong_option_is_answered_with_the_usage_of_its_command(
    main: Main, words: list[str], usage: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"usage: {usage} [-h]")
    assert text in error


@pytest.mark.parametrize("words", [[], ["--fault-plan", "x.json", "--fault-rate", "1"]])
def test_kinds_of_faults_that_nothing_draws_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert ingest.cli.main(["simulate", "--fault-kinds", "bogus", *words]) == 2
    assert "--fault-kinds chooses among faults that --fault-rate draws: give --fault-rate" in capsys.readouterr().err
