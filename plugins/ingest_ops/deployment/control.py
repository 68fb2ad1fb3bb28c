"""Client of a slot's control API: its status and the commands of a hand-over."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

import httpx2
import msgspec

from ingest.decoding import Undecodable, decode_typed
from ingest.http.answers import ask
from ingest.http.commands import PROCESS_HEADER
from ingest_ops.common.json_client import MOST_BYTES, JsonClient

ASK_SECONDS = 3.0
PROMOTE_SECONDS = 75.0
"""A promotion is given 60 s by the service itself."""


class ControlRefusal(Exception):
    """The slot will not: the text says why (409 and the like)."""


class ControlTrouble(Exception):
    """No answer, or not now. Whether a verb was carried out is to be looked up in the status."""


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What a slot says of itself."""

    role: str
    generation: int
    version: str = ""
    instance: str = ""
    topic: str = ""
    delivery: str = ""
    shard: dict[str, int] = {}
    symbols: dict[str, dict[str, Any]] = {}
    streams: dict[str, dict[str, Any]] = {}
    """What is recorded besides the trades, by the stream's name; each has its ``topic``."""
    last_commit_us: int | None = None
    shadow: dict[str, Any] | None = None
    """What it has compared, and the first records that differ."""
    snapshot_age_seconds: float = 0.0
    """A status is as old as the slot's last beat: up to a second, more while its loop hangs."""

    @property
    def writes(self) -> bool:
        """Whether it is the writer."""
        return self.role == "active"

    @property
    def warm(self) -> bool:
        """Whether it could become the writer at once."""
        return self.role in ("standby", "shadow")


class Control(Protocol):
    """What the deployer needs. Methods raise ``ControlRefusal`` or ``ControlTrouble``."""

    def status(self, control_url: str) -> ServiceStatus:
        """Who this is and whether it writes."""

    def ready(self, status_url: str) -> tuple[bool, str]:
        """What ``/health/ready`` says, and its reason."""

    def watch(self, control_url: str) -> None:
        """Compare with what the writer commits."""

    def promote(self, control_url: str, deployment_id: str, generation: int | None) -> ServiceStatus:
        """Become the writer; returns what it is now. Repeating it with the same id changes nothing."""

    def metrics(self, status_url: str) -> Mapping[str, float]:
        """Samples without labels, by name."""


class ControlClient(JsonClient):
    """Over HTTP."""

    REFUSAL, TROUBLE = ControlRefusal, ControlTrouble

    def __init__(self, token: str, *, transport: httpx2.BaseTransport | None = None) -> None:
        # A new connection each time: a slot that was replaced must not be reached over its predecessor's.
        self._headers = {"Authorization": f"Bearer {token}", "Connection": "close"}
        super().__init__(httpx2.Client(timeout=ASK_SECONDS, trust_env=False, transport=transport))

    def status(self, control_url: str) -> ServiceStatus:
        """See ``Control``."""
        data = self._ask("GET", f"{control_url}/control/status")
        try:
            return msgspec.convert(data, ServiceStatus)
        except msgspec.ValidationError as error:  # a starting instance has no role yet
            raise ControlTrouble(f"{control_url}: no role yet ({error})") from error

    def ready(self, status_url: str) -> tuple[bool, str]:
        """See ``Control``. Raises ``ControlTrouble``."""
        try:
            answer = ask(self._client, "GET", f"{status_url}/health/ready", most_bytes=MOST_BYTES)
            data = decode_typed(answer.content, dict[str, Any])
        except (httpx2.HTTPError, Undecodable) as error:
            raise ControlTrouble(f"{status_url}: {error!r}") from error
        return answer.status_code == 200, str(data.get("reason", ""))

    def watch(self, control_url: str) -> None:
        """See ``Control``."""
        self._command(control_url, "watch", {})

    def promote(self, control_url: str, deployment_id: str, generation: int | None) -> ServiceStatus:
        """See ``Control``."""
        body: dict[str, Any] = {"deployment_id": deployment_id}
        if generation is not None:
            body["generation"] = generation
        found = self._command(control_url, "promote", body, seconds=PROMOTE_SECONDS)
        try:
            return ServiceStatus(role=str(found["state"]), generation=int(found["generation"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ControlTrouble(f"{control_url}: promote answered {found!r}") from error

    def metrics(self, status_url: str) -> Mapping[str, float]:
        """See ``Control``. Raises ``ControlTrouble``."""
        try:
            answer = ask(self._client, "GET", f"{status_url}/metrics", most_bytes=MOST_BYTES)
            text = answer.raise_for_status().text
        except httpx2.HTTPError as error:
            raise ControlTrouble(f"{status_url}: {error!r}") from error
        lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in lines if "{" not in name}

    def _command(self, control_url: str, name: str, body: object, *, seconds: float = ASK_SECONDS) -> Any:
        """Send a command to the process that is there now: a copy of it does nothing at another one."""
        found = self._ask("GET", f"{control_url}/control/status")
        process = found.get("process") if isinstance(found, dict) else None
        meant = {PROCESS_HEADER: str(process)} if process else {}  # a version before this protocol tells none
        return self._ask("POST", f"{control_url}/control/{name}", body, seconds=seconds, headers=meant)

    def _ask(
        self,
        method: str,
        url: str,
        body: object | None = None,
        *,
        seconds: float = ASK_SECONDS,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Any:
        limits = httpx2.Timeout(seconds, connect=ASK_SECONDS)
        return self._request(method, url, body, seconds=limits, who=url, headers={**self._headers, **headers})
