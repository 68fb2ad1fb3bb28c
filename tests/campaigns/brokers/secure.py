"""A broker with TLS, SCRAM and ACLs, set up as docs/how_to/secure_kafka.md says: the page is read, not repeated."""

import re
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from ingest.simulator.tls import server_context
from tests.harness.kafka import KafkaBroker, free_ports
from tests.harness.processes import ROOT

PAGE = ROOT / "docs" / "how_to" / "secure_kafka.md"
USER = "k2-ingest"
REAUTHENTICATION_MS = 4000
"""So often the broker asks a connection for its credentials again: a changed password is noticed without a restart."""
_MODULE = "org.apache.kafka.common.security.scram.ScramLoginModule"
REFUSED = "Failed authentication with"
_KINDS = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional id": ResourceType.TRANSACTIONAL_ID,
}
_KIND = re.compile(r"^\| (topic|group|transactional id) `([^`]+)`[^|]*\| ([A-Za-z, ]+?)(?: \([^|]*)? \|$", re.MULTILINE)


def page_settings() -> dict[str, str]:
    """The settings of the page's first example."""
    block = re.search(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert block is not None
    return dict(line.split("=", 1) for line in block[1].splitlines() if line)


def page_acls(topic: str, who: str = "The service", user: str = USER) -> list[AclBinding]:
    """The ACLs of one table of the page, for another topic and user."""
    part = PAGE.read_text().partition(f"\n### {who}\n")[2].partition("\n##")[0]
    rows = _KIND.findall(part)
    assert rows, f"{PAGE.name} has no table for {who!r}"
    found = []
    for kind, resource, operations in rows:
        name = resource.replace("market.crypto.trades.binance", topic).replace("<shard>", "0")
        pattern = ResourcePatternType.PREFIXED if name.endswith("*") else ResourcePatternType.LITERAL
        found += [
            AclBinding(
                _KINDS[kind], name.rstrip("*"), pattern, f"User:{user}", "*",
                AclOperation[_snake(operation.strip())], AclPermissionType.ALLOW,
            )
            for operation in operations.split(",")
        ]  # fmt: skip
    return found


def _snake(operation: str) -> str:
    """``DescribeConfigs`` as the library names it."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).upper()


class SecureBroker(KafkaBroker):
    """Clients come by SASL_SSL and may do what ACLs allow; the tests' own come by a plain listener as super user."""

    def __init__(self, directory: Path, *, password: str) -> None:
        port, secured, controller = free_ports(3)
        server_context(directory, "127.0.0.1")
        own = f"PLAINTEXT://127.0.0.1:{port}"
        self.secured = f"127.0.0.1:{secured}"
        self.ca_file = directory / "ca.pem"
        self.password = password
        super().__init__(
            directory,
            port=port,
            voters={1: controller},
            heap="384m",
            log_levels={"org.apache.kafka.common.network.Selector": "INFO"},  # each refused attempt, with its time
            properties={
                "listeners": f"{own},SECURED://{self.secured},CONTROLLER://127.0.0.1:{controller}",
                "advertised.listeners": f"{own},SECURED://{self.secured}",
                "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SECURED:SASL_SSL",
                "listener.name.secured.ssl.keystore.type": "PEM",
                "listener.name.secured.ssl.keystore.location": str(directory / "server.pem"),
                "sasl.enabled.mechanisms": "SCRAM-SHA-512",
                "listener.name.secured.scram-sha-512.sasl.jaas.config": f"{_MODULE} required;",
                "connections.max.reauth.ms": str(REAUTHENTICATION_MS),
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS",
            },
        )

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})

    def set_password(self, password: str, user: str = USER) -> None:
        """Give a user this password, and no other."""
        scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        upsertion = UserScramCredentialUpsertion(user, scram, password.encode())
        admin = self._admin()
        for future in admin.alter_user_scram_credentials([upsertion]).values():
            future.result(30)

    def allow(self, *bindings: AclBinding) -> None:
        """Add ACLs."""
        admin = self._admin()
        for future in admin.create_acls(list(bindings)).values():
            future.result(30)

    def withdraw(self, *bindings: AclBinding) -> None:
        """Take ACLs back."""
        admin = self._admin()
        filters = [
            AclBindingFilter(
                one.restype, one.name, one.resource_pattern_type, one.principal, one.host, one.operation,
                one.permission_type,
            )
            for one in bindings
        ]  # fmt: skip
        for future in admin.delete_acls(filters).values():
            assert future.result(30), "there was no such ACL"

    def refusals(self) -> int:
        """Attempts to sign in that the broker has refused so far."""
        return self.log.read_text(errors="replace").count(REFUSED)

    def settings(self, password_file: Path) -> Mapping[str, str]:
        """The page's settings with this broker's address, CA and password."""
        settings = page_settings()
        del settings["K2_KAFKA_SCHEMA_REGISTRY_URL"]
        del settings["K2_KAFKA_SCHEMA_REGISTRY_USER"], settings["K2_KAFKA_SCHEMA_REGISTRY_PASSWORD_FILE"]
        password_file.write_text(f"{self.password}\n")
        return settings | {
            "K2_KAFKA_BOOTSTRAP_SERVERS": self.secured,
            "K2_KAFKA_OPTION_SSL_CA_LOCATION": str(self.ca_file),
            "K2_KAFKA_OPTION_SASL_PASSWORD_FILE": str(password_file),
        }
