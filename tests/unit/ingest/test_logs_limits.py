import io
import json
import logging
import re
import subprocess
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import logs
from ingest.logs import MASK, MAX_TEMPLATES, REPEAT_SECONDS, REPEATS, LineHandler, configure
from tests.unit.ingest.log_lines import Lines


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back as it was."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    levels = {name: logging.getLogger(name).level for name in logs.LIBRARIES}
    yield root
    logging.captureWarnings(capture=False)
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
        handler.close()
    for handler in set(handlers) - set(root.handlers):
        root.addHandler(handler)
    root.setLevel(level)
    for name, least in levels.items():
        logging.getLogger(name).setLevel(least)
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks


def test_a_closed_stream_hurts_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    lines.stream.close()
    lines.log.warning("into the void")
    lines.handler.close()
    assert capfd.readouterr() == ("", "")


# ---- counts and floods


def test_every_record_is_counted_by_its_level_written_or_not() -> None:
    lines = Lines()
    for _ in range(50):
        lines.log.warning("again")
    lines.log.log(35, "between")
    lines.log.log(5, "trace")
    lines.log.critical("last")
    assert Counter(lines.levels) == {"WARNING": 51, "DEBUG": 1, "CRITICAL": 1}


def test_a_flood_is_cut_and_the_rest_is_said_afterwards() -> None:
    lines = Lines("json", "BTCUSDT")
    for number in range(57):
        lines.log.warning("BTCUSDT lags %d", number)
    lines.now = REPEAT_SECONDS
    lines.log.info("other")
    messages = [record["message"] for record in lines.records]
    assert messages[:20] == [f"{MASK} lags {number}" for number in range(20)]
    assert messages[20:] == [f"suppressed 37 more within 10 s of: {MASK} lags %d", "other"]
    assert (lines.records[20]["level"], lines.records[20]["logger"]) == ("WARNING", "ingest.x")


def test_what_was_suppressed_last_is_said_at_the_end() -> None:
    lines = Lines()
    for _ in range(REPEATS + 3):
        lines.log.error("again")
    lines.handler.close()
    lines.handler.close()
    assert [record["message"] for record in lines.records[REPEATS:]] == ["suppressed 3 more within 10 s of: again"]


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.4, 3.0, 11.0]), st.sampled_from("abc"), st.integers(1, 30))),
)
def test_written_and_suppressed_together_are_all_and_no_window_has_more(steps: list[tuple[float, str, int]]) -> None:
    lines = Lines()
    sent: Counter[str] = Counter()
    expected: list[str] = []
    windows: dict[str, tuple[float, int]] = {}  # template -> (began, seen)
    for pause, template, times in steps:
        lines.now += pause
        for _ in range(times):
            for name, (began, seen) in list(windows.items()):
                if lines.now - began >= REPEAT_SECONDS:
                    del windows[name]
                    if seen > REPEATS:
                        expected.append(f"suppressed {seen - REPEATS} more within 10 s of: {name}")
            began, seen = windows.get(template, (lines.now, 0))
            windows[template] = (began, seen + 1)
            if seen < REPEATS:
                expected.append(template)
            lines.log.info(template)
            sent[template] += 1
    assert [record["message"] for record in lines.records] == expected
    lines.handler.close()
    told: Counter[str] = Counter()
    for record in lines.records:
        found = re.fullmatch(r"suppressed (\d+) more within 10 s of: (.)", record["message"])
        told[found[2] if found else record["message"]] += int(found[1]) if found else 1
    assert told == sent


def test_loggers_have_their_own_counts() -> None:
    lines = Lines()
    other = logging.Logger("ingest.y")  # noqa: LOG001
    other.addHandler(lines.handler)
    for _ in range(REPEATS):
        lines.log.info("same")
        other.info("same")
    assert len(lines.records) == 2 * REPEATS


def test_memory_is_bounded_whatever_is_logged_and_nothing_is_lost() -> None:
    lines = Lines()
    for _ in range(REPEATS + 5):
        lines.log.info("first")
    for number in range(2 * MAX_TEMPLATES):
        lines.log.info(f"template {number}")  # noqa: G004 (what a careless library does)
    assert len(lines.handler._repeats._watched) == MAX_TEMPLATES
    assert [r["message"] for r in lines.records if "suppressed" in r["message"]] == [
        "suppressed 5 more within 10 s of: first"
    ]


# ---- the process


def test_configure_takes_over_the_root_once(root: logging.Logger) -> None:
    # A handler of ours may be left by a test before this one in the same process.
    foreign = [one for one in root.handlers if type(one) not in (logging.StreamHandler, LineHandler)]
    plain = logging.StreamHandler(io.StringIO())
    root.addHandler(plain)
    first, second = io.StringIO(), io.StringIO()
    levels: list[str] = []
    configure("INFO", "json", secrets=frozenset(), stream=first)
    configure("INFO", "text", secrets=frozenset({"hunter2"}), counter=levels.append, stream=second)
    logging.getLogger("ingest.a").info("hunter2")
    logging.getLogger("ingest.a").debug("not seen")
    logging.getLogger("httpx2").info("GET /")
    assert first.getvalue() == ""
    assert plain not in root.handlers
    assert set(foreign) <= set(root.handlers)
    assert second.getvalue().count("\n") == 1
    assert second.getvalue().endswith(f"INFO ingest.a: {MASK}\n")
    assert levels == ["INFO"]


def test_warnings_are_logged(root: logging.Logger) -> None:
    stream = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure("INFO", "json", secrets=frozenset({"hunter2"}), stream=stream)
        warnings.warn("old hunter2", UserWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    record = json.loads(stream.getvalue())
    assert record["logger"] == "py.warnings"
    assert f"old {MASK}" in record["message"]


def test_an_unknown_level_is_refused(root: logging.Logger) -> None:
    with pytest.raises(ValueError, match="LOUD"):
        configure("LOUD", "json", secrets=frozenset(), stream=io.StringIO())


PROGRAM = """
import threading
from ingest.logs import configure
configure("INFO", "json", secrets=frozenset({"hunter2-hunter2"}))
def fail(): raise ValueError("thread hunter2-hunter2")
thread = threading.Thread(target=fail, name="writer")
thread.start(); thread.join()
class Late:
    def __del__(self): raise ValueError("ignored hunter2-hunter2")
Late()
import logging
for _ in range(25): logging.getLogger("ingest.m").error("again")
raise KeyError("main hunter2-hunter2")
"""


def test_errors_that_nobody_caught_are_logged_without_secrets() -> None:
    tree = Path(__file__).parents[3]
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    records = [json.loads(line) for line in done.stderr.splitlines()]
    assert [record["level"] for record in records] == ["CRITICAL", "ERROR", *["ERROR"] * 20, "CRITICAL", "ERROR"]
    assert "thread writer" in records[0]["message"]
    assert records[0]["exception"].endswith(f"ValueError: thread {MASK}")
    assert records[1]["exception"].endswith(f"ValueError: ignored {MASK}")
    assert records[-2]["exception"].endswith(f"KeyError: 'main {MASK}'")
    assert records[-1]["message"] == "suppressed 5 more within 10 s of: again"
    assert "hunter2" not in done.stderr.replace(PROGRAM, "")


@pytest.mark.parametrize("fmt", ["json", "text"])
def test_no_foreign_text_steers_a_terminal_or_begins_a_line(fmt: Literal["json", "text"]) -> None:
    hostile = 'x\x1b[2J\r\n{"level":"INFO"}\x7f\x9b2J\u2028\u2029\u202e\u2066'
    stream = io.StringIO()
    logs.configure("INFO", fmt, secrets=frozenset(), stream=stream)
    logging.getLogger("hostile").warning("it said %s", hostile, extra={"field": hostile})
    (line,) = stream.getvalue().splitlines()
    assert line.isprintable()
    if fmt == "json":
        found = json.loads(line)
        assert found["field"] == hostile
        assert found["message"] == f"it said {hostile}"
