"""``python -m ingest_ops``: what operators do by hand, by the same code that the DAGs run.

Only the modules of the chosen command are imported: a roll-back must not wait for pandas.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

from ingest import __version__
from ingest.command import exit_codes, terminal
from ingest.command.arguments import Parser, parse
from ingest.command.process import disable_core_dumps, exit_code_of, prepare_streams

COMMANDS = {
    "deploy": ("ingest_ops.deployment.commands.deploy", "put a version live, blue-green, with every gate"),
    "roll-back": ("ingest_ops.deployment.commands.roll_back", "let the other colour write again"),
    "stop": ("ingest_ops.deployment.commands.control", "undo the open deployment"),
    "hold": ("ingest_ops.deployment.commands.control", "hold the open deployment before its next decisive step"),
    "resume": ("ingest_ops.deployment.commands.control", "let a deployment that is held go on"),
    "decide": ("ingest_ops.deployment.commands.decide", "approve or reject a deployment that waits for a person"),
    "validate": ("ingest_ops.deployment.commands.validate", "judge a running slot by the gates, change nothing"),
    "clean": ("ingest_ops.deployment.commands.clean", "remove reports, records and journal entries that are old"),
    "report": ("ingest_ops.report.cli", "judge days from Prometheus and write the report"),
    "soak": ("ingest_ops.soak.cli", "run or judge a soak"),
    "exporter": ("ingest_ops.exporter.cli", "serve what reports and journal say to Prometheus"),
    "archive": ("ingest_ops.archive.cli", "archive finished days as a certified Iceberg table, verify them"),
    "agent": ("ingest_ops.agent.cli", "run the deploy agent: the one process that starts and stops the slots"),
}
"""Name -> (module with ``add_arguments(parser)`` and ``run(namespace) -> exit code``, help)."""


EXTRAS = {
    "airflow": "airflow",
    "cryptography": "archive",
    "datafusion": "archive",
    "docker": "agent",
    "jinja2": "reports",
    "jsonschema": "reports",
    "numpy": "reports",
    "pandas": "reports",
    "prometheus_api_client": "reports",
    "pyarrow": "archive",
    "pyiceberg": "archive",
    "requests": "reports",
    "sqlalchemy": "reports",
}
"""Module of a library -> the extra of k2-ingest-ops that installs it."""

EXTRA_OF_COMMAND = {"archive": "archive"}
"""Command -> the extra that it needs, where that installs libraries of another extra, too."""

EPILOG = """\
exit codes: 0 done or PASS, 1 a verdict: FAIL or not live, 2 bad options or settings, INCONCLUSIVE,
3 a person must look, 70 crashed, 75 no answer now, try again; the --help of each command has its own

examples:
  python -m ingest_ops deploy v2.0-stable
  python -m ingest_ops roll-back
  python -m ingest_ops report --days 7
  python -m ingest_ops soak run --plan 1h --run-id by-hand --metrics-url http://localhost:9095/metrics
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    disable_core_dumps()
    prepare_streams()
    return exit_code_of("ingest_ops", lambda: _main(sys.argv[1:] if arguments is None else arguments))


def _main(arguments: Sequence[str]) -> int:
    try:
        return _run(arguments)
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in EXTRAS:
            raise
        extra = EXTRA_OF_COMMAND.get(_wanted(arguments) or "", EXTRAS[library])
        terminal.complain("ingest_ops", f"{library} is missing: in a clone, pip install . './plugins[{extra}]'")
        return exit_codes.UNUSABLE


def _run(arguments: Sequence[str]) -> int:
    wanted = _wanted(arguments)
    parser = Parser(
        prog="python -m ingest_ops",
        description="Operate K2 Ingest: deploy, judge, report.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"k2-ingest-ops {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, (module, text) in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        sub.set_defaults(parser=sub)
        if name == wanted:
            part = importlib.import_module(module)
            part.add_arguments(sub)
            sub.set_defaults(run=part.run)
    namespace = parse(parser, arguments)
    code: int = namespace.run(namespace)
    return code


def _wanted(arguments: Sequence[str]) -> str | None:
    return next((word for word in arguments if not word.startswith("-")), None)


if __name__ == "__main__":
    sys.exit(main())
