"""One validation for ``ingest check``, ``ingest run`` and ``ingest topics``: what one accepts the others accept.

The settings are read, and then everything is built from them that needs no network: Kafka's clients, the TLS context,
the WebSocket client's package.
"""

import difflib
import importlib.util
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer

from ingest.binance.tls import client_context
from ingest.command.masking import refused
from ingest.core.errors import BadSettings, Stop
from ingest.kafka import client
from ingest.settings import MASK, Settings, load, secrets

OPTION = "K2_KAFKA_OPTION_"
FREQUENT_OPTIONS = (
    "sasl.kerberos.keytab", "sasl.kerberos.principal", "sasl.kerberos.service.name", "sasl.mechanism",
    "sasl.oauthbearer.client.id", "sasl.oauthbearer.client.secret", "sasl.oauthbearer.config",
    "sasl.oauthbearer.extensions", "sasl.oauthbearer.method", "sasl.oauthbearer.scope",
    "sasl.oauthbearer.token.endpoint.url", "sasl.password", "sasl.username", "security.protocol", "socket.timeout.ms",
    "ssl.ca.location", "ssl.ca.pem", "ssl.certificate.location", "ssl.certificate.pem", "ssl.crl.location",
    "ssl.key.location", "ssl.key.password", "ssl.key.pem", "ssl.keystore.location", "ssl.keystore.password",
    "compression.type", "batch.size", "linger.ms", "client.dns.lookup", "client.rack", "broker.address.family",
    "statistics.interval.ms", "connections.max.idle.ms", "topic.metadata.refresh.interval.ms", "debug",
)  # fmt: skip
"""What a misspelt option is compared with."""


def load_usable(environment: Mapping[str, str]) -> Settings:
    """Read the settings and build what they describe. Raises ``BadSettings`` with a line for each problem."""
    settings = load(environment)
    problems = list(_problems(settings.of_shard(0) if settings.service.shard_index == "auto" else settings))
    if problems:
        raise BadSettings(problems)
    return settings


def _problems(settings: Settings) -> Iterator[str]:
    yield from _kafka(settings)
    try:
        client_context(settings.binance)
    except Stop as error:
        yield str(error)
    if settings.binance.transport == "picows" and importlib.util.find_spec("picows") is None:
        yield "K2_BINANCE_TRANSPORT='picows': the package picows is missing; install k2-ingest[fast]"


def _kafka(settings: Settings) -> Iterator[str]:
    """Build each kind of client without addresses, so that none connects; one line for each different refusal."""
    missing = list(_missing_files(settings))
    if missing:
        yield from missing
        return
    transactional = settings.kafka.delivery == "exactly-once"
    refusals = (
        _refusal(Producer, client.producer(settings, transactional=transactional)),
        _refusal(Consumer, client.reader(settings, "check", wait_ms=100)),
    )
    for text in dict.fromkeys(text for text in refusals if text is not None):
        yield _explained(text, settings)


def _missing_files(settings: Settings) -> Iterator[str]:
    for option, value in sorted(settings.kafka_options.items()):
        is_file = option.endswith((".location", ".file", ".keytab")) and value != "probe"
        if is_file and not Path(value).exists():
            yield f"{_setting(option)}={refused(value)!r}: no such file"


def _refusal(kind: Any, config: dict[str, Any]) -> str | None:
    try:
        built = kind({**config, "bootstrap.servers": ""})
    except KafkaException as error:
        return re.sub(r"^Failed to create (producer|consumer): ", "", error.args[0].str())
    except (TypeError, ValueError, AttributeError) as error:
        return str(error)
    if isinstance(built, Consumer):
        built.close()
    return None


def _explained(text: str, settings: Settings) -> str:
    """Librdkafka's refusal with the name of the setting, and of the option that was probably meant."""
    for secret in secrets(settings):
        text = text.replace(secret, MASK)
    unknown = re.fullmatch(r'No such configuration property: "([^"]*)"', text)
    if unknown is not None:
        near = difflib.get_close_matches(unknown[1], FREQUENT_OPTIONS, n=1)
        hint = f"; did you mean {_setting(near[0])}?" if near else ""
        return f"{_setting(unknown[1])}: librdkafka has no option {unknown[1]!r}{hint}"
    named = [
        name
        for name, value in settings.kafka_options.items()
        if name in text or (name.startswith("sasl.mechanism") and value in text)
    ]
    return f"{_setting(named[0] if named else '...')}: {text}"


def _setting(option: str) -> str:
    return OPTION + option.upper().replace(".", "_") if option != "..." else f"{OPTION}..."
