"""Logging of the whole process: one line a record to stderr, without secrets, counted, and never a flood.

Secrets are masked in what is written, not in what is passed: in the message with its arguments in it, the exception's
text with its causes, the extra fields, and in the forms that code gives a string on its way (repr, JSON, URL, base64).
"""

import base64
import contextlib
import json
import logging
import re
import sys
import threading
import time
import traceback
import urllib.parse
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType, TracebackType
from typing import Any, Literal, TextIO

import msgspec

MASK = "********"
REPEATS = 20
REPEAT_SECONDS = 10.0
"""Records of one logger with one template beyond this many within this time are counted instead of written."""
MAX_TEMPLATES = 1024
"""Templates that are watched at once; the oldest is forgotten first."""
MAX_CHARACTERS = 32_768
"""Longer messages are cut."""

LIBRARIES = {"httpcore2": "WARNING", "httpx2": "WARNING", "websockets": "INFO", "asyncio": "INFO"}
"""Least levels of talkative libraries: a line for each request or frame drowns the rest."""

_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_FIELDS = frozenset({"time", "level", "logger", "message", "exception", "stack"})
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_LEVELS = ((50, "CRITICAL"), (40, "ERROR"), (30, "WARNING"), (20, "INFO"), (0, "DEBUG"))

log = logging.getLogger(__name__)


def configure(
    level: str,
    fmt: Literal["json", "text"],
    *,
    secrets: frozenset[str],
    counter: Callable[[str], None] | None = None,
    stream: TextIO | None = None,
    fields: Mapping[str, object] = MappingProxyType({}),
) -> None:
    """Send every record of ``level`` and above to stderr (or ``stream``); may be called again.

    ``fields`` are in each record that has no other value for them: what tells processes with one stderr apart.
    ``counter`` is called with the level's name for each record, written or not. Warnings and uncaught errors
    (also in threads) are logged too, where no other hook is installed for them: Python would print them as they
    are. Raises ``ValueError`` for an unknown level.
    """
    handler = LineHandler(stream or sys.stderr, Redactor(secrets), fmt, counter=counter)
    if fields:
        handler.addFilter(_Fields(fields))
    root = logging.getLogger()
    root.setLevel(level)
    for old in list(root.handlers):
        if isinstance(old, LineHandler) or type(old) is logging.StreamHandler:  # not a test's or debugger's subclass
            root.removeHandler(old)
            old.close()
    root.addHandler(handler)
    for name, least in LIBRARIES.items():
        logging.getLogger(name).setLevel(max(root.level, logging.getLevelNamesMapping()[least]))
    logging.captureWarnings(capture=True)
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _uncaught
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _uncaught_in_thread
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _unraisable


class _Fields(logging.Filter):
    """Adds fields to each record."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        super().__init__()
        self._fields = fields

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every record."""
        for name, value in self._fields.items():
            record.__dict__.setdefault(name, value)
        return True


class Redactor:
    """Replaces secrets by asterisks, whatever common form they are in."""

    def __init__(self, secrets: frozenset[str]) -> None:
        forms = {_clean(form) for secret in secrets if secret for form in _forms(secret)}
        # A form of asterisks alone is no different from the mask, and would be found in it without end.
        wanted = sorted((form for form in forms if form.strip("*")), key=lambda form: (-len(form), form))
        self._pattern = re.compile("|".join(map(re.escape, wanted))) if wanted else None

    def text(self, text: str) -> str:
        """Return ``text`` without secrets, valid as UTF-8."""
        text = _clean(text)
        if self._pattern is None:
            return text
        # A mask can complete another secret that has an asterisk at its edge. This ends: every round removes at least
        # one character that is no asterisk.
        while self._pattern.search(text) is not None:
            text = self._pattern.sub(MASK, text)
        return text

    def value(self, value: object) -> Any:
        """Return a field's value as JSON knows it, without secrets in it."""
        match value:
            case None | bool():
                return value
            case int() | float():
                shown = repr(value)
                masked = self.text(shown)
                return value if masked == shown and abs(value) < 2**63 else masked
            case dict():
                return {self.text(str(key)): self.value(item) for key, item in value.items()}
            case list() | tuple() | set() | frozenset():
                return [self.value(item) for item in value]
            case _:
                return self.text(str(value))


def _clean(text: str) -> str:
    """Half a surrogate pair (bytes that were no UTF-8) cannot be written: show it escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _forms(secret: str) -> Iterator[str]:
    """Yield what a secret may look like once code has had it in hand."""
    yield secret
    yield repr(secret)[1:-1]
    yield repr(secret + "\"'")[1:-4]  # inside a longer text that has both kinds of quotes
    yield ascii(secret)[1:-1]
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    sent = secret.encode("utf-8", "surrogateescape")
    yield repr(sent)[2:-1]
    yield urllib.parse.quote(sent, safe="")
    yield urllib.parse.quote(sent)
    yield urllib.parse.quote_plus(sent)
    if len(sent) >= 4:  # of fewer bytes it is a syllable, which many words have
        yield base64.b64encode(sent).decode().rstrip("=")
        yield base64.urlsafe_b64encode(sent).decode().rstrip("=")
    for line in secret.splitlines():  # of a key in PEM form, each line by itself
        if len(line) >= 16 and not line.startswith("-----"):
            yield line


class Suppression(msgspec.Struct):
    """How often a template came within its time, and how often it was not written."""

    level: int
    logger: str
    template: str
    began: float
    seen: int = 0
    suppressed: int = 0


class Repeats:
    """Decides which records are written: at most ``REPEATS`` of a template in ``REPEAT_SECONDS`` from its first."""

    def __init__(self) -> None:
        self._watched: OrderedDict[tuple[str, str], Suppression] = OrderedDict()  # in the order in which they began

    def take(self, record: logging.LogRecord, now: float) -> tuple[bool, list[Suppression]]:
        """Return whether the record is to be written, and of which templates to say before how many were not."""
        over = self._over(now)
        template = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        key = (record.name, template)
        entry = self._watched.get(key)
        if entry is None:
            entry = self._watched[key] = Suppression(record.levelno, record.name, template, now)
            if len(self._watched) > MAX_TEMPLATES:
                over.append(self._watched.popitem(last=False)[1])
        entry.seen += 1
        entry.level = max(entry.level, record.levelno)
        written = entry.seen <= REPEATS
        if not written:
            entry.suppressed += 1
        return written, [entry for entry in over if entry.suppressed]

    def _over(self, now: float) -> list[Suppression]:
        over = []
        while self._watched and now - next(iter(self._watched.values())).began >= REPEAT_SECONDS:
            over.append(self._watched.popitem(last=False)[1])
        return over

    def end(self) -> list[Suppression]:
        """Forget everything; return what was suppressed and not yet said."""
        left = [entry for entry in self._watched.values() if entry.suppressed]
        self._watched.clear()
        return left


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes records as lines. What was suppressed is said with the next record after its time, or at the end."""

    def __init__(
        self,
        stream: TextIO,
        redactor: Redactor,
        fmt: Literal["json", "text"],
        *,
        counter: Callable[[str], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(stream)
        self._redactor = redactor
        self._line = self._json if fmt == "json" else self._text
        self._counter = counter
        self._monotonic = monotonic
        self._repeats = Repeats()

    def emit(self, record: logging.LogRecord) -> None:
        """Count a record and write it, unless it repeats too often (under the handler's lock)."""
        if self._counter is not None:
            self._counter(next(name for least, name in _LEVELS if record.levelno >= least))
        written, over = self._repeats.take(record, self._monotonic())
        for entry in over:
            super().emit(_summary(entry))
        if written:
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """Return a record's line."""
        return self._line(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Write a stand-in for a record that cannot be written: logging would print its arguments as they are."""
        error = sys.exc_info()[1]
        with contextlib.suppress(OSError, ValueError):  # stderr is closed
            self.stream.write(self._line(_unreadable(record, error)) + self.terminator)
            self.flush()

    def close(self) -> None:
        """Say what was suppressed and not yet said."""
        self.acquire()
        try:
            for entry in self._repeats.end():
                super().emit(_summary(entry))
        finally:
            self.release()
        super().close()

    def _parts(self, record: logging.LogRecord) -> tuple[str, str, dict[str, str], dict[str, Any]]:
        """Return stamp, message, exception and stack as far as there are any, and extra fields; all without secrets."""
        redact = self._redactor.text
        stamp = datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="microseconds")
        traces = {}
        if record.exc_info and record.exc_info[1] is not None:
            traces["exception"] = "".join(traceback.format_exception(record.exc_info[1])).rstrip("\n")
        elif record.exc_text:
            traces["exception"] = record.exc_text
        if record.stack_info:
            traces["stack"] = record.stack_info
        extra = {
            f"extra_{name}" if name in _FIELDS else redact(name): self._redactor.value(value)
            for name, value in vars(record).items()
            if name not in _KNOWN
        }
        cut = {name: _cut(redact(text)) for name, text in traces.items()}
        return stamp.replace("+00:00", "Z"), _cut(redact(record.getMessage())), cut, extra

    def _json(self, record: logging.LogRecord) -> str:
        stamp, message, traces, extra = self._parts(record)
        head = {"time": stamp, "level": record.levelname, "logger": self._redactor.text(record.name)}
        line = msgspec.json.encode({**head, "message": message, **traces, **extra}).decode()
        # JSON leaves these as they are; a terminal obeys some of them. None occurs outside of a string.
        return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", line)

    def _text(self, record: logging.LogRecord) -> str:
        stamp, message, traces, extra = self._parts(record)
        fields = "".join(f" {name}={value}" for name, value in extra.items())
        head = f"{stamp} {record.levelname} {self._redactor.text(record.name)}: {message}{fields}"
        # What comes from outside may neither begin a line of its own nor steer a terminal.
        lines = [head, *(f"    {line}" for text in traces.values() for line in text.split("\n"))]
        return "\n".join(_CONTROL.sub(lambda found: ascii(found[0])[1:-1], line) for line in lines)


def _cut(text: str) -> str:
    """Cut after masking: half a secret would not be found."""
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS]}... ({len(text) - MAX_CHARACTERS} more characters)"


def _summary(entry: Suppression) -> logging.LogRecord:
    text = f"suppressed {entry.suppressed} more within {REPEAT_SECONDS:g} s of: {entry.template}"
    return logging.LogRecord(entry.logger, entry.level, "", 0, text, None, None)


def _unreadable(record: logging.LogRecord, error: BaseException | None) -> logging.LogRecord:
    """Stand in for a record whose arguments do not fit: where it comes from, so that it can be mended."""
    template = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
    text = f"{template} [not readable: {type(error).__name__} at {record.pathname}:{record.lineno}]"
    return logging.LogRecord(record.name, record.levelno, record.pathname, record.lineno, text, None, None)


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    log.critical("uncaught error: the process ends", exc_info=(kind, error, trace))


def _uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or isinstance(args.exc_value, SystemExit):
        return
    name = args.thread.name if args.thread is not None else "(gone)"
    log.critical("uncaught error in thread %s: the thread has ended", name, exc_info=args.exc_value)


def _unraisable(args: Any) -> None:
    log.error("%s %r", args.err_msg or "an error was ignored in", args.object, exc_info=args.exc_value)
