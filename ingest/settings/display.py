"""Settings as they may be shown: secrets masked."""

import re
from collections.abc import Iterator

from ingest.command.masking import MASK, refused
from ingest.core.proxies import parse_proxy
from ingest.settings.declarations import Settings
from ingest.settings.names import KAFKA_OPTION_PREFIX
from ingest.settings.reading import Declared, declared

SENSITIVE_OPTIONS = frozenset(
    {
        "sasl.kerberos.kinit.cmd",
        "sasl.oauthbearer.assertion.file",
        "sasl.oauthbearer.assertion.private.key.file",
        "sasl.oauthbearer.assertion.private.key.passphrase",
        "sasl.oauthbearer.assertion.private.key.pem",
        "sasl.oauthbearer.client.credentials.client.secret",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.config",
        "sasl.oauthbearer.extensions",
        "sasl.password",
        "sasl.username",
        "ssl.ca.pem",
        "ssl.key.location",
        "ssl.key.password",
        "ssl.key.pem",
        "ssl.keystore.password",
    }
)
"""What librdkafka 2.16 itself never shows (a test compares them), and two that may hold a secret besides."""
_ADDRESS = re.compile(":/|:.*@", re.DOTALL)
"""What may have a user, a password or a query in it, also in a setting that is meant for something else."""
SECRET_WORDS = ("password", "passphrase", "secret", "credential", "private.key", "key.pem", "jaas", "username")
"""For options that a later librdkafka may add."""


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
    return option in SENSITIVE_OPTIONS or any(word in option for word in SECRET_WORDS)


def secrets(settings: Settings) -> frozenset[str]:
    """The values that must appear in no log, metric, report or answer. The path of a file is none of them."""
    found = {getattr(getattr(settings, s.part), s.field) for s in declared() if s.secret}
    found |= {
        value
        for option, value in settings.kafka_options.items()
        if is_secret_option(option) and not option.endswith((".location", ".file"))
    }
    found |= {part for value in settings.kafka_options.values() for part in _secret_parts(value)}
    if settings.binance.proxy is not None:
        found.add(parse_proxy(settings.binance.proxy).password)
    return frozenset(value for value in found if value)


def _secret_parts(value: str) -> Iterator[str]:
    """The password and the query of an option that is a URL."""
    _, found, rest = value.partition("://")
    if found:
        user, _, host = rest.rpartition("@")
        yield user.partition(":")[2]
        yield host.partition("?")[2]


def _display(value: object, *, masked: bool) -> str:
    if value is None:
        return ""
    if masked:
        return MASK
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        value = ",".join(str(part) for part in value)
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return refused(text) if _ADDRESS.search(text) else text
