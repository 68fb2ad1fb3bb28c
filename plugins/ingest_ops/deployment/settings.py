"""Where the deployer finds its parts, read from the environment, and the deployer built from them."""

import getpass
import logging
import os
import re
import shlex
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import msgspec

from ingest.command.masking import refused
from ingest.core.errors import BadSettings
from ingest_ops.agent.client import AgentClient
from ingest_ops.common.audit_runner import AuditResult, run_audit
from ingest_ops.common.secret import cause, secret, token
from ingest_ops.deployment import report
from ingest_ops.deployment.audit_trail import AuditTrail
from ingest_ops.deployment.control import ControlClient
from ingest_ops.deployment.deployer import Deployer
from ingest_ops.deployment.gate_windows import Ports
from ingest_ops.deployment.journal import LEASE_SECONDS, Journal, Record
from ingest_ops.deployment.prometheus import Prometheus
from ingest_ops.deployment.steps import Steps
from ingest_ops.render.addresses import Addresses

log = logging.getLogger(__name__)

PREFIX = "K2_DEPLOY_"
AUDIT_SECONDS = 3600.0


class DeploySettings(msgspec.Struct, frozen=True, kw_only=True):
    """The environment, checked. Names are ``K2_DEPLOY_`` and the field's in capitals, but for the two tokens."""

    journal_url: str = "sqlite:///reports/deployments/journal.db"
    """SQLAlchemy's; PostgreSQL where more than one machine deploys."""
    prometheus_url: str = "http://localhost:9090"
    """What the gates ask; it scrapes both slots and the agent."""
    prometheus_token_file: str = ""
    """A file with a bearer token, where Prometheus asks for one; read for each request."""
    prometheus_ca_file: str = ""
    """PEM bundle to verify Prometheus by; without it certifi's. Verification cannot be switched off."""
    agent_url: str = "http://localhost:9099"
    fleet_file: str = ""
    """JSON file with the name and the agent of each shard, the canary first. Empty: one shard, with the agent above."""
    reports: str = "reports"
    """Folder of reports and trails."""
    audit_command: str = ""
    """The auditor and its options, as on a command line; ``--json FILE`` is added. Empty: no audit."""
    lease_seconds: float = LEASE_SECONDS
    grafana_url: str = ""
    """Public base address of Grafana, for links in reports."""
    docs_url: str = ""
    """Public address of the folder ``docs``, for links in reports."""
    agent_token: str = ""
    control_token: str = ""


def load(environment: Mapping[str, str]) -> DeploySettings:
    """Read the settings. Raises ``BadSettings`` with one line for each problem."""
    known = {PREFIX + field.name.upper(): field.name for field in msgspec.structs.fields(DeploySettings)}
    values: dict[str, str | float] = {}
    problems: list[str] = []
    for key in sorted(environment):
        if not key.startswith(PREFIX):
            continue
        name = known.get(key)
        if name is None or name.endswith("_token"):
            problems.append(f"{key}: unknown setting")
        elif environment[key]:
            values[name] = environment[key]
    for key, name in (("K2_AGENT_TOKEN", "agent_token"), ("K2_CONTROL_TOKEN", "control_token")):
        try:
            values[name] = secret(environment, key)
        except ValueError as error:
            problems.append(str(error))
    try:
        settings = msgspec.convert(values, DeploySettings, strict=False)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:  # the latter: bytes that are no text
        where = re.search(r"\$\.(\w+)", str(error))
        name = PREFIX + where[1].upper() if where else f"{PREFIX}..."
        raise BadSettings([*problems, f"{name}: {error}"]) from error
    problems += [
        f"{PREFIX}{name.upper()}={refused(url)!r}: allowed is http(s)://host[:port]"
        for name, url in (("prometheus_url", settings.prometheus_url), ("agent_url", settings.agent_url))
        if not is_address(url)
    ]
    problems += _unusable_files(settings)
    if problems:
        raise BadSettings(problems)
    return settings


def _unusable_files(settings: DeploySettings) -> Iterator[str]:
    """A line for each file of the connection to Prometheus that cannot be used."""
    tries: tuple[tuple[str, str, Callable[[str], object]], ...] = (
        ("PROMETHEUS_TOKEN_FILE", settings.prometheus_token_file, lambda path: token(Path(path))),
        ("PROMETHEUS_CA_FILE", settings.prometheus_ca_file, lambda path: ssl.create_default_context(cafile=path)),
    )
    for name, path, use in tries:
        try:
            if path:
                use(path)
        except OSError as error:  # SSLError among them
            yield f"{PREFIX}{name}={refused(path)!r}: cannot be used: {cause(error)}"


def is_address(url: str) -> bool:
    """Whether it is http(s)://host[:port]."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that are none
        return False


def actor(kind: str = "") -> str:
    """The name under which this process acts: unique at any time."""
    return kind or f"{getpass.getuser()}@{socket.gethostname()}:{os.getpid()}"


def now() -> float:
    """Seconds since 1970."""
    return time.time_ns() / 1e9


class DeployerContext:
    """The deployer with its clients and its journal, while the context is open."""

    def __init__(self, settings: DeploySettings, who: str, shard: str = "") -> None:
        """``shard``: its name, where ``settings`` has the agent of one of several."""
        # A line for each look would bury what happens.
        logging.getLogger("httpx2").setLevel(logging.WARNING)
        self.settings = settings
        self.shard = shard
        self.reports = Path(settings.reports)
        folder = self.reports / report.FOLDER
        if settings.journal_url.startswith("sqlite:///"):
            with suppress(FileExistsError):
                Path(settings.journal_url.removeprefix("sqlite:///")).parent.mkdir(parents=True)
        self.journal = Journal(settings.journal_url, now)
        self.agent = AgentClient(settings.agent_url, settings.agent_token)
        self.control = ControlClient(settings.control_token)
        self.sleep = time.sleep
        self.queries = Prometheus(
            settings.prometheus_url,
            ca_file=Path(settings.prometheus_ca_file) if settings.prometheus_ca_file else None,
            token_file=Path(settings.prometheus_token_file) if settings.prometheus_token_file else None,
        )
        command = shlex.split(settings.audit_command)
        if command and command[0] == "python":
            command[0] = sys.executable

        def audit(record: Record) -> AuditResult:
            return run_audit(command, folder / f"{record.id}.audit-figures", timeout=AUDIT_SECONDS)

        def finished(record: Record, trail: AuditTrail) -> None:
            addresses = Addresses(settings.grafana_url.rstrip("/"), settings.docs_url.rstrip("/"))
            report.write(self.reports, record, trail, generated_at=now(), addresses=addresses)

        def moved(record: Record, trail: AuditTrail) -> None:
            try:
                finished(record, trail)
            except OSError as error:  # the deployment goes on; its last report is written again
                log.warning("the report so far cannot be written", extra={"id": record.id, "error": str(error)})

        self.steps = Steps(Ports(self.agent, self.control, self.queries, now, audit if command else None))
        self.deployer = Deployer(
            self.journal,
            self.steps,
            trail=lambda name: AuditTrail(folder / f"{name}.trail.jsonl"),
            clock=now,
            sleep=time.sleep,
            actor=who,
            shard=shard,
            lease_seconds=settings.lease_seconds,
            audit=audit if command else None,
            finished=finished,
            moved=moved,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.agent.close()
        self.control.close()
        self.journal.close()
