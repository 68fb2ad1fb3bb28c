"""Users and rights of the outer listener of the compose stack's Kafka, set over the inner one.

A user exists if its password file (``/run/secrets/kafka_<user>_password``) has content, and is removed otherwise.
Rights are those of docs/how_to/secure_kafka.md for each topic; others of these users are taken back.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

from confluent_kafka import KafkaException
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
    UserScramCredentialAlteration,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

SECRETS = Path("/run/secrets")
SECONDS = 30.0
TRIES = 10
ITERATIONS = 8192

Right = tuple[ResourceType, str, ResourcePatternType, str]
"""Kind, name (``{topic}`` stands for the trades topic), pattern, operation."""


def _rights(kind: ResourceType, name: str, operations: str) -> list[Right]:
    pattern = ResourcePatternType.PREFIXED if len(name) > 1 and name.endswith("*") else ResourcePatternType.LITERAL
    plain = name.removesuffix("*") or "*"
    return [(kind, plain, pattern, operation) for operation in operations.split()]


_TOPIC, _GROUP, _ID = ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID
_READ = [*_rights(_TOPIC, "{topic}", "READ DESCRIBE"), *_rights(_TOPIC, "{topic}.positions", "READ DESCRIBE")]
USERS: dict[str, list[Right]] = {
    "writer": [
        *_rights(_TOPIC, "{topic}*", "CREATE DESCRIBE DESCRIBE_CONFIGS ALTER_CONFIGS"),
        *_rights(_TOPIC, "{topic}", "WRITE READ"),
        *_rights(_TOPIC, "{topic}.positions", "WRITE READ ALTER"),
        *_rights(_TOPIC, "{topic}.voids", "WRITE READ"),
        *_rights(_TOPIC, "{topic}.dlq", "WRITE"),
        *_rights(_ID, "k2-ingest-{topic}-*", "WRITE DESCRIBE"),
        *_rights(_GROUP, "k2-ingest-{topic}-*", "READ"),
    ],
    "auditor": [*_READ, *_rights(_GROUP, "k2-audit", "DESCRIBE")],
    "reader": [*_READ, *_rights(_TOPIC, "{topic}.voids", "READ DESCRIBE"), *_rights(_GROUP, "*", "READ DESCRIBE")],
}
"""What each user may do: the service with its topics, the auditor, and every client that only reads."""


def bindings(user: str, topics: list[str]) -> set[AclBinding]:
    """The ACLs of a user."""
    return {
        AclBinding(
            kind, name.replace("{topic}", topic), pattern, f"User:{user}", "*", AclOperation[operation],
            AclPermissionType.ALLOW,
        )
        for kind, name, pattern, operation in USERS[user]
        for topic in topics
    }  # fmt: skip


def password(user: str, secrets: Path) -> str:
    """A user's password; empty where the user is not wanted."""
    path = secrets / f"kafka_{user}_password"
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def set_users(admin: AdminClient, secrets: Path) -> Iterator[str]:
    """Create, change or remove the users; yields one line for each."""
    asked: dict[str, Future[object]] = admin.describe_user_scram_credentials(list(USERS))  # type: ignore[assignment]
    known = {name for name, future in asked.items() if _exists(future)}
    changes: list[UserScramCredentialAlteration] = []
    for user in USERS:
        given = password(user, secrets)
        if given:
            info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
            changes.append(UserScramCredentialUpsertion(user, info, given.encode()))
            yield f"user {user}: has a password"
        elif user in known:
            changes.append(UserScramCredentialDeletion(user, ScramMechanism.SCRAM_SHA_512))
            yield f"user {user}: removed"
        else:
            yield f"user {user}: has none; `make secrets` makes one"
    if changes:
        for future in admin.alter_user_scram_credentials(changes).values():
            future.result(SECONDS)


def _exists(future: Future[object]) -> bool:
    try:
        future.result(SECONDS)
    except KafkaException:  # there is no such user
        return False
    return True


def set_rights(admin: AdminClient, topics: list[str]) -> str:
    """Grant what is missing and take back what is no longer stated; returns what was done."""
    granted = revoked = 0
    for user in USERS:
        wanted = bindings(user, topics)
        mine = AclBindingFilter(
            ResourceType.ANY, None, ResourcePatternType.ANY, f"User:{user}", None,  # type: ignore[arg-type]
            AclOperation.ANY, AclPermissionType.ANY,
        )  # fmt: skip
        found = set(admin.describe_acls(mine).result(SECONDS))
        if missing := wanted - found:
            for future in admin.create_acls(list(missing)).values():
                future.result(SECONDS)
        for one in found - wanted:
            exact = AclBindingFilter(
                one.restype, one.name, one.resource_pattern_type, one.principal, one.host, one.operation,
                one.permission_type,
            )  # fmt: skip
            for future in admin.delete_acls([exact]).values():
                future.result(SECONDS)
        granted, revoked = granted + len(missing), revoked + len(found - wanted)
    return f"rights: {granted} granted, {revoked} taken back"


def main(words: list[str]) -> int:
    """Set users and rights; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap-servers", required=True)
    parser.add_argument("--topic", action="append", required=True)
    parser.add_argument("--secrets", type=Path, default=SECRETS)
    options = parser.parse_args(words)
    admin = AdminClient({"bootstrap.servers": options.bootstrap_servers, "log_level": 0})
    for left in range(TRIES - 1, -1, -1):
        try:
            for line in set_users(admin, options.secrets):
                sys.stdout.write(f"{line}\n")
            sys.stdout.write(f"{set_rights(admin, list(dict.fromkeys(options.topic)))}\n")
        except KafkaException as error:
            sys.stderr.write(f"{error.args[0].str()}\n")
            if not left:
                return 1
            time.sleep(3.0)
        else:
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
