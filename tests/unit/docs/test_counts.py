"""Numbers in prose that count something of the code are those of the code.

``CLAIMS`` holds each such number with where the code has it. ``SWEPT`` are nouns that the code counts: a number before
one of them, on any page or in any docstring, is a claim of the table, or a part of the whole that ``PARTS`` names.
"""

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple, get_args

import pytest

from deploy.dashboards import DASHBOARDS
from docs.health_table import situations
from ingest.control.server import StatusServer
from ingest.core.ordered_release import trade_content
from ingest.core.streams import STREAMS, Contract
from ingest.core.trade import Trade
from ingest.http import auth, connection, limits
from ingest.kafka.topic_policy import topics
from ingest.settings import load
from ingest_ops.agent.slots import SLOTS
from ingest_ops.common.verdict import Verdict
from ingest_ops.validation.self_check import MUTANTS
from tests.harness.certificates import BAD
from tests.harness.processes import ROOT

WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
NUMBER = rf"(\d+|{'|'.join(WORDS)})"
SWEPT = re.compile(
    rf"(?<![.=])\b{NUMBER}\s+(?:[A-Za-z]+\s+)?(roles|contracts|layers|checks|gates|mutants|situations|streams|dashboards|verdicts|topics)\b",
    re.IGNORECASE,
)
HTTP = limits.Limits()


def entries(path: str, name: str) -> int:
    """Elements of the literal that a module assigns to a name: campaigns are read, not imported."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == name:
            value = getattr(node, "value", None)
            return len(value.keys if isinstance(value, ast.Dict) else getattr(value, "elts", ()))
    raise AssertionError(f"{path} has no {name}")


def rows(path: str, header: str) -> int:
    """Rows of the table of a page that has this header."""
    lines = (ROOT / path).read_text().split(f"\n| {header}", 1)[1].split("\n\n", 1)[0].splitlines()
    return len(lines) - 2


class Claim(NamedTuple):
    path: str
    text: str
    """``{}`` stands for the number."""
    counted: Callable[[], int]


PROOF = "docs/explanation/proof.md"
CONTROL = "docs/reference/control_api.md"
A_TRADE = Trade("BTCUSDT", 1, "1.0", "2.0", 3, True)
CLAIMS = (
    Claim("README.md", "through {} faults", lambda: entries("tests/campaigns/demo/scenario.py", "steps")),
    Claim(PROOF, "in {} layers", lambda: rows(PROOF, "layer |")),
    Claim(
        "docs/explanation/hand_over.md",
        "each of the {} steps",
        lambda: entries("tests/campaigns/deployment/kills.py", "STEPS"),
    ),
    Claim("docs/explanation/connections.md", "presents {} kinds of wrong certificate", lambda: len(BAD)),
    Claim("docs/explanation/performance.md", "the {} fields that are hashed", lambda: len(trade_content(A_TRADE))),
    Claim("docs/tutorials/first_ten_minutes.md", "37 of {} mutants caught", lambda: len(MUTANTS)),
    Claim("docs/reference/validation_report.md", "37 of {} mutants caught", lambda: len(MUTANTS)),
    Claim(
        "docs/decisions/0016-a-sequence-has-a-name.md",
        "it holds for {} streams",
        lambda: len({name.partition("_")[0] for name in STREAMS}),
    ),
    Claim("docs/reference/bounds.md", "{} topics and one of each further stream", lambda: len(topics(load({})))),
    Claim(CONTROL, "There are {} roles", lambda: len(auth.Role)),
    Claim(CONTROL, "16 KiB, {} headers", lambda: connection.MAX_HEADERS),
    Claim(CONTROL, "{} KiB, 100 headers", lambda: connection.MAX_HEAD // 1024),
    Claim(CONTROL, "| body | {} KiB", lambda: connection.MAX_BODY // 1024),
    Claim(CONTROL, "| {} s, 10 s, 10 s |", lambda: int(HTTP.head_seconds)),
    Claim(CONTROL, "| 2 s, {} s, 10 s |", lambda: int(HTTP.body_seconds)),
    Claim(CONTROL, "| 2 s, 10 s, {} s |", lambda: int(HTTP.send_seconds)),
    Claim(CONTROL, "| {}, of one address 128 without", lambda: HTTP.connections),
    Claim(CONTROL, "| 256, of one address {} without", lambda: HTTP.per_client),
    Claim(CONTROL, "| {} (status port: 2), and 4 more", lambda: HTTP.running),
    Claim(CONTROL, "(status port: {})", lambda: inspect.signature(StatusServer).parameters["limits"].default.running),
    Claim(CONTROL, "and {} more for the holder", lambda: HTTP.reserved),
    Claim(CONTROL, "| {} wait, one more", lambda: HTTP.waiting),
    Claim(CONTROL, "| {} a minute | 429", lambda: auth.FAILURES),
    Claim("docs/how_to/deploy.md", "The {} slots are called", lambda: len(SLOTS)),
    Claim("docs/health_table.py", "says in each of {} situations", lambda: len(situations())),
    Claim("docs/health_table.py", "Play the {} situations", lambda: len(situations())),
    Claim("ingest/core/streams.py", "knows {} contracts", lambda: len(get_args(Contract))),
    Claim("plugins/ingest_ops/common/verdict.py", "The {} answers of every check", lambda: len(Verdict)),
    Claim("deploy/dashboards.py", "The {} dashboards", lambda: len(DASHBOARDS)),
)
PARTS = {
    ("docs/explanation/proof.md", "Two mutants"),
    ("docs/explanation/reading_seven_days.md", "Two checks"),
    ("docs/how_to/restore_after_a_lost_broker.md", "two topics"),
    ("docs/reference/audit.md", "two topics"),
    ("docs/decisions/0015-a-break-is-a-record-of-its-stream.md", "two topics"),
    ("docs/reference/settings.md", "two health checks"),
    ("ingest/settings/declarations.py", "two health checks"),
    ("ingest/audit/model.py", "two streams"),
    ("ingest/service/halt_check.py", "two checks"),
}
"""Page or module, and the words: they name two of a kind, not how many there are."""


@cache
def prose() -> tuple[tuple[str, str], ...]:
    return tuple(_prose())


def _prose() -> Iterator[tuple[str, str]]:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        if "_build" not in page.parts:
            yield str(page.relative_to(ROOT)), re.sub(r"(?ms)^```.*?^```|`[^`\n]*`", "", page.read_text())
    for folder in ("ingest", "plugins/ingest_ops", "dags", "deploy", "docs", "tools"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield str(path.relative_to(ROOT)), node.value


def value(text: str) -> int:
    return WORDS.index(text.lower()) if text.lower() in WORDS else int(text)


def pattern(claim: Claim) -> re.Pattern[str]:
    before, after = (r"\s+".join(map(re.escape, part.split(" "))) for part in claim.text.split("{}"))
    return re.compile(rf"{before}{NUMBER}{after}", re.IGNORECASE)


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: f"{Path(claim.path).stem}: {claim.text}")
def test_a_number_in_prose_is_that_of_the_code(claim: Claim) -> None:
    found = pattern(claim).search((ROOT / claim.path).read_text())
    assert found, f"{claim.path} does not say {claim.text!r}"
    assert value(found[1]) == claim.counted()


def test_every_number_of_what_the_code_counts_is_checked() -> None:
    unchecked = []
    for path, text in prose():
        known = [found.span() for claim in CLAIMS if claim.path == path for found in pattern(claim).finditer(text)]
        unchecked += [
            (path, found[0])
            for found in SWEPT.finditer(text)
            if (path, " ".join(found[0].split())) not in PARTS
            and not any(first < found.end() and found.start() < last for first, last in known)
        ]
    assert unchecked == [], "add each to CLAIMS, or to PARTS where it is not the whole"


def test_no_part_is_stale() -> None:
    text = {path: "" for path, _ in PARTS}
    for path, words in prose():
        if path in text:
            text[path] += " ".join(words.split()) + "\n"
    assert [part for part in sorted(PARTS) if part[1] not in text[part[0]]] == []


def test_the_glossary_has_at_most_forty_words() -> None:
    assert rows("docs/reference/glossary.md", "word |") <= 40
