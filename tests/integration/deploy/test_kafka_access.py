"""Kafka's outer listener as the compose file sets it up: a real broker with that file's properties, and its users."""

import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from confluent_kafka import KafkaException, Producer

from ingest.core.trade import Trade as Traded
from ingest.kafka.encoding import EARLIEST_US, TradeEncoder
from ingest.kafka.schemas import trade_schema
from ingest.reader import ReaderError, Trade, read
from tests.harness.kafka import KafkaBroker, KafkaUnavailable, free_ports
from tests.harness.processes import ROOT, inherited
from tests.harness.registry import Registry

TOPIC = "market.crypto.trades.binance"
FROM_COMPOSE = re.compile(
    r"listener\.security\.protocol\.map|inter\.broker\.listener\.name|controller\.listener\.names|sasl\..*|super\.users|"
    r"authorizer\..*|listener\.name\..*"
)
USERS = ("writer", "auditor", "reader")
SECONDS = 60.0
"""Within which a broker knows a password or an ACL, on a busy machine."""


def compose_properties() -> dict[str, str]:
    """Who may connect how, as the compose file's variables say it to the image of Kafka."""
    environment = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]["kafka"]["environment"]
    points = {1: ".", 2: "_", 3: "-"}
    named = {
        re.sub("_+", lambda found: points[len(found[0])], name.removeprefix("KAFKA_").lower()): str(value)
        for name, value in environment.items()
    }
    found = {name: value for name, value in named.items() if FROM_COMPOSE.fullmatch(name)}
    assert "listener.name.host.scram-sha-512.sasl.jaas.config" in found
    return found


class Stage:
    """The broker, and what a client of each user is given."""

    def __init__(self, broker: KafkaBroker, outside: str, folder: Path) -> None:
        self.broker, self.outside, self.folder = broker, outside, folder
        self.passwords: dict[str, str] = {}

    def set_up(self, **passwords: str) -> None:
        """Run the script of the service ``kafka-access`` with these passwords."""
        for user in USERS:
            (self.folder / f"kafka_{user}_password").write_text(passwords.get(user, ""))
        self.passwords = passwords
        done = subprocess.run(
            [
                sys.executable, str(ROOT / "deploy/kafka/access.py"), "--secrets", str(self.folder), "--topic", TOPIC,
                "--bootstrap-servers", self.broker.bootstrap_servers,
            ],
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert not any(one in done.stdout + done.stderr for one in passwords.values())

    def options(self, user: str, password: str | None = None) -> dict[str, str]:
        """A client's options of librdkafka."""
        return {
            "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": user,
            "sasl.password": self.passwords[user] if password is None else password,
        }  # fmt: skip

    def ingest(self, *words: str, user: str) -> subprocess.CompletedProcess[str]:
        """A command of the service as a user, from outside."""
        (self.folder / "own").write_text(self.passwords[user])
        settings = {
            "K2_KAFKA_BOOTSTRAP_SERVERS": self.outside, "K2_KAFKA_TOPIC": TOPIC,
            "K2_KAFKA_OPTION_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "K2_KAFKA_OPTION_SASL_MECHANISM": "SCRAM-SHA-512",
            "K2_KAFKA_OPTION_SASL_USERNAME": user, "K2_KAFKA_OPTION_SASL_PASSWORD_FILE": str(self.folder / "own"),
        }  # fmt: skip
        return subprocess.run(
            [sys.executable, "-m", "ingest", *words], cwd=ROOT, env={**inherited(), **settings}, capture_output=True,
            text=True, check=False, timeout=180,
        )  # fmt: skip

    def write(self, topic: str, value: bytes, user: str, password: str | None = None) -> None:
        """One record in a transaction. Raises ``KafkaException``."""
        options = {"bootstrap.servers": self.outside, "log_level": 0, "transactional.id": f"k2-ingest-{TOPIC}-0"}
        producer = Producer({**options, **self.options(user, password)})
        producer.init_transactions(8)
        producer.begin_transaction()
        failed: list[object] = []
        producer.produce(topic, value, b"BTCUSDT", on_delivery=lambda error, _: failed.append(error))
        producer.flush(20)
        if failed != [None]:
            raise KafkaException(*failed)
        producer.commit_transaction(20)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("access")
    inside, outside, controller = free_ports(3)
    own = f"INTERNAL://127.0.0.1:{inside},HOST://127.0.0.1:{outside}"
    properties = compose_properties() | {
        "listeners": f"{own},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": own,
    }
    broker = KafkaBroker(folder / "kafka", port=inside, voters={1: controller}, heap="384m", properties=properties)
    try:
        with broker:
            yield Stage(broker, f"127.0.0.1:{outside}", folder)
    except KafkaUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def until(do: Callable[[], object]) -> None:
    """Repeat until it raises nothing: the broker applies users and rights a little later."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            do()
        except (KafkaException, ReaderError, AssertionError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


@pytest.mark.integration
@pytest.mark.timeout(600)
def test_the_outer_listener_serves_each_user_within_its_rights_and_no_other_client(stage: Stage) -> None:
    stage.set_up()  # no user exists
    with pytest.raises(KafkaException):
        stage.write(TOPIC, b"junk", "writer", password="")
    stage.set_up(**{user: f"canary-{user}-{secrets.token_hex(8)}" for user in USERS})

    def make_topics() -> None:
        done = stage.ingest("topics", "--replication-factor", "1", user="writer")
        assert done.returncode == 0, done.stdout + done.stderr

    until(make_topics)
    with Registry() as registry:
        schema_id = registry.handle("POST", f"/subjects/{TOPIC}-value/versions", {"schema": trade_schema()})["id"]
        trade = Traded("BTCUSDT", 7, "1.00000000", "2.00000000", EARLIEST_US, buyer_is_maker=False)
        value = TradeEncoder(schema_id, {"BTCUSDT": ("BTC", "USDT")}).encode(trade, EARLIEST_US)
        until(lambda: stage.write(TOPIC, value, "writer"))

        def trades(options: dict[str, str]) -> int:
            found = read(
                TOPIC, bootstrap_servers=stage.outside, schema_registry_url=registry.url, options=options, timeout=5.0
            )
            return sum(isinstance(one, Trade) for one in found)

        for user in ("reader", "auditor"):
            until(lambda user=user: trades(stage.options(user)))  # type: ignore[misc]
            for topic in (TOPIC, f"{TOPIC}.positions"):
                with pytest.raises(KafkaException):
                    stage.write(topic, b"junk", user)
            altered = stage.ingest("topics", "--replication-factor", "1", "--retention", "90d", "--alter", user=user)
            assert altered.returncode != 0, altered.stdout
        for options in ({}, stage.options("reader", "wrong"), stage.options("stranger", "wrong")):
            with pytest.raises(ReaderError):
                trades(options)

        old = stage.options("reader")
        stage.set_up(writer=stage.passwords["writer"])  # the others' files are empty now

        def is_gone() -> None:
            with pytest.raises(ReaderError):
                trades(old)

        until(is_gone)
        until(lambda: stage.write(TOPIC, value, "writer"))
