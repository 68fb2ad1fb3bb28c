"""Each principal of docs/how_to/secure_kafka.md does its work with the ACLs of its table, and not without them."""

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.campaigns.brokers.environment import START
from tests.campaigns.brokers.rows import secured
from tests.campaigns.brokers.secure import SecureBroker, page_acls
from tests.campaigns.brokers.test_brokers import available
from tests.harness.processes import ROOT, inherited

ALLOWED = 60.0
"""Seconds within which a broker knows an ACL, on a busy machine."""
READER = """
import sys
from ingest.reader import Start, read
options = dict(one.split("=", 1) for one in sys.argv[4:])
records = read(sys.argv[1], start=Start.earliest(), follow=False, bootstrap_servers=sys.argv[2],
               schema_registry_url=sys.argv[3], options=options)
print(sum(1 for _ in records))
"""


class Principal:
    """A user of the broker, who runs one command."""

    def __init__(self, user: str, who: str, broker: SecureBroker, directory: Path) -> None:
        self.user, self.who, self.broker, self.directory = user, who, broker, directory
        broker.set_password(broker.password, user)

    def settings(self) -> dict[str, str]:
        """Those of the page, with this user."""
        own = self.broker.settings(self.directory / f"{self.user}.password")
        return {**own, "K2_KAFKA_OPTION_SASL_USERNAME": self.user}

    def options(self) -> dict[str, str]:
        """The same as options of librdkafka."""
        return {
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(self.broker.ca_file),
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": self.user,
            "sasl.password": self.broker.password,
        }

    def run(self, *command: str, settings: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run Python to the end."""
        return subprocess.run(
            [sys.executable, *command], cwd=ROOT, env={**inherited(), **(settings or {})}, capture_output=True,
            text=True, check=False, timeout=120,
        )  # fmt: skip

    def allowed(self, topic: str, *command: str, settings: Mapping[str, str] | None = None) -> str:
        """Run without rights, which must fail; then with those of the page until it succeeds. Returns the output."""
        refused = self.run(*command, settings=settings)
        assert refused.returncode != 0, refused.stdout
        assert "uthoriz" in refused.stdout + refused.stderr, "it fails for another reason"
        self.broker.allow(*page_acls(topic, self.who, self.user))
        deadline = time.monotonic() + ALLOWED
        while (done := self.run(*command, settings=settings)).returncode and time.monotonic() < deadline:
            time.sleep(1.0)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.mark.integration
@pytest.mark.timeout(600)
def test_each_principal_needs_what_its_table_says(tmp_path: Path) -> None:
    with available(), secured(tmp_path) as (site, broker, _, _):
        site.until(lambda: len(site.heads()) > 1, "trades", START)
        own = {**site.stack.settings(), **broker.settings(tmp_path / "password")}
        for command in (("check", "--connect"), ("positions", "show")):
            done = subprocess.run(
                [sys.executable, "-m", "ingest", *command], cwd=ROOT, env={**inherited(), **own}, capture_output=True,
                text=True, check=False, timeout=120,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr

        topics = Principal("k2-topics", "The topics", broker, tmp_path)
        settings = {**site.stack.settings(), **topics.settings(), "K2_KAFKA_TOPIC": "other"}
        made = ("-m", "ingest", "topics", "--replication-factor", "1", "--retention", "7d")
        topics.allowed("other", *made, settings=settings)
        altered = topics.run(*made[:-1], "30d", "--alter", settings=settings)
        assert altered.returncode == 0, altered.stdout + altered.stderr

        _, problems = site.conclude()
        assert problems == []
        topic, registry = site.stack.topic, site.stack.registry_url
        auditor = Principal("k2-audit", "The auditor", broker, tmp_path)
        options = [part for name, value in auditor.options().items() for part in ("--kafka-option", f"{name}={value}")]
        auditor.allowed(
            topic, "-m", "ingest", "audit", "--bootstrap-servers", broker.secured, "--topic", topic,
            "--schema-registry-url", registry, "--ledger", site.simulator.admin_url, "--timeout", "15", *options,
        )  # fmt: skip
        reader = Principal("k2-reader", "Readers", broker, tmp_path)
        given = [f"{name}={value}" for name, value in reader.options().items()]
        assert int(reader.allowed(topic, "-c", READER, topic, broker.secured, registry, *given)) > 0
