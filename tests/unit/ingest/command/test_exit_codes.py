"""The exit code of ``ingest run`` is the documented one on every interpreter, Debian 12's 3.11.2 included."""

import ast
import subprocess
from pathlib import Path

import pytest

from tests.harness.interpreters import ROOT, environment, interpreters, version_of

SCRIPT = """
import asyncio, sys
from ingest import cli
from ingest.core.errors import Stop
from ingest.service import app

async def build(*_):
    return None

async def serve(*_):
    async with asyncio.TaskGroup() as group:
        for error in {errors}:
            group.create_task(fail(error))

async def fail(error):
    raise error

app.build, app.serve = build, serve
sys.exit(cli.main(["run"]))
"""


def raises_inside_except_star(source: str) -> list[int]:
    """Lines that raise in an ``except*`` block: before Python 3.11.4 what they raise comes out wrapped in a group."""
    blocks = [
        handler for node in ast.walk(ast.parse(source)) if isinstance(node, ast.TryStar) for handler in node.handlers
    ]
    return [node.lineno for block in blocks for node in ast.walk(block) if isinstance(node, ast.Raise)]


@pytest.mark.parametrize("python", interpreters(), ids=lambda python: ".".join(map(str, version_of(python))))
@pytest.mark.parametrize(
    ("errors", "code", "last"),
    [
        ("[app.Finished()]", 0, '"done"'),
        ("[Stop('no symbol ETHUSTD')]", 3, "ingest: no symbol ETHUSTD"),
        ("[app.Finished(), Stop('no symbol ETHUSTD')]", 3, "ingest: no symbol ETHUSTD"),
        ("[ValueError('crash'), Stop('no symbol ETHUSTD')]", 70, ""),
    ],
    ids=["finished", "stop", "both", "crash"],
)
def test_the_exit_code_is_the_documented_one(python: str, errors: str, code: int, last: str) -> None:
    done = subprocess.run(
        [python, "-c", SCRIPT.format(errors=errors)],
        env=environment(python), capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert last in done.stderr.splitlines()[-1]
    assert ("Traceback" in done.stderr) is (code == 70)


def test_nothing_raises_inside_except_star() -> None:
    assert raises_inside_except_star("try:\n    f()\nexcept* ValueError:\n    if x:\n        raise\n") == [5]
    found = {
        str(path.relative_to(ROOT)): lines
        for folder in ("ingest", "plugins", "dags", "deploy", "docs", "tests")
        for path in Path(ROOT / folder).rglob("*.py")
        if (lines := raises_inside_except_star(path.read_text()))
    }
    assert found == {}
