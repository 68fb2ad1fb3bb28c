"""From the environment into settings: every problem at once, one line each, and no secret in any of them."""

import contextlib
import logging
import re
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer

from ingest.core.errors import BadSettings
from ingest.settings import MASK, declared, is_secret_option, load, secrets, service_links, shown
from ingest.settings.display import SENSITIVE_OPTIONS
from ingest.settings.names import unknown


def problems(**environment: str) -> list[str]:
    with pytest.raises(BadSettings) as caught:
        load(environment)
    return caught.value.problems


def test_an_empty_environment_is_the_documented_defaults() -> None:
    settings = load({})
    binance, kafka = settings.binance, settings.kafka
    assert (settings.connection_lifetime_seconds, binance.ping_interval_seconds, binance.ping_timeout_seconds) == (
        4 * 3600.0, 180.0, 10.0,
    )  # fmt: skip
    assert (binance.health_check_interval, binance.health_check_timeout) == (30.0, 30.0)
    assert (binance.ssl_verify, kafka.serializer_cache_max_size) == (True, 10)
    assert settings.positions_topic == "market.crypto.trades.binance.positions"
    assert settings.dead_letter_topic == "market.crypto.trades.binance.dlq"
    assert settings.voids_topic == "market.crypto.trades.binance.voids"


def test_values_are_utf_8_whatever_the_locale() -> None:
    undecoded = "BTCUSDT,币安人生USDT".encode().decode("ascii", "surrogateescape")
    environment = {"K2_BINANCE_ALLOW_NON_ASCII_SYMBOLS": "true", "K2_KAFKA_TOPIC": "trades"}
    assert load({**environment, "K2_BINANCE_SYMBOLS": undecoded}).binance.symbols == ("BTCUSDT", "币安人生USDT")
    broken = "BTCUSDT\udcff"
    assert problems(**environment, K2_BINANCE_SYMBOLS=broken)[0].startswith("K2_BINANCE_SYMBOLS: ")


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("K2_BINANCE_CONNECTION_MAX_LIFETIME_HOURS", "0.5", "at least 1, at most 24"),
        ("K2_BINANCE_CONNECTION_MAX_LIFETIME_HOURS", "25", "at least 1, at most 24"),
        ("K2_BINANCE_PING_INTERVAL_SECONDS", "soon", "a number"),
        ("K2_BINANCE_HEALTH_CHECK_TIMEOUT", "nan", "a number"),
        ("K2_KAFKA_SERIALIZER_CACHE_MAX_SIZE", "0", "at least 1, at most 100"),
        ("K2_KAFKA_SERIALIZER_CACHE_MAX_SIZE", "101", "at least 1, at most 100"),
        ("K2_KAFKA_SERIALIZER_CACHE_MAX_SIZE", "2.5", "a whole number"),
        ("K2_BINANCE_SSL_VERIFY", "maybe", "true or false"),
        ("K2_KAFKA_DELIVERY", "twice", "'exactly-once' or 'at-least-once'"),
        ("K2_KAFKA_TOPIC", "no topic", "matching"),
        ("K2_CONTROL_PORT", "70000", "at most 65,535"),
        ("K2_BINANCE_WEBSOCKET_URL", "https://stream.example", "ws://host[:port] or wss://host[:port]"),
        ("K2_BINANCE_SYMBOLS", "btcusdt", "A-Z and 0-9"),
        ("K2_BINANCE_SYMBOLS", "*,BTCUSDT", "stands alone"),
        ("K2_BINANCE_SYMBOLS", "BTCUSDT,BTCUSDT", "named twice"),
        ("K2_BINANCE_SSL_VERIFY", "false", "only together with K2_BINANCE_INSECURE_DEVELOPMENT"),
        ("K2_SHARD_INDEX", "3", "0 to K2_SHARD_COUNT - 1"),
        ("K2_BINANCE_CUSTOM_CA_BUNDLE", "/no/such/bundle.pem", "no such file"),
        ("K2_BINANCE_CUSTOM_CA_BUNDLE", "/" + "x" * 300, "no such file"),
        ("K2_KAFKA_POSITIONS_TOPIC", "market.crypto.trades.binance", "must be 4 topics"),
        ("K2_KAFKA_TOPICS", "a", "did you mean K2_KAFKA_TOPIC?"),
        ("K2_SHARDCOUNT", "4", "did you mean K2_SHARD_COUNT?"),
        ("K2_START_MOD", "standby", "did you mean K2_START_MODE?"),
        ("k2_shard_index", "1", "did you mean K2_SHARD_INDEX?"),
        ("K2_BINANCE_SYMBOL", "BTCUSDT", "did you mean K2_BINANCE_SYMBOLS?"),
        ("K2_NO_SUCH_THING_AT_ALL", "1", "unknown setting; `ingest check --list`"),
        ("K2_METRICS_PORT", "http://10.0.0.1:9095", "a whole number"),
        ("K2_KAFKA_BOOTSTRAP_SERVERS", '"kafka:9092"', "quotes are part of the value"),
        ("K2_BINANCE_SYMBOLS", "'BTCUSDT'", "quotes are part of the value"),
        ("K2_KAFKA_BOOTSTRAP_SERVERS", "http://kafka:9092", "host:port"),
        ("K2_KAFKA_BOOTSTRAP_SERVERS", "kafka:9092,,other:9092", "host:port"),
        ("K2_KAFKA_BOOTSTRAP_SERVERS", "kafka:0", "host:port"),
        ("K2_KAFKA_BOOTSTRAP_SERVERS", "kafka:99999", "host:port"),
        ("K2_KAFKA_BOOTSTRAP_SERVERS", "kafka:port", "host:port"),
        ("K2_BINANCE_WEBSOCKET_URL", "wss://stream.example:9443/ws", "without /ws"),
        ("K2_BINANCE_WEBSOCKET_URL", "wss://stream.example:9443/stream/", "without /stream"),
        ("K2_BINANCE_WEBSOCKET_URL", "wss://stream.example:99999", "ws://host[:port]"),
        ("K2_BINANCE_REST_URL", "https://api.example/api/v3", "without /api/v3"),
        ("K2_PEERS", "http://green:9095/process", "without /process"),
        ("K2_PEERS", "https://green:9095", "http://host"),
        ("K2_PEERS", ",".join(f"http://green-{number}:9095" for number in range(9)), "8"),
        ("K2_KAFKA_SCHEMA_REGISTRY_URL", "http://registry:8081/subjects", "without /subjects"),
        ("K2_KAFKA_SCHEMA_REGISTRY_PASSWORD", "x", "only together with K2_KAFKA_SCHEMA_REGISTRY_USER"),
        ("K2_KAFKA_POSITIONS_TOPIC", "no topic", "matching"),
        ("K2_KAFKA_DEAD_LETTER_TOPIC", "..", "no topic of this name"),
        ("K2_KAFKA_VOIDS_TOPIC", "market.crypto.trades.binance.dlq", "must be 4 topics"),
        ("K2_METRICS_HOST", "http://0.0.0.0", "a host name or an IP address"),
        ("K2_CONTROL_HOST", "two words", "a host name or an IP address"),
        ("K2_BINANCE_VOID_CONFIRM_SECONDS", "inf", "a number"),
        ("K2_BINANCE_SYMBOL_REFRESH_SECONDS", "1e300", "a number"),
        ("K2_BUFFER_MAX_TRADES", "9" * 400, "a whole number"),
        ("K2_READY_FILE", "a\0b", "a path"),
        ("K2_KAFKA_OPTION_PARTITIONER", "random", "cannot be set"),
        ("K2_KAFKA_OPTION_METADATA_BROKER_LIST", "elsewhere:9092", "cannot be set"),
        ("K2_KAFKA_OPTION_DELIVERY_TIMEOUT_MS", "1", "cannot be set"),
        ("K2_KAFKA_OPTION_RETRIES", "0", "cannot be set"),
        ("K2_KAFKA_OPTION_LOGGER", "x", "cannot be set"),
        ("K2_KAFKA_OPTION_ACKS", "1", "cannot be set"),
        ("K2_KAFKA_OPTION_TRANSACTIONAL_ID", "mine", "cannot be set"),
        ("K2_KAFKA_OPTION_RETRY_BACKOFF_MS", "1", "cannot be set"),
    ],
)
def test_a_wrong_value_is_one_line_with_name_value_and_what_is_allowed(name: str, value: str, allowed: str) -> None:
    (problem,) = problems(**{name: value})
    assert allowed in problem
    assert "\n" not in problem
    assert name in problem


def test_the_control_api_needs_a_token_worth_the_name() -> None:
    (problem,) = problems(K2_CONTROL_PORT="9096", K2_CONTROL_TOKEN="short")  # noqa: S106 - that is the point
    assert "at least 16 characters" in problem
    assert "short" not in problem


def test_every_problem_is_told_at_once() -> None:
    told = problems(
        K2_BINANCE_PING_INTERVAL_SECONDS="x", K2_KAFKA_COMMIT_INTERVAL_MS="0", K2_LOG_LEVEL="LOUD", K2_KAFKA_TPOIC="a"
    )
    assert len(told) == 4


def test_a_secret_comes_from_a_file_and_is_shown_nowhere(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("canary-token-of-the-control-api\n")
    settings = load(
        {
            "K2_CONTROL_PORT": "0",
            "K2_CONTROL_TOKEN_FILE": str(token),
            "K2_KAFKA_OPTION_SASL_PASSWORD": "canary-password",
            "K2_KAFKA_OPTION_SASL_MECHANISM": "PLAIN",
        }
    )
    assert settings.service.control_token == "canary-token-of-the-control-api"  # noqa: S105
    text = "\n".join(f"{name}={value}" for name, value, _ in shown(settings))
    assert "canary" not in text
    assert f"K2_CONTROL_TOKEN={MASK}" in text
    assert "K2_KAFKA_OPTION_SASL_MECHANISM=PLAIN" in text
    assert secrets(settings) == {"canary-token-of-the-control-api", "canary-password"}


def test_a_wrong_secret_is_masked_in_its_problem(tmp_path: Path) -> None:
    told = problems(K2_CONTROL_TOKEN="canary", K2_CONTROL_TOKEN_FILE=str(tmp_path / "none"))  # noqa: S106
    assert "canary" not in "\n".join(told)
    assert "set one of them" in told[0]


def test_another_exchange_address_never_falls_back_to_the_real_one() -> None:
    settings = load({"K2_BINANCE_WEBSOCKET_URL": "ws://127.0.0.1:1", "K2_BINANCE_REST_URL": "http://127.0.0.1:2"})
    assert settings.binance.websocket_fallback_urls == ()
    assert settings.binance.rest_fallback_urls == ()
    assert load({}).binance.websocket_fallback_urls


@pytest.mark.parametrize(
    ("first", "fallback"),
    [("wss://a", "ws://b"), ("ws://a", "wss://b"), ("https://a", "http://b"), ("http://a", "https://b")],
)
def test_a_fallback_neither_drops_the_encryption_nor_adds_it(first: str, fallback: str) -> None:
    kind = "WEBSOCKET" if first.startswith("ws") else "REST"
    (problem,) = problems(
        **{f"K2_BINANCE_{kind}_URL": first, f"K2_BINANCE_{kind}_FALLBACK_URLS": f"{first},{fallback}"}
    )
    assert f"K2_BINANCE_{kind}_FALLBACK_URLS" in problem


def test_every_default_is_within_its_own_bounds() -> None:
    for one in declared():
        if one.default is None or isinstance(one.default, tuple) or one.default == "":
            continue
        value = str(one.default).lower() if isinstance(one.default, bool) else str(one.default)
        load({one.name: value})


@pytest.mark.parametrize(
    "links",
    [
        {"K2_KAFKA_SERVICE_HOST": "10.0.0.7", "K2_KAFKA_SERVICE_PORT": "9092", "K2_KAFKA_SERVICE_PORT_CLIENT": "9092"},
        {"K2_METRICS_PORT": "tcp://10.0.0.7:9095", "K2_CONTROL_PORT": "tcp://10.0.0.7:9096"},
        {"K2_KAFKA_PORT": "tcp://10.0.0.7:9092", "K2_KAFKA_PORT_9092_TCP": "tcp://10.0.0.7:9092"},
        {"K2_KAFKA_PORT_9092_TCP_PROTO": "tcp", "K2_KAFKA_PORT_9092_TCP_PORT": "9092"},
        {"K2_KAFKA_PORT_9092_TCP_ADDR": "10.0.0.7", "K2_SERVICE_HOST": "10.0.0.8", "K2_PORT": "tcp://10.0.0.8:80"},
        {"K2_BINANCE_REST_PORT_53_UDP": "udp://10.0.0.9:53"},
    ],
    ids=lambda links: next(iter(links)),
)
def test_links_to_services_are_ignored(links: dict[str, str]) -> None:
    assert load(links) == load({})
    assert service_links(links) == sorted(links)


def test_settings_of_other_programs_are_no_mistakes() -> None:
    example = (Path(__file__).parents[3] / ".env.example").read_text()
    assert not [
        problem
        for name in re.findall(r"^# (K2_[A-Z0-9_]+)=", example, re.M)
        for problem in unknown({name.removesuffix("_FILE"): "x"}, {one.name for one in declared()})
    ]
    others = {"K2_DEPLOY_AGENT_URL": "http://agent:9099", "K2_REPORT_SELECTOR": "x", "K2_TEST_KAFKA": "x"}
    others |= {"K2_AGENT_TOKEN_FILE": "/x", "K2_SECRETS": "./secrets", "K2_GREEN_START_MODE": "auto"}
    assert load(others) == load({})


def test_a_refused_address_does_not_show_its_password() -> None:
    told = problems(
        K2_KAFKA_SCHEMA_REGISTRY_URL="https://user:canary@registry:8081",
        K2_BINANCE_WEBSOCKET_URL="wss://user:canary@h",
        K2_KAFKA_BOOTSTRAP_SERVERS="user:canary@kafka:9092",
    )
    assert len(told) == 3
    assert "canary" not in "\n".join(told)


def test_what_librdkafka_never_shows_is_masked() -> None:
    """Its own list: the options that its debug output redacts."""
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger = logging.getLogger("tests.redacted")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    logger.addHandler(Lines())
    candidates = [*SENSITIVE_OPTIONS, "sasl.mechanism", "ssl.ca.location", "client.id", "sasl.oauthbearer.scope"]
    for option in candidates:
        lines.clear()
        with contextlib.suppress(KafkaException):  # no key, no file: it is shown, or not, before it is used
            producer = Producer({option: "canary", "debug": "conf", "logger": logger})
            producer.poll(0)
        if any(f" {option} = [redacted]" in line for line in lines):
            assert is_secret_option(option)
    assert not is_secret_option("sasl.mechanism")
    assert not is_secret_option("ssl.ca.location")


@pytest.mark.parametrize(
    "option",
    [
        "SASL_OAUTHBEARER_ASSERTION_PRIVATE_KEY_PEM", "SASL_OAUTHBEARER_ASSERTION_PRIVATE_KEY_PASSPHRASE",
        "SASL_OAUTHBEARER_CLIENT_SECRET", "SASL_OAUTHBEARER_CLIENT_CREDENTIALS_CLIENT_SECRET", "SASL_PASSWORD",
        "SSL_KEY_PEM", "SSL_KEY_PASSWORD", "SSL_KEYSTORE_PASSWORD", "SASL_OAUTHBEARER_CONFIG", "SASL_JAAS_CONFIG",
    ],
)  # fmt: skip
def test_a_secret_option_is_masked_and_redacted(option: str) -> None:
    settings = load({f"K2_KAFKA_OPTION_{option}": "canary"})
    assert {name: value for name, value, _ in shown(settings)}[f"K2_KAFKA_OPTION_{option}"] == MASK
    assert "canary" in secrets(settings)


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        ("trade,depht", "do you mean depth?"),
        ("trade,kline_7m", "kline_15m"),
        ("trade,depth,depth", "'depth' is named twice"),
        ("depth", "trade must be among them"),
    ],
)
def test_a_stream_that_does_not_exist_is_named_with_the_nearest(value: str, allowed: str) -> None:
    (problem,) = problems(K2_BINANCE_STREAMS=value)
    assert problem.startswith("K2_BINANCE_STREAMS")
    assert allowed in problem


def test_each_stream_has_a_topic_of_its_own_named_after_the_trades() -> None:
    names = "trade,aggTrade,kline_1m,kline_1h,bookTicker,depth"
    settings = load({"K2_BINANCE_STREAMS": names})
    assert settings.stream_topics == {
        "aggTrade": "market.crypto.agg_trades.binance", "kline_1m": "market.crypto.bars.binance",
        "kline_1h": "market.crypto.bars.binance", "bookTicker": "market.crypto.quotes.binance",
        "depth": "market.crypto.books.binance",
    }  # fmt: skip
    assert load({"K2_BINANCE_STREAMS": "trade,depth", "K2_KAFKA_TOPIC": "t"}).stream_topics == {"depth": "t.books"}
    assert load({}).stream_topics == {}
    clash = problems(K2_BINANCE_STREAMS="trade,depth", K2_KAFKA_TOPIC="a.trades", K2_KAFKA_DEAD_LETTER_TOPIC="a.books")
    assert "a.books" in clash[0]
