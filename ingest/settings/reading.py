"""From the environment into ``Settings``, and back into what may be shown."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from ingest.core.errors import BadSettings
from ingest.core.proxies import parse_proxy
from ingest.settings.declarations import PARTS, BinanceSettings, KafkaSettings, ServiceSettings, Settings

MASK = "********"
KAFKA_OPTION_PREFIX = "K2_KAFKA_OPTION_"
FORBIDDEN_KAFKA_OPTIONS = frozenset(
    {
        "acks",
        "bootstrap.servers",
        "enable.idempotence",
        "isolation.level",
        "max.in.flight",
        "max.in.flight.requests.per.connection",
        "message.timeout.ms",
        "reconnect.backoff.ms",
        "retry.backoff.ms",
        "request.required.acks",
        "transaction.timeout.ms",
        "transactional.id",
    }
)
"""What exactly-once rests on is not for settings to change."""

_SYMBOL = re.compile(r"^[A-Z0-9]{2,20}$")


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
    return text


def load(environment: Mapping[str, str]) -> Settings:
    """Read the settings.

    Raises ``BadSettings`` with every problem at once, one line each: name, value, what is allowed. An unknown name that
    begins like ours is a problem too: a misspelt setting must not be silently ignored.
    """
    problems: list[str] = []
    values: dict[str, dict[str, Any]] = {part: {} for part, _, _ in PARTS}
    known: set[str] = set()
    for setting in declared():
        known.update((setting.name, setting.name + "_FILE"))
        raw = _raw(setting.name, environment, problems)
        if raw is None:
            continue
        try:
            values[setting.part][setting.field] = _convert(raw, setting.type)
        except (msgspec.ValidationError, ValueError):
            shown = MASK if setting.secret else repr(raw)
            problems.append(f"{setting.name}={shown}: allowed is {setting.allowed}")
    unreadable = bool(problems)
    options = _kafka_options(environment, problems)
    problems.extend(
        f"{name}: unknown setting; `ingest check --list` shows those that exist"
        for name in sorted(environment)
        if name.startswith(("K2_BINANCE_", "K2_KAFKA_")) and name not in known and not _is_option(name)
    )
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
    problems += _contradictions(settings)
    if problems:
        raise BadSettings(problems)
    return settings


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
        problems.append(f"{name}_FILE={path!r}: cannot be read ({error})")
        return None


def _convert(raw: str, hint: Any) -> Any:
    base, *metas = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    if get_origin(base) is tuple:
        return tuple(part.strip() for part in raw.split(",") if part.strip())
    if Path in get_args(base):
        return Path(raw)
    if get_origin(base) is UnionType:
        # msgspec takes no bounds on an optional number; what is given here is never None.
        base = next(part for part in get_args(base) if part is not NoneType)
        hint = Annotated[base, *metas] if metas else base
    value = msgspec.convert(raw.strip() if base is not str else raw, hint, strict=False)
    if isinstance(value, float) and value != value:
        raise ValueError("not a number")
    return value


def _is_option(name: str) -> bool:
    return name.startswith(KAFKA_OPTION_PREFIX)


def _kafka_options(environment: Mapping[str, str], problems: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    names = {name.removesuffix("_FILE") for name in environment if _is_option(name)}
    for name in sorted(names):
        option = name.removeprefix(KAFKA_OPTION_PREFIX).lower().replace("_", ".")
        if option in FORBIDDEN_KAFKA_OPTIONS:
            problems.append(f"{name}: {option} is part of the exactly-once protocol and cannot be set")
            continue
        value = _raw(name, environment, problems)
        if value is not None:
            options[option] = value
    return options


def _contradictions(settings: Settings) -> Iterator[str]:
    binance, service, kafka = settings.binance, settings.service, settings.kafka
    urls = [("K2_BINANCE_WEBSOCKET_URL", url, ("ws", "wss")) for url in (binance.websocket_url,)]
    urls += [("K2_BINANCE_WEBSOCKET_FALLBACK_URLS", url, ("ws", "wss")) for url in binance.websocket_fallback_urls]
    urls += [("K2_BINANCE_REST_URL", binance.rest_url, ("http", "https"))]
    urls += [("K2_BINANCE_REST_FALLBACK_URLS", url, ("http", "https")) for url in binance.rest_fallback_urls]
    urls += [("K2_KAFKA_SCHEMA_REGISTRY_URL", kafka.schema_registry_url, ("http", "https"))]
    for name, url, schemes in urls:
        if not re.fullmatch(rf"({'|'.join(schemes)})://[^/\s?#@]+(/[^\s?#]*)?", url):
            yield f"{name}={url!r}: allowed is {' or '.join(f'{scheme}://host[:port]' for scheme in schemes)}"
    for name, first, others in (
        ("K2_BINANCE_WEBSOCKET_FALLBACK_URLS", binance.websocket_url, binance.websocket_fallback_urls),
        ("K2_BINANCE_REST_FALLBACK_URLS", binance.rest_url, binance.rest_fallback_urls),
    ):
        scheme = first.partition("://")[0]
        if any(other.partition("://")[0] != scheme for other in others):
            yield f"{name}: allowed is {scheme}:// as in the first address: failing over must not change the encryption"
    if not binance.ssl_verify and not binance.insecure_development:
        yield "K2_BINANCE_SSL_VERIFY=false: allowed only together with K2_BINANCE_INSECURE_DEVELOPMENT=true"
    if binance.custom_ca_bundle is not None and not binance.custom_ca_bundle.is_file():
        yield f"K2_BINANCE_CUSTOM_CA_BUNDLE={str(binance.custom_ca_bundle)!r}: no such file"
    if binance.proxy is not None and (problem := _proxy_problem(binance.proxy)):
        yield f"K2_BINANCE_PROXY={MASK}: {problem}"
    if not binance.symbols:
        yield "K2_BINANCE_SYMBOLS='': allowed is a comma-separated list of symbols, or *"
    if "*" in binance.symbols and len(binance.symbols) > 1:
        yield f"K2_BINANCE_SYMBOLS={','.join(binance.symbols)!r}: * stands alone"
    for symbol in binance.symbols:
        if symbol != "*" and not binance.allow_non_ascii_symbols and not _SYMBOL.match(symbol):
            yield f"K2_BINANCE_SYMBOLS: {symbol!r} is no symbol; allowed is A-Z and 0-9, 2 to 20 (e.g. BTCUSDT)"
    for symbol in sorted({s for s in binance.symbols if binance.symbols.count(s) > 1}):
        yield f"K2_BINANCE_SYMBOLS: {symbol!r} is named twice"
    if service.shard_index >= service.shard_count:
        yield f"K2_SHARD_INDEX={service.shard_index}: allowed is 0 to K2_SHARD_COUNT - 1 = {service.shard_count - 1}"
    if service.control_port is not None and len(service.control_token or "") < 16:
        yield "K2_CONTROL_TOKEN: the control API needs a token of at least 16 characters (K2_CONTROL_TOKEN_FILE)"
    if binance.ping_timeout_seconds >= binance.ping_interval_seconds:
        yield (
            f"K2_BINANCE_PING_TIMEOUT_SECONDS={binance.ping_timeout_seconds:g}: allowed is less than "
            f"K2_BINANCE_PING_INTERVAL_SECONDS = {binance.ping_interval_seconds:g}"
        )
    if len({kafka.topic, settings.positions_topic, settings.dead_letter_topic}) < 3:
        yield "K2_KAFKA_TOPIC, K2_KAFKA_POSITIONS_TOPIC and K2_KAFKA_DEAD_LETTER_TOPIC must be three topics"


def _proxy_problem(url: str) -> str | None:
    try:
        parse_proxy(url)
    except ValueError as error:
        return str(error)
    return None


def shown(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Each setting as (name, value with secrets masked, meaning); Kafka's options at the end, masked by their name."""
    for setting in declared():
        value = getattr(getattr(settings, setting.part), setting.field)
        yield setting.name, _display(value, masked=setting.secret), setting.description
    for option, value in sorted(settings.kafka_options.items()):
        name = KAFKA_OPTION_PREFIX + option.upper().replace(".", "_")
        yield name, _display(value, masked=is_secret_option(option)), f"librdkafka's {option}"


def default_text(setting: Declared) -> str:
    """A setting's default as one would write it; empty for none."""
    return _display(setting.default, masked=False)


def is_secret_option(option: str) -> bool:
    """Whether a client option's value must never be shown or logged."""
    words = ("password", "secret", "sasl.jaas", "ssl.key.pem", "oauthbearer.config", "token", "username")
    return any(word in option for word in words)


def secrets(settings: Settings) -> frozenset[str]:
    """The values that must appear in no log, metric, report or answer."""
    found = {getattr(getattr(settings, s.part), s.field) for s in declared() if s.secret}
    found |= {value for option, value in settings.kafka_options.items() if is_secret_option(option)}
    if settings.binance.proxy is not None:
        found.add(parse_proxy(settings.binance.proxy).password)
    return frozenset(value for value in found if value)


def _display(value: object, *, masked: bool) -> str:
    if value is None:
        return ""
    if masked:
        return MASK
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
