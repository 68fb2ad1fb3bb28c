"""Entry J: `check` passes what `run` dies of; security.md section 7: secrets in what is shown."""

from collections.abc import Mapping
from functools import partial

from tests.campaigns.field.environment import Environment, ingest, traceback_in
from tests.campaigns.field.example import cases, example, require

TWO = "two validations"
REFUSED: tuple[tuple[Mapping[str, str], str], ...] = (
    ({"K2_KAFKA_OPTION_SASL_MECANISM": "PLAIN"}, "SASL_MECANISM|sasl.mecanism"),
    (
        {"K2_KAFKA_OPTION_SSL_CA_LOCATION": "/nonexistent/ca.pem", "K2_KAFKA_OPTION_SECURITY_PROTOCOL": "SSL"},
        "/nonexistent/ca.pem",
    ),
    (
        {
            "K2_KAFKA_OPTION_SSL_CERTIFICATE_LOCATION": "/nonexistent/cert.pem",
            "K2_KAFKA_OPTION_SECURITY_PROTOCOL": "SSL",
        },
        "/nonexistent/cert.pem",
    ),
    ({"K2_KAFKA_OPTION_QUEUE_BUFFERING_MAX_MS": "soon"}, "QUEUE_BUFFERING_MAX_MS|queue.buffering.max.ms"),
    ({"K2_KAFKA_OPTION_SECURITY_PROTOCOL": "TLS"}, "SECURITY_PROTOCOL|security.protocol"),
    ({"K2_KAFKA_OPTION_SOCKET_TIMEOUT_MS": "-1"}, "SOCKET_TIMEOUT_MS|socket.timeout.ms"),
    ({"K2_KAFKA_BOOTSTRAP_SERVERS": '"kafka:9092"'}, "K2_KAFKA_BOOTSTRAP_SERVERS"),
    ({"K2_KAFKA_BOOTSTRAP_SERVERS": "'kafka:9092'"}, "K2_KAFKA_BOOTSTRAP_SERVERS"),
    ({"K2_KAFKA_BOOTSTRAP_SERVERS": "http://kafka:9092"}, "K2_KAFKA_BOOTSTRAP_SERVERS"),
    ({"K2_KAFKA_BOOTSTRAP_SERVERS": "kafka:99999"}, "K2_KAFKA_BOOTSTRAP_SERVERS"),
    ({"K2_KAFKA_BOOTSTRAP_SERVERS": "kafka:9092;other:9092"}, "K2_KAFKA_BOOTSTRAP_SERVERS"),
    ({"K2_KAFKA_BOOTSTRAP_SERVERS": "kafka :9092"}, "K2_KAFKA_BOOTSTRAP_SERVERS"),
    ({"K2_KAFKA_BOOTSTRAP_SERVERS": ","}, "K2_KAFKA_BOOTSTRAP_SERVERS"),
    ({"K2_BINANCE_WEBSOCKET_URL": "wss://stream.binance.com:9443/ws"}, "K2_BINANCE_WEBSOCKET_URL"),
    (
        {"K2_BINANCE_WEBSOCKET_URL": "wss://stream.binance.com:9443/stream?streams=btcusdt@trade"},
        "K2_BINANCE_WEBSOCKET_URL",
    ),
    ({"K2_BINANCE_WEBSOCKET_URL": '"wss://stream.binance.com:9443"'}, "K2_BINANCE_WEBSOCKET_URL"),
    (
        {"K2_BINANCE_WEBSOCKET_FALLBACK_URLS": "wss://data-stream.binance.vision/ws"},
        "K2_BINANCE_WEBSOCKET_FALLBACK_URLS",
    ),
    ({"K2_BINANCE_REST_URL": "https://api.binance.com/api/v3"}, "K2_BINANCE_REST_URL"),
    ({"K2_BINANCE_REST_URL": "https://api.binance.com:99999"}, "K2_BINANCE_REST_URL"),
    ({"K2_KAFKA_SCHEMA_REGISTRY_URL": "registry:8081"}, "K2_KAFKA_SCHEMA_REGISTRY_URL"),
    ({"K2_KAFKA_SCHEMA_REGISTRY_URL": "http://user:hush-hush@"}, "K2_KAFKA_SCHEMA_REGISTRY_URL"),
    ({"K2_BINANCE_CUSTOM_CA_BUNDLE": "/nonexistent/ca.pem"}, "K2_BINANCE_CUSTOM_CA_BUNDLE"),
    ({"K2_SHARDCOUNT": "4"}, "K2_SHARD_COUNT"),
    ({"K2_START_MOD": "standby"}, "K2_START_MODE"),
    ({"K2_BINANCE_SYMBOL": "BTCUSDT"}, "K2_BINANCE_SYMBOLS"),
    ({"K2_KAFKA_TOPICS": "trades"}, "K2_KAFKA_TOPIC"),
    ({"K2_KAFKA_TOPIC": "."}, "K2_KAFKA_TOPIC"),
    ({"K2_KAFKA_TOPIC": ".."}, "K2_KAFKA_TOPIC"),
    ({"K2_KAFKA_TOPIC": "a.b", "K2_KAFKA_POSITIONS_TOPIC": "a.b"}, "K2_KAFKA_POSITIONS_TOPIC"),
    ({"K2_KAFKA_TOPIC": "a.b", "K2_KAFKA_DEAD_LETTER_TOPIC": "a.b.positions"}, "TOPIC"),
    ({"K2_KAFKA_POSITIONS_TOPIC": "with space"}, "K2_KAFKA_POSITIONS_TOPIC"),
    ({"K2_SHARD_INDEX": "4", "K2_SHARD_COUNT": "4"}, "K2_SHARD_INDEX"),
    ({"K2_TAKEOVER_AFTER_SECONDS": "nan"}, "K2_TAKEOVER_AFTER_SECONDS"),
    ({"K2_BINANCE_REST_WEIGHT_FRACTION": "inf"}, "K2_BINANCE_REST_WEIGHT_FRACTION"),
    ({"K2_BUFFER_MAX_TRADES": "1e5.5"}, "K2_BUFFER_MAX_TRADES"),
    ({"K2_CONTROL_PORT": "9095", "K2_METRICS_PORT": "9095", "K2_CONTROL_TOKEN": "0123456789abcdef0"}, "PORT"),
)
"""Settings that `run` cannot work with, and a word that the message must have."""
ACCEPTED: tuple[Mapping[str, str], ...] = (
    {"K2_KAFKA_SERVICE_HOST": "10.0.0.7", "K2_KAFKA_SERVICE_PORT": "9092"},
    {"K2_METRICS_PORT": "tcp://10.0.0.7:9095"},
    {"K2_KAFKA_PORT": "tcp://10.0.0.7:9092", "K2_KAFKA_PORT_9092_TCP": "tcp://10.0.0.7:9092",
     "K2_KAFKA_PORT_9092_TCP_ADDR": "10.0.0.7", "K2_KAFKA_PORT_9092_TCP_PORT": "9092",
     "K2_KAFKA_PORT_9092_TCP_PROTO": "tcp"},
    {"K2_INGEST_SERVICE_HOST": "10.0.0.8", "K2_INGEST_SERVICE_PORT_METRICS": "9095"},
    {"K2_CONTROL_PORT": "tcp://10.0.0.7:9096"},
    {"K2_KAFKA_BOOTSTRAP_SERVERS": "kafka-1:9092, kafka-2:9092"},
    {"K2_KAFKA_BOOTSTRAP_SERVERS": "[::1]:9092"},
    {"K2_BINANCE_REST_URL": "https://api.binance.com/"},
    {"K2_DEPLOY_AGENT_URL": "http://agent:9099", "K2_AGENT_TOKEN": "0123456789abcdef"},
    {"K2_REPORT_PROMETHEUS_URL": "http://prometheus:9090"},
    {"K2_MEMORY_LIMIT": "512m", "K2_GREEN_START_MODE": "auto"},
)  # fmt: skip
"""What an orchestrator or the compose file sets, and what is right."""


def _refused(environment: Environment, settings: Mapping[str, str], word: str) -> str:
    shown = ", ".join(f"{name}={value}" for name, value in settings.items())
    for command in ("check", "run"):
        try:
            done = ingest(command, settings={"K2_METRICS_PORT": "0", **settings}, seconds=20)
        except Exception as error:
            raise AssertionError(f"{shown}: `ingest {command}` does not end ({type(error).__name__})") from error
        text = done.stdout + done.stderr
        require(not traceback_in(text), f"{shown}: `ingest {command}` ends with a traceback")
        require(done.returncode == 2, f"{shown}: `ingest {command}` exits {done.returncode}")
        require(any(part in text for part in word.split("|")), f"{shown}: `ingest {command}` does not name {word}")
        require("hush-hush" not in text, f"{shown}: `ingest {command}` shows the password")
    return shown


def _every_refused(environment: Environment, choice: slice) -> str:
    wrong = []
    for settings, word in REFUSED[choice]:
        try:
            _refused(environment, settings, word)
        except AssertionError as error:
            wrong.append(str(error))
    require(not wrong, f"{len(wrong)} of {len(REFUSED[choice])}: " + "; ".join(wrong))
    return f"{len(REFUSED[choice])} refused by check and run"


for _number, _start in enumerate(range(0, len(REFUSED), 13), 1):
    example(
        f"J.1.{_number}", TWO, "`ingest check` and `ingest run` refuse it with exit 2 and name the setting",
        quick=_number == 1,
    )(partial(_every_refused, choice=slice(_start, _start + 13)))  # fmt: skip


@example(
    "J.2",
    TWO,
    "service links of Kubernetes and settings of the other tools are ignored; what is right is accepted",
    quick=True,
)
def accepted(environment: Environment) -> str:
    """An orchestrator adds variables of its own."""
    wrong = []
    for settings in ACCEPTED:
        done = ingest("check", settings=settings)
        if done.returncode != 0:
            wrong.append(f"{dict(settings)}: exit {done.returncode}: {(done.stderr or done.stdout).strip()[-120:]}")
    require(not wrong, "; ".join(wrong))
    return f"{len(ACCEPTED)} accepted"


@example("J.3", TWO, "`ingest check --connect` exits 0 where all answer")
def connect_good(environment: Environment) -> str:
    """Broker, registry and exchange are there."""
    with environment.stack("connect") as stack:
        done = ingest("check", "--connect", settings=stack.settings(), seconds=60)
        require(done.returncode == 0, f"exit {done.returncode}: {(done.stdout + done.stderr)[-250:]}")
        return "exit 0"


def _connect_bad(environment: Environment, setting: str, value: str) -> str:
    with environment.stack("connect-bad") as stack:
        settings = {**stack.settings(), "K2_BINANCE_WEBSOCKET_FALLBACK_URLS": "", "K2_BINANCE_REST_FALLBACK_URLS": "",
                    setting: value}  # fmt: skip
        done = ingest("check", "--connect", settings=settings, seconds=90)
        text = done.stdout + done.stderr
        require(not traceback_in(text), "a traceback")
        require(done.returncode not in (0, 1), f"exit {done.returncode}: {text[-200:]}")
        require(value.split("//")[-1] in text, f"the message does not name {value}")
        return f"exit {done.returncode}"


cases(
    "J.4.", TWO, "`ingest check --connect` names what does not answer; exit neither 0 nor 1",
    (
        partial(_connect_bad, setting="K2_KAFKA_BOOTSTRAP_SERVERS", value="127.0.0.1:9"),
        partial(_connect_bad, setting="K2_KAFKA_SCHEMA_REGISTRY_URL", value="http://127.0.0.1:9"),
        partial(_connect_bad, setting="K2_BINANCE_REST_URL", value="http://127.0.0.1:9"),
        partial(_connect_bad, setting="K2_BINANCE_WEBSOCKET_URL", value="ws://127.0.0.1:9"),
    ),
)  # fmt: skip


SECRETS = (
    "SASL_PASSWORD", "SSL_KEY_PASSWORD", "SSL_KEYSTORE_PASSWORD", "SASL_OAUTHBEARER_CLIENT_SECRET", "SSL_KEY_PEM",
    "SASL_OAUTHBEARER_ASSERTION_PRIVATE_KEY_PEM", "SASL_OAUTHBEARER_ASSERTION_PRIVATE_KEY_PASSPHRASE",
)  # fmt: skip


@example(
    "S7",
    "secrets in what is shown",
    "`ingest check` masks every sensitive option of librdkafka and passwords in URLs",
    quick=True,
)
def masked(environment: Environment) -> str:
    """Secrets are passed through to librdkafka."""
    secret = "hush-hush-secret-1"  # noqa: S105
    shown = []
    for name in SECRETS:
        for arguments in (("check",), ("check", "--json")):
            done = ingest(*arguments, settings={f"K2_KAFKA_OPTION_{name}": secret})
            if secret in done.stdout + done.stderr:
                shown.append(name)
    for name in (
        "K2_KAFKA_SCHEMA_REGISTRY_URL",
        "K2_BINANCE_REST_URL",
        "K2_BINANCE_WEBSOCKET_URL",
        "K2_KAFKA_BOOTSTRAP_SERVERS",
    ):
        for value in (f"http://user:{secret}@host:8081", f"ftp://user:{secret}@host"):
            done = ingest("check", settings={name: value})
            if secret in done.stdout + done.stderr:
                shown.append(f"{name}={value.split(':')[0]}")
    require(not shown, f"shown: {', '.join(dict.fromkeys(shown))}")
    return "all masked"
