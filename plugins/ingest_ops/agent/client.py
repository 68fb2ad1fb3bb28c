"""The agent as the deployer sees it."""

from types import TracebackType
from typing import Any, Protocol, Self

import httpx2
import msgspec

from ingest.http.commands import PROCESS_HEADER
from ingest_ops.agent.slots import AgentRefusal, AgentTrouble, ControlRequest, SlotStatus
from ingest_ops.common.json_client import JsonClient

ASK_SECONDS = 5.0
ACT_SECONDS = 60.0
"""A stop may take two drain times."""


class Agent(Protocol):
    """What the deployer needs. Methods raise ``AgentRefusal`` or ``AgentTrouble``."""

    def build(self, version: str) -> dict[str, str]:
        """Begin to build, or look how it stands: ``state`` is running, done or failed."""

    def start(self, slot: str, version: str) -> SlotStatus:
        """Run that version in the slot."""

    def stop(self, slot: str) -> SlotStatus:
        """Stop the slot."""

    def status(self, slot: str) -> SlotStatus:
        """How the slot stands."""

    def request(self) -> ControlRequest | None:
        """What a person asked last of the deployment."""


class AgentClient(JsonClient):
    """Over HTTP."""

    REFUSAL, TROUBLE = AgentRefusal, AgentTrouble

    def __init__(self, url: str, token: str, *, transport: httpx2.BaseTransport | None = None) -> None:
        # No proxies from the environment: the token goes to the agent and nowhere else.
        headers = {"Authorization": f"Bearer {token}"}
        super().__init__(
            httpx2.Client(base_url=url, headers=headers, timeout=ASK_SECONDS, trust_env=False, transport=transport)
        )

    def build(self, version: str) -> dict[str, str]:
        """See ``Agent``."""
        found: dict[str, str] = self._ask("POST", f"/builds/{version}")
        return found

    def start(self, slot: str, version: str) -> SlotStatus:
        """See ``Agent``."""
        return self._slot("POST", f"/slots/{slot}/start", {"version": version})

    def stop(self, slot: str) -> SlotStatus:
        """See ``Agent``."""
        return self._slot("POST", f"/slots/{slot}/stop")

    def status(self, slot: str) -> SlotStatus:
        """See ``Agent``."""
        return self._slot("GET", f"/slots/{slot}")

    def request(self) -> ControlRequest | None:
        """See ``Agent``."""
        found: ControlRequest | None = msgspec.convert(self._ask("GET", "/deployment"), ControlRequest | None)
        return found

    def versions(self) -> list[str]:
        """What can be started or built, the newest first."""
        return msgspec.convert(self._ask("GET", "/versions"), list[str])

    def ask(self, word: str, by: str) -> None:
        """Ask something of the deployment that is open: ``stop``, ``hold`` or ``resume``."""
        self._ask("POST", f"/deployment/{word}", {"by": by})

    def _slot(self, method: str, path: str, body: dict[str, str] | None = None) -> SlotStatus:
        return msgspec.convert(self._ask(method, path, body), SlotStatus)

    def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> Any:
        if method != "POST":
            return self._request(method, path, body, seconds=ASK_SECONDS, who="the agent")
        return self._request(method, path, body, seconds=ACT_SECONDS, who="the agent", headers=self._meant())

    def _meant(self) -> dict[str, str]:
        """The header that binds a command to the agent that runs now: a copy of it does nothing at a later one."""
        try:
            found = self._request("GET", "/process", None, seconds=ASK_SECONDS, who="the agent")
        except AgentRefusal:  # an agent of a version before this; or it refuses the command, too, and says why
            return {}
        return {PROCESS_HEADER: str(found["process"])} if isinstance(found, dict) and "process" in found else {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
