"""``make field``: plays every example one by one on the real parts and prints example, kind, outcome and right value.

``ONLY=A,C.2`` chooses sections or single examples, ``QUICK=1`` those that take seconds. ``JOBS`` examples (1) are
played at once: most of their time is waiting, and each has a simulator, topics and services of its own. ``RESUME=1``
plays only what was not right yet on the same sources (see ``parts``), and says so in the table. Exit code 0 if all are
right, 1 if one is wrong, 2 if none is wrong but one could not be played.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.campaigns.field import catalogue
from tests.campaigns.field.environment import Environment
from tests.campaigns.field.example import Example, NotPlayable, WrongOutcome
from tests.campaigns.field.parts import Parts
from tests.harness import ending
from tests.harness.kafka import VERSION

EXTERNAL = "K2_TEST_KAFKA_BOOTSTRAP_SERVERS"
"""A Kafka to play on instead of one of its own."""
RIGHT, WRONG, NOT_PLAYED = "right", "WRONG", "NOT PLAYED"


@dataclass(frozen=True)
class Outcome:
    """What came of one example."""

    example: Example
    verdict: str
    observed: str
    seconds: float


def chosen(only: str, *, quick: bool) -> list[Example]:
    """The examples that were asked for. Raises ``ValueError`` for a name that does not exist."""
    names = [name.strip() for name in only.split(",") if name.strip()]
    every = list(catalogue.EXAMPLES.values())
    for name in names:
        if not any(_belongs(one, name) for one in every):
            raise ValueError(f"ONLY={name}: there is no such example; sections are {', '.join(_sections(every))}")
    return [
        one for one in every if (not names or any(_belongs(one, name) for name in names)) and (one.quick or not quick)
    ]


def _belongs(one: Example, name: str) -> bool:
    return one.name == name or one.name.startswith(f"{name}.")


def _sections(every: Sequence[Example]) -> list[str]:
    return list(dict.fromkeys(one.section for one in every))


def played(environment: Environment, one: Example) -> Outcome:
    """Play one example; a failure of any kind is its outcome."""
    began = time.monotonic()
    try:
        verdict, observed = RIGHT, one.play(environment)
    except NotPlayable as error:
        verdict, observed = NOT_PLAYED, str(error)
    except WrongOutcome as error:
        verdict, observed = WRONG, str(error)
    except TimeoutError as error:  # the log of each service follows on further lines
        verdict, observed = WRONG, (str(error).splitlines() or ["time-out"])[0]
    except Exception as error:  # noqa: BLE001 - the table says it; the other examples are still played
        verdict, observed = WRONG, f"{type(error).__name__}: {error}"
    return Outcome(one, verdict, " ".join(observed.split())[:2000], time.monotonic() - began)


def _played_and_said(environment: Environment, one: Example, parts: Parts) -> Outcome:
    outcome = played(environment, one)
    if outcome.verdict == RIGHT:
        parts.keep(one.name, outcome.observed, outcome.seconds)
    _say(outcome)
    return outcome


def _say(outcome: Outcome) -> None:
    one = outcome.example
    sys.stdout.write(  # one call: examples end on several threads
        f"{one.name:8} {outcome.verdict:10} {outcome.seconds:6.1f} s  {one.kind}\n"
        f"{'':8} right:    {one.right}\n"
        f"{'':8} outcome:  {outcome.observed}\n"
    )
    sys.stdout.flush()


def _markdown(outcomes: Sequence[Outcome], how: str) -> str:
    day = time.strftime("%Y-%m-%d", time.gmtime())
    head = f"`make field`, {day}, Python {sys.version.split()[0]}, Kafka {VERSION}: {how}."
    rows = [
        "| " + " | ".join(text.replace("|", "\\|") for text in (one.example.name, one.example.kind, f"{one.verdict}: "
        f"{one.observed}", one.example.right)) + " |"
        for one in outcomes
    ]  # fmt: skip
    return (
        "\n".join([head, "", "| example | kind | outcome | right value |", "| --- | --- | --- | --- |", *rows]) + "\n"
    )


def main() -> int:
    """Play the chosen examples; returns the exit code."""
    ending.by_signal()
    try:
        examples = chosen(os.environ.get("ONLY", ""), quick=bool(os.environ.get("QUICK")))
        jobs = int(os.environ.get("JOBS") or 1)
    except ValueError as error:
        sys.stderr.write(f"make field: {error}\n")
        return 2
    report = Path("reports/field/field.md")
    parts = Parts(report.parent)
    before = parts.right if os.environ.get("RESUME") else {}
    known = {one.name: Outcome(one, RIGHT, *before[one.name]) for one in examples if one.name in before}
    directory = Path(tempfile.mkdtemp(prefix="k2-field-"))
    began = time.monotonic()
    due = [one for one in examples if one.name not in known]
    with Environment(directory, os.environ.get(EXTERNAL)) as environment:
        pool = ThreadPoolExecutor(jobs)
        try:
            new = pool.map(lambda one: _played_and_said(environment, one, parts), due)
            found = known | {outcome.example.name: outcome for outcome in new}
        finally:
            pool.shutdown(cancel_futures=True)  # told to end: those that are being played are the last
    outcomes = [found[one.name] for one in examples]
    counts = {verdict: sum(one.verdict == verdict for one in outcomes) for verdict in (RIGHT, WRONG, NOT_PLAYED)}
    how = (
        f"{len(outcomes)} examples of {len(catalogue.EXAMPLES)}, {len(due)} of them in "
        f"{time.monotonic() - began:.0f} s, {jobs} at once, {len(known)} in earlier parts, on sources {parts.hash}"
    )
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(_markdown(outcomes, how), encoding="utf-8")
    sys.stdout.write(f"{', '.join(f'{number} {verdict}' for verdict, number in counts.items())}; {report}\n")
    if counts[WRONG]:
        sys.stdout.write(f"logs are in {directory}\n")
        return 1
    shutil.rmtree(directory, ignore_errors=True)
    return 2 if counts[NOT_PLAYED] or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
