"""Reads ``Settings`` from the environment."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from ingest.command.masking import MASK, refused
from ingest.core.errors import BadSettings
from ingest.settings import names, rules
from ingest.settings.declarations import PARTS, BinanceSettings, KafkaSettings, ServiceSettings, Settings

KAFKA_OPTION_PREFIX = names.KAFKA_OPTION_PREFIX
LARGEST_WHOLE, LARGEST_NUMBER = 2**53, 1e9
"""Where a setting has no bound of its own: beyond these, timers and counters overflow."""
FORBIDDEN_KAFKA_OPTIONS = frozenset(
    {
        "acks",
        "auto.offset.reset",
        "bootstrap.servers",
        "delivery.timeout.ms",
        "enable.auto.commit",
        "enable.gapless.guarantee",
        "enable.idempotence",
        "enable.partition.eof",
        "group.id",
        "isolation.level",
        "logger",
        "max.in.flight",
        "max.in.flight.requests.per.connection",
        "message.send.max.retries",
        "message.timeout.ms",
        "metadata.broker.list",
        "partitioner",
        "reconnect.backoff.ms",
        "retries",
        "retry.backoff.ms",
        "request.required.acks",
        "transaction.timeout.ms",
        "transactional.id",
    }
)
"""Exactly-once and the order of trades depend on these: they are not for settings to change."""


class Declared(msgspec.Struct, frozen=True):
    """One setting as declared, for the reference and for ``ingest check``."""

    name: str
    part: str
    field: str
    type: Any
    default: Any
    description: str
    secret: bool
    allowed: str


def declared() -> Iterator[Declared]:
    """Every setting, in the order of declaration."""
    for part, prefix, struct in PARTS:
        hints = get_type_hints(struct, include_extras=True)
        for field in msgspec.structs.fields(struct):
            hint = hints[field.name]
            base, *metas = get_args(hint) if get_origin(hint) is Annotated else (hint,)
            meta = metas[0] if metas else Meta()
            yield Declared(
                name=prefix + field.name.upper(),
                part=part,
                field=field.name,
                type=hint,
                default=field.default,
                description=meta.description or "",
                secret=bool(meta.extra and meta.extra.get("secret")),
                allowed=_allowed(base, meta),
            )


def _allowed(base: Any, meta: Meta) -> str:
    if get_origin(base) is Literal:
        return " or ".join(repr(choice) for choice in get_args(base))
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    inner = next((arg for arg in get_args(base) if arg in names), base)
    text = "a comma-separated list" if get_origin(base) is tuple else names.get(inner, "text")
    for bound, word in ((meta.ge, "at least"), (meta.gt, "more than"), (meta.le, "at most")):
        if bound is not None:
            text += f", {word} {bound:,}"
    if meta.pattern is not None:
        text += f" matching {meta.pattern}"
    if meta.min_length is not None:
        text += ", not empty"
    return " or ".join([text, *map(repr, _words(base))])


def load(environment: Mapping[str, str]) -> Settings:
    """Read the settings.

    Raises ``BadSettings`` with every problem at once, one line each: name, value, what is allowed. An unknown name that
    begins like ours is a problem too: a misspelt setting must not be silently ignored. Service links of Kubernetes and
    settings of other programs are ignored.
    """
    problems: list[str] = []
    ours = {name: value for name, value in environment.items() if not names.is_service_link(name, value)}
    values = _values(ours, problems)
    unreadable = bool(problems)
    options = _kafka_options(ours, problems)
    known = {name for one in declared() for name in (one.name, one.name + "_FILE")}
    problems.extend(names.unknown(ours, known))
    for field in ("websocket", "rest"):
        # Another exchange address (a simulator, a testnet) must never fail over to the production one.
        if f"{field}_url" in values["binance"]:
            values["binance"].setdefault(f"{field}_fallback_urls", ())
    if unreadable:
        raise BadSettings(problems)
    settings = Settings(
        binance=BinanceSettings(**values["binance"]),
        kafka=KafkaSettings(**values["kafka"]),
        service=ServiceSettings(**values["service"]),
        kafka_options=options,
    )
    problems += rules.contradictions(settings)
    if problems:
        raise BadSettings(problems)
    return settings


def _values(environment: Mapping[str, str], problems: list[str]) -> dict[str, dict[str, Any]]:
    values: dict[str, dict[str, Any]] = {part: {} for part, _, _ in PARTS}
    for setting in declared():
        raw = _raw(setting.name, environment, problems)
        if raw is None:
            continue
        shown = MASK if setting.secret else repr(refused(raw))
        if len(raw) > 1 and raw[0] == raw[-1] and raw[0] in "\"'" and not setting.secret:
            problems.append(f"{setting.name}={shown}: the quotes are part of the value; remove them")
            continue
        try:
            values[setting.part][setting.field] = _convert(raw, setting.type)
        except (msgspec.ValidationError, ValueError, OverflowError):
            problems.append(f"{setting.name}={shown}: allowed is {setting.allowed}")
    return values


def _raw(name: str, environment: Mapping[str, str], problems: list[str]) -> str | None:
    value = environment.get(name)
    path = environment.get(name + "_FILE")
    if path is None:
        return value if value else None
    if value:
        problems.append(f"{name} and {name}_FILE are both set: set one of them")
        return None
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or "it is no text"
        problems.append(f"{name}_FILE={refused(path)!r}: cannot be read ({cause})")
        return None


def _utf8(text: str) -> str:
    """Read as UTF-8 what Python could not decode: under ``LC_ALL=C`` it takes the environment for ASCII."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def _convert(raw: str, hint: Any) -> Any:
    base, *metas = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    if get_origin(base) is tuple:
        return tuple(part.strip() for part in _utf8(raw).split(",") if part.strip())
    if Path in get_args(base):
        if "\0" in raw:
            raise ValueError("no path")
        return Path(raw)
    words = _words(base)
    if words:
        if raw.strip() in words:
            return raw.strip()
        base = next(part for part in get_args(base) if get_origin(part) is not Literal)
        hint = Annotated[base, *metas]
    if get_origin(base) is UnionType:
        # msgspec takes no bounds on an optional number; what is given here is never None.
        base = next(part for part in get_args(base) if part is not NoneType)
        hint = Annotated[base, *metas] if metas else base
    raw = _utf8(raw)
    value = msgspec.convert(raw.strip() if base is not str else raw, hint, strict=False)
    if isinstance(value, float) and not (math.isfinite(value) and abs(value) <= LARGEST_NUMBER):
        raise ValueError("not a number")
    if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        raise ValueError("too large")
    return value


def _words(base: Any) -> tuple[str, ...]:
    """The words that a setting may be besides what its other type allows; none for any other setting."""
    literal = next((part for part in get_args(base) if get_origin(part) is Literal), None)
    return () if literal is None else get_args(literal)


def _kafka_options(environment: Mapping[str, str], problems: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    names = {name.removesuffix("_FILE") for name in environment if name.startswith(KAFKA_OPTION_PREFIX)}
    for name in sorted(names):
        option = name.removeprefix(KAFKA_OPTION_PREFIX).lower().replace("_", ".")
        if option in FORBIDDEN_KAFKA_OPTIONS:
            problems.append(f"{name}: {option} is part of the exactly-once protocol and cannot be set")
            continue
        value = _raw(name, environment, problems)
        if value is not None:
            options[option] = value
    return options
