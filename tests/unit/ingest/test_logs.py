"""Logging: readable lines, no secrets whatever happens, and no floods."""

import json
import logging
import re
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.logs import MASK, MAX_CHARACTERS, Redactor
from tests.unit.ingest.log_lines import Lines


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    """Return an error with a traceback, as one that was caught."""
    try:
        raise error from cause
    except type(error) as caught:
        return caught


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
