"""The command line: sub-commands, settings from the environment, exit codes.

Only the modules of the chosen sub-command are imported: the simulator and the auditor run without the service's, and
``ingest run`` starts without theirs.
"""

import argparse
import asyncio
import importlib
import json
import logging
import os
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from ingest import __version__
from ingest.command import completion, exit_codes, terminal
from ingest.command.arguments import Parser, parse
from ingest.command.process import disable_core_dumps, exit_code_of, prepare_streams
from ingest.core.errors import BadSettings, Retry, Stop

if TYPE_CHECKING:
    from ingest.connection_check import Trial
    from ingest.settings import Settings

EPILOG = """\
settings come from the environment: `ingest check --list` shows them all

exit codes: 0 done or PASS, 1 a verdict: FAIL or not healthy, 2 bad options or settings, INCONCLUSIVE,
3 cannot work until something is changed, 70 crashed, 75 no answer now, try again

examples:
  ingest check                                      what is set, secrets masked, every problem on a line
  ingest topics --replication-factor 3              create the topics
  K2_BINANCE_SYMBOLS=BTCUSDT,ETHUSDT ingest run     record two symbols
  ingest simulate --symbols 20 --rate 2000          an exchange to practise with
  ingest audit --bootstrap-servers localhost:9092 --schema-registry-url http://localhost:8081 \\
               --ledger-rest https://api.binance.com   compare the topic with the exchange's history
"""

EPILOGS = {
    "run": """\
It ends by itself only if a person must change something. On SIGTERM and SIGINT it commits what it has and ends.
Its log is one JSON object a line, on standard error.

exit codes: 0 drained or superseded, 2 bad settings, 3 cannot work until something is changed, 70 crashed

examples:
  ingest run
  K2_BINANCE_SYMBOLS=BTCUSDT,ETHUSDT K2_KAFKA_BOOTSTRAP_SERVERS=kafka:9092 ingest run
""",
    "check": """\
exit codes: 0 nothing is wrong, 2 a setting is; with --connect: 3 something must be changed, 75 no answer

examples:
  ingest check                  what is in force
  ingest check --list           what there is to set
  ingest check --connect        whether broker, registry and exchange can be used
  ingest check --json | jq .settings
""",
    "completion": """\
exit codes: 0 printed, 2 bad options

examples:
  ingest completion bash    in ~/.bashrc: eval "$(ingest completion bash)"
  ingest completion zsh     in ~/.zshrc: eval "$(ingest completion zsh)"
""",
}

TRIAL_CODES = {"wrong": exit_codes.CANNOT_WORK, "no answer": exit_codes.TRY_AGAIN}

HELP = {
    "run": "record trades until SIGTERM",
    "check": "show the settings, secrets masked, and every problem with them",
    "topics": "create the topics that are missing, check and correct their policies",
    "positions": "show the positions, or rebuild lost ones from the trades topic",
    "reshard": "change the number of shards, also while the service runs",
    "health": "check whether the instance on this machine is ready",
    "simulate": "run a strict simulator of the exchange",
    "audit": "compare the topic with the exchange's own trades",
    "completion": "print a script that completes commands and options in the shell",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sub-command; returns the exit code."""
    disable_core_dumps()
    prepare_streams()
    return exit_code_of("ingest", lambda: _main(sys.argv[1:] if arguments is None else arguments))


def _main(arguments: Sequence[str]) -> int:
    wanted = next((word for word in arguments if not word.startswith("-")), None)
    namespace = parse(_parser({wanted}), arguments)
    run: Callable[[argparse.Namespace], int] = namespace.run
    return _guarded(lambda: run(namespace))


def _parser(wanted: Container[str | None]) -> argparse.ArgumentParser:
    """Return the parser with the options of the wanted sub-commands: adding those of one imports its modules."""
    parser = Parser(
        prog="ingest",
        description="Binance spot trades into Apache Kafka, exactly once.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"k2-ingest {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, text in HELP.items():
        sub = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        if name in EPILOGS:
            sub.epilog, sub.formatter_class = EPILOGS[name], argparse.RawDescriptionHelpFormatter
        sub.set_defaults(parser=sub)
        if name in wanted:
            _COMMANDS[name](sub)
    return parser


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=completion.SHELLS)

    def run(namespace: argparse.Namespace) -> int:
        terminal.write(completion.script(_parser(HELP), namespace.shell))
        return exit_codes.DONE

    parser.set_defaults(run=run)


def _run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)  # a child of a fleet's supervisor
    parser.set_defaults(run=lambda namespace: _supervised() if namespace.supervised else _service())


def _service() -> int:
    from ingest.preflight import load_usable

    settings = load_usable(os.environ)
    if settings.service.shard_index == "auto":
        from ingest.fleet.app import run as run_fleet

        return run_fleet(settings)
    from ingest.service.app import run  # the settings are good: now the parts may be imported

    return run(settings)


def _supervised() -> int:
    from ingest.preflight import load_usable

    settings = load_usable(os.environ)
    from ingest.service.app import run
    from ingest.service.supervised import Supervision

    return run(settings, Supervision.of_standard_streams())


def _check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--list", action="store_true", help="every setting: what is allowed, its default, its meaning")
    either.add_argument(
        "--connect", action="store_true", help="try broker, registry, exchange and clock, too; nothing is changed"
    )

    def run(args: argparse.Namespace) -> int:
        return check(os.environ, as_json=args.json, listing=args.list, connect=args.connect, out=sys.stdout)

    parser.set_defaults(run=run)


def check(environment: Mapping[str, str], *, as_json: bool, listing: bool, out: TextIO, connect: bool = False) -> int:
    """Show the settings, and with ``connect`` what answers; returns the exit code."""
    from ingest import settings

    if listing:
        known = [
            {"name": s.name, "allowed": s.allowed, "default": settings.default_text(s), "meaning": s.description}
            for s in settings.declared()
        ]
        lines = [f"{s['name']} ({s['allowed']}; default {s['default'] or 'unset'})\n    {s['meaning']}" for s in known]
        _print({"settings": known}, "\n".join(lines), as_json=as_json, out=out)
        return exit_codes.DONE
    from ingest.core.proxies import unused_proxies
    from ingest.preflight import load_usable

    try:
        loaded = load_usable(environment)
    except BadSettings as error:
        _print({"ok": False, "problems": error.problems}, str(error), as_json=as_json, out=out)
        return exit_codes.UNUSABLE
    shown = {name: value for name, value, _ in settings.shown(loaded)}
    ignored = settings.service_links(environment)
    lines = [f"{name}={terminal.one_line(value)}" for name, value in shown.items()]
    lines += [f"# {name} is ignored: Kubernetes or Docker has set it for a service" for name in ignored]
    unused = unused_proxies(loaded.binance.proxy, environment)
    lines += [f"# {name} is set and not used: set K2_BINANCE_PROXY to reach the exchange by proxy" for name in unused]
    trials = _trials(loaded) if connect else []
    lines += [f"{one.what}: {one.state}{': ' if one.detail else ''}{terminal.one_line(one.detail)}" for one in trials]
    states = {one.state for one in trials}
    code = next((code for state, code in TRIAL_CODES.items() if state in states), exit_codes.DONE)
    data: dict[str, object] = {"ok": code == exit_codes.DONE, "settings": shown}
    data |= {"ignored": ignored, "unused_proxies": unused}
    if connect:
        data["connections"] = [{"what": one.what, "state": one.state, "detail": one.detail} for one in trials]
    _print(data, "\n".join(lines), as_json=as_json, out=out)
    return code


def _trials(settings: "Settings") -> "list[Trial]":
    from ingest.connection_check import try_all

    logging.disable(logging.CRITICAL)  # the outcome of each trial is printed
    try:
        return asyncio.run(try_all(settings.of_shard(0) if settings.service.shard_index == "auto" else settings))
    finally:
        logging.disable(logging.NOTSET)


def _print(data: Mapping[str, object], text: str, *, as_json: bool, out: TextIO) -> None:
    terminal.write((json.dumps(data, indent=2) if as_json else text) + "\n", out)


def _topics(parser: argparse.ArgumentParser) -> None:
    from ingest.kafka import topics

    topics.add_arguments(parser)

    def run(namespace: argparse.Namespace) -> int:
        from ingest.preflight import load_usable

        return topics.run(load_usable(os.environ), namespace)

    parser.set_defaults(run=run)


def _positions(parser: argparse.ArgumentParser) -> None:
    from ingest.kafka import positions_rebuild

    positions_rebuild.add_arguments(parser)

    def run(namespace: argparse.Namespace) -> int:
        from ingest.binance.symbols import shard_of
        from ingest.preflight import load_usable

        settings = load_usable(os.environ)
        index, count = settings.shard, settings.service.shard_count
        return positions_rebuild.run(settings, namespace, lambda symbol: shard_of(symbol, count) == index)

    parser.set_defaults(run=run)


def _reshard(parser: argparse.ArgumentParser) -> None:
    from ingest.kafka import reshard

    reshard.add_arguments(parser)

    def run(namespace: argparse.Namespace) -> int:
        from ingest.binance.symbols import shard_of
        from ingest.preflight import load_usable

        return reshard.run(load_usable(os.environ), namespace, shard_of)

    parser.set_defaults(run=run)


def _other(module: str) -> Callable[[argparse.ArgumentParser], None]:
    def configure(parser: argparse.ArgumentParser) -> None:
        part = importlib.import_module(module)
        part.add_arguments(parser)
        parser.set_defaults(run=part.run)

    return configure


_COMMANDS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "run": _run,
    "check": _check,
    "topics": _topics,
    "positions": _positions,
    "reshard": _reshard,
    "health": _other("ingest.control.health_command"),
    "simulate": _other("ingest.simulator.cli"),
    "audit": _other("ingest.audit.cli"),
    "completion": _completion,
}


def _guarded(command: Callable[[], int]) -> int:
    """Run a command; expected errors are printed without a traceback."""
    try:
        return command()
    except BadSettings as error:
        terminal.complain("ingest", "\n".join(error.problems))
        return exit_codes.UNUSABLE
    except Stop as error:
        terminal.complain("ingest", str(error))
        return exit_codes.CANNOT_WORK
    except Retry as error:
        terminal.complain("ingest", f"{error}; try again")
        return exit_codes.TRY_AGAIN
