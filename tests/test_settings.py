"""From the environment into settings: every problem at once, one line each, and no secret in any of them."""

from pathlib import Path

import pytest

from ingest.core.errors import BadSettings
from ingest.settings import MASK, declared, load, secrets, shown


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
        ("K2_KAFKA_POSITIONS_TOPIC", "market.crypto.trades.binance", "three topics"),
        ("K2_KAFKA_TOPICS", "a", "unknown setting"),
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
