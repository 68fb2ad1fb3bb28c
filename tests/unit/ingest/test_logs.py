"""Logging: readable lines, no secrets whatever happens, and no floods."""

import io
import json
import logging
import re
import subprocess
import sys
import threading
import warnings
from base64 import b64encode, urlsafe_b64encode
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest import logs
from ingest.logs import MASK, MAX_CHARACTERS, MAX_TEMPLATES, REPEAT_SECONDS, REPEATS, LineHandler, Redactor, configure


class Lines:
    """A logger of its own whose lines can be read."""

    def __init__(self, fmt: Any = "json", *secrets: str, name: str = "ingest.x") -> None:
        self.stream = io.StringIO()
        self.now = 0.0
        self.levels: list[str] = []
        self.handler = LineHandler(
            self.stream, Redactor(frozenset(secrets)), fmt, counter=self.levels.append, monotonic=lambda: self.now
        )
        self.log = logging.Logger(name)  # noqa: LOG001 (not one of the process's, so that examples do not meet)
        self.log.addHandler(self.handler)

    @property
    def written(self) -> str:
        return self.stream.getvalue()

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.written.split("\n") if line]


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    """Return an error with a traceback, as one that was caught."""
    try:
        raise error from cause
    except type(error) as caught:
        return caught


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


# ---- lines


def test_a_json_record_is_one_line_with_all_that_is_known() -> None:
    lines = Lines()
    record = lines.log.makeRecord(
        "ingest.x", logging.WARNING, "f.py", 3, "two %s\nlines", ("times",), None, extra={"symbol": "BTCUSDT", "n": 5}
    )
    record.created = 1_753_970_645.000123
    lines.log.handle(record)
    assert lines.written == (
        '{"time":"2025-07-31T14:04:05.000123Z","level":"WARNING","logger":"ingest.x","message":"two times\\nlines",'
        '"symbol":"BTCUSDT","n":5}\n'
    )


def test_an_exception_is_told_with_its_causes() -> None:
    lines = Lines()
    lines.log.error("broken", exc_info=raised(RuntimeError("outer"), KeyError("inner")), stack_info=True)
    (record,) = lines.records
    assert "KeyError: 'inner'" in record["exception"]
    assert record["exception"].endswith("RuntimeError: outer")
    assert "test_an_exception_is_told" in record["stack"]


def test_extra_fields_keep_their_type_and_cannot_pose_as_others() -> None:
    lines = Lines()
    extra = {"level": "fake", "f": 0.5, "b": True, "none": None, "deep": {"a": [1, {"x"}]}, "huge": 2**70, "o": object}
    lines.log.error("m", extra=extra)
    (record,) = lines.records
    assert record["level"] == "ERROR"
    assert record["extra_level"] == "fake"
    assert (record["f"], record["b"], record["none"], record["deep"]) == (0.5, True, None, {"a": [1, ["x"]]})
    assert record["huge"] == str(2**70)
    assert record["o"] == "<class 'object'>"


def test_text_is_readable_and_what_comes_from_outside_cannot_forge_a_line() -> None:
    lines = Lines("text")
    error = raised(ValueError("a\nb"))
    lines.log.error("said %s", "x\r\n2030 INFO forged \x1b[31m\u2028", exc_info=error, extra={"symbol": "BTC"})
    first, *rest = lines.written.rstrip("\n").split("\n")
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z ERROR ingest\.x: said x\\r\\n2030 INFO forged ", first)
    assert first.endswith("\\x1b[31m\\u2028 symbol=BTC")
    assert rest[-2:] == ["    ValueError: a", "    b"]
    assert all(line.startswith("    ") for line in rest)


@given(st.text(), st.sampled_from(["json", "text"]))
@example("\ud800\x00\x7f", "json")
def test_every_text_is_written_as_one_line_of_utf8(text: str, fmt: str) -> None:
    lines = Lines(fmt)
    lines.log.info("%s", text)
    assert len(lines.written.rstrip("\n").splitlines() if fmt == "text" else lines.records) == 1
    assert lines.written.encode("utf-8")
    if fmt == "json":
        assert lines.records[0]["message"] == text.encode("utf-8", "backslashreplace").decode()


def test_what_is_endless_is_cut_but_not_inside_a_secret() -> None:
    secret = "s3cret-" * 3
    lines = Lines("json", secret)
    lines.log.info("%s%s%s", "x" * (MAX_CHARACTERS - 5), secret, "y" * 100)
    message = lines.records[0]["message"]
    assert len(message) < MAX_CHARACTERS + 50
    assert "s3c" not in message
    assert message.endswith(" more characters)")


# ---- secrets

SECRETS = st.text(min_size=1, max_size=12).filter(lambda text: bool(text.strip("*")))


class Odd:
    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


@given(st.frozensets(SECRETS, min_size=1, max_size=3), st.data())
def test_no_secret_ever_appears(secrets: frozenset[str], data: st.DataObject) -> None:
    piece = st.one_of(st.sampled_from(sorted(secrets)), st.text(max_size=4), st.sampled_from(["*", MASK, "%", "\\"]))
    text = st.lists(piece, max_size=6).map("".join)
    lines = Lines("json", *secrets, name=data.draw(text))
    message, argument, key, cause, field = (data.draw(text) for _ in range(5))
    template = f"{message.replace('%', '')} %s %r"
    error = raised(ValueError(argument), KeyError(cause))
    extra = {"f": [field, {key: field}]}
    lines.log.error(template, argument, {key: Odd(argument)}, exc_info=error, extra=extra)
    (record,) = lines.records
    clean = [secret.encode("utf-8", "backslashreplace").decode() for secret in secrets]
    shown = [record["logger"], record["message"], record["exception"], record["f"][0], *record["f"][1]]
    shown += record["f"][1].values()
    assert [(secret, value) for secret in clean for value in shown if secret in value] == []


# Realistic ones: not to be found in a line by chance, so that the whole output can be searched.
TOKENS = st.text(alphabet="ABCDEFGHijklmnop0123456789\"'\\/+ü\n", min_size=10, max_size=24).map(
    lambda text: f"Zq{text}"
)


@given(TOKENS, st.sampled_from(["json", "text"]), st.booleans())
@example("Zq'\"\\n\nabc", "json", True)
def test_no_secret_in_any_form_that_code_gives_it(secret: str, fmt: str, both_quotes: bool) -> None:
    lines = Lines(fmt, secret)
    around = "'\"" if both_quotes else ""
    error = raised(OSError({"password": secret}))
    lines.log.error("%s %r %a", secret, around + secret, secret, exc_info=error)
    lines.log.error("%s %s", json.dumps({"p": secret}), json.dumps({"p": secret}, ensure_ascii=False))
    lines.log.error("%r sasl.password=%s", {"p": [secret, secret.encode()]}, secret, extra={"s": Odd(secret)})
    lines.log.error("https://user:%s@host/%s", quote(secret), quote(secret, safe=""))
    lines.log.error("Basic %s", b64encode(secret.encode()).decode())
    lines.log.error(secret)
    lines.log.error(Odd(secret))
    lines.log.error("%d", secret)
    lines.log.error("%s %s", secret)
    forms = {secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], quote(secret), quote(secret, safe="")}
    forms |= {json.dumps(json.dumps(secret)[1:-1])[1:-1], b64encode(secret.encode()).decode().rstrip("=")}
    assert [form for form in forms if form in lines.written] == []
    assert lines.written.count(MASK) >= 10


@pytest.mark.parametrize(
    ("secret", "shown"),
    [
        ("a\tbcdef", r"'a\tbcdef'"),
        ("it's\\it", r"""'"it\'s\\it'"""),
        ("pass'word", r"""'"pass\'word'"""),
        ("pässwörd", r"'p\xe4ssw\xf6rd'"),
        ("pässwörd", r"b'p\xc3\xa4ssw\xc3\xb6rd'"),
        ("pässwörd", r'"p\u00e4ssw\u00f6rd"'),
        ('pä"ss', r'"pä\"ss"'),
        ("p/ss wörd", "p/ss%20w%C3%B6rd"),
        ("p/ss wörd", "p%2Fss%20w%C3%B6rd"),
        ("p/ss wörd", "p%2Fss+w%C3%B6rd"),
        ("??>>pass", b64encode(b"??>>pass").decode()),
        ("??>>pass", urlsafe_b64encode(b"??>>pass").decode()),
    ],
)
def test_each_form_of_a_secret_is_masked_whole(secret: str, shown: str) -> None:
    masked = Redactor(frozenset({secret})).text(f"<{shown}>")
    assert re.fullmatch(r"""<b?['"]*\*{8}['"=]*>""", masked), masked


def test_a_secret_within_another_leaves_nothing_of_the_longer_one() -> None:
    assert Redactor(frozenset({"abc", "abcdef", "cde"})).text("abcdef abc") == f"{MASK} {MASK}"


def test_a_mask_does_not_complete_another_secret() -> None:
    masked = Redactor(frozenset({"pass", "*word", "x*"})).text("x pass pass-word password xpassword")
    assert "*word" not in masked
    assert "x*" not in masked
    assert "pass-word" not in masked
    assert masked.startswith(f"x {MASK} {MASK}-word ")


def test_a_secret_in_a_field_name_is_masked() -> None:
    lines = Lines("json", "hunter2")
    lines.log.info("m", extra={"key hunter2": 1})
    assert lines.records[0][f"key {MASK}"] == 1


def test_a_key_of_many_lines_is_masked_line_by_line() -> None:
    body = ["MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "BKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"]
    lines = Lines("text", "\n".join(["-----BEGIN PRIVATE KEY-----", *body, "-----END PRIVATE KEY-----"]))
    lines.log.error("bad line %s", body[1])
    assert body[1] not in lines.written
    lines.log.error("no -----BEGIN PRIVATE KEY----- found")
    assert "no -----BEGIN PRIVATE KEY----- found" in lines.written


def test_a_number_that_is_a_secret_is_masked_as_a_field_too() -> None:
    lines = Lines("json", "48151623")
    lines.log.info("pin %d", 48151623, extra={"pin": 48151623, "other": 48})
    (record,) = lines.records
    assert (record["message"], record["pin"], record["other"]) == (f"pin {MASK}", MASK, 48)


def test_empty_secrets_and_asterisks_change_nothing() -> None:
    lines = Lines("json", "", "*", "***")
    lines.log.info("a ** b")
    assert lines.records[0]["message"] == "a ** b"


def test_arguments_that_do_not_fit_are_reported_without_them(capfd: pytest.CaptureFixture[str]) -> None:
    class Broken:
        def __str__(self) -> str:
            raise ZeroDivisionError("hidden")

    lines = Lines("json", "hidden")
    lines.log.warning("%d trades", "hidden")
    lines.log.warning("%s", Broken())
    lines.log.warning("fine")
    first, second, third = (record["message"] for record in lines.records)
    assert re.match(r"%d trades \[not readable: TypeError at .*test_logs\.py:\d+\]", first)
    assert "ZeroDivisionError" in second
    assert third == "fine"
    assert capfd.readouterr() == ("", "")


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
