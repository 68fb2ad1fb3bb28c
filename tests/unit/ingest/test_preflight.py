"""What ``check`` accepts ``run`` accepts: one validation that builds everything which needs no network."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from ingest import cli
from ingest.core.errors import BadSettings
from ingest.preflight import load_usable

SASL = {"K2_KAFKA_OPTION_SECURITY_PROTOCOL": "SASL_SSL"}
TLS = {"K2_KAFKA_OPTION_SECURITY_PROTOCOL": "SSL"}

REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "misspelt": (
        {"K2_KAFKA_OPTION_SASL_MECANISM": "PLAIN"},
        "K2_KAFKA_OPTION_SASL_MECANISM: librdkafka has no option 'sasl.mecanism'; "
        "did you mean K2_KAFKA_OPTION_SASL_MECHANISM?",
    ),
    "nothing like it": ({"K2_KAFKA_OPTION_QQQ": "1"}, "K2_KAFKA_OPTION_QQQ: librdkafka has no option 'qqq'"),
    "no CA file": (
        {**TLS, "K2_KAFKA_OPTION_SSL_CA_LOCATION": "/no/such"},
        "K2_KAFKA_OPTION_SSL_CA_LOCATION='/no/such': no such file",
    ),
    "no CA file, not used yet": (
        {"K2_KAFKA_OPTION_SSL_CA_LOCATION": "/no/such"},
        "K2_KAFKA_OPTION_SSL_CA_LOCATION='/no/such': no such file",
    ),
    "protocol": ({"K2_KAFKA_OPTION_SECURITY_PROTOCOL": "TLS"}, "K2_KAFKA_OPTION_SECURITY_PROTOCOL: Invalid value"),
    "mechanism": (
        {**SASL, "K2_KAFKA_OPTION_SASL_MECHANISM": "FOO"},
        "K2_KAFKA_OPTION_SASL_MECHANISM: Unsupported SASL mechanism: FOO",
    ),
    "no password": (
        {**SASL, "K2_KAFKA_OPTION_SASL_MECHANISM": "PLAIN"},
        "sasl.username and sasl.password must be set",
    ),
    "no PEM": ({**TLS, "K2_KAFKA_OPTION_SSL_KEY_PEM": "canary"}, "K2_KAFKA_OPTION_SSL_KEY_PEM: ssl.key.pem failed"),
    "no number": ({"K2_KAFKA_OPTION_SOCKET_TIMEOUT_MS": "soon"}, "K2_KAFKA_OPTION_SOCKET_TIMEOUT_MS: Invalid value"),
    "out of range": ({"K2_KAFKA_OPTION_SOCKET_TIMEOUT_MS": "1"}, "outside allowed range"),
    "a callback": ({"K2_KAFKA_OPTION_ERROR_CB": "print"}, "librdkafka has no option"),
    "longer than a message may wait": ({"K2_KAFKA_OPTION_LINGER_MS": "20000"}, "linger.ms"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_client_would_refuse_is_refused_before_it_runs(name: str) -> None:
    environment, expected = REFUSED[name]
    with pytest.raises(BadSettings) as caught:
        load_usable(environment)
    (problem,) = caught.value.problems
    assert expected in problem
    assert "canary" not in problem
    out = io.StringIO()
    assert cli.check(environment, as_json=False, listing=False, out=out) == 2
    assert out.getvalue() == problem + "\n"


def test_a_bundle_without_a_certificate_is_refused(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("no certificate")
    with pytest.raises(BadSettings, match="K2_BINANCE_CUSTOM_CA_BUNDLE"):
        load_usable({"K2_BINANCE_CUSTOM_CA_BUNDLE": str(bundle)})


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"K2_KAFKA_BOOTSTRAP_SERVERS": "a:9092, b:9093,[::1]:9094,c"},
        {"K2_KAFKA_DELIVERY": "at-least-once"},
        {**SASL, "K2_KAFKA_OPTION_SASL_MECHANISM": "PLAIN", "K2_KAFKA_OPTION_SASL_USERNAME": "u"}
        | {"K2_KAFKA_OPTION_SASL_PASSWORD": "p"},
        {"K2_KAFKA_OPTION_SSL_CA_LOCATION": "probe"},
        {"K2_BINANCE_WEBSOCKET_URL": "wss://gateway.example/binance"},
    ],
    ids=["defaults", "servers", "at-least-once", "sasl", "probe", "path"],
)
def test_what_works_is_accepted(environment: dict[str, str]) -> None:
    load_usable(environment)


@pytest.mark.parametrize("command", ["run", "check", "topics"])
@pytest.mark.parametrize("name", ["misspelt", "no CA file"])
def test_every_command_refuses_the_same(command: str, name: str) -> None:
    environment, expected = REFUSED[name]
    done = subprocess.run(
        [sys.executable, "-m", "ingest", command],
        env=environment, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 2
    assert expected in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
