"""What a deployment has found out so far: everything that its next step needs, kept in the journal."""

from typing import Any

import msgspec

from ingest.decoding import decode_typed
from ingest_ops.common.verdict import Verdict


class GateResult(msgspec.Struct, frozen=True, kw_only=True):
    """One gate, judged once: the evidence and the answer."""

    gate: str
    title: str
    verdict: Verdict
    reason: str
    query: str
    """As sent, nothing left to fill in."""
    start: float
    end: float
    """Seconds since 1970."""
    value: float | None
    threshold: str
    unit: str = ""
    expected: int = 0
    """Samples that there should be."""
    found: int = 0
    samples: list[tuple[float, float]] = []
    """Raw ones, thinned to a few hundred."""
    low: float | None = None
    high: float | None = None
    """The 95 % interval of a comparison."""
    against: list[tuple[float, float]] = []
    """The predecessor's samples, where it is a comparison."""


class DeploymentState(msgspec.Struct, frozen=True, kw_only=True):
    """The journal's data. Times are seconds since 1970."""

    owner: str = ""
    """Whose run it is: ``airflow <dag id> <run id>``, or empty for the command line."""
    live: str = ""
    """The slot that writes when the deployment begins."""
    live_version: str = ""
    candidate: str = ""
    generation: int | None = None
    """Known before the hand-over; the hand-over must bring a greater one."""
    entered: float = 0.0
    """When the present state was entered."""
    resumed: float | None = None
    """When it was resumed in the present state after a time without a deployer: the state's limit restarts."""
    window_start: float | None = None
    """From when on the gates of the present state are judged."""
    baseline: tuple[float, float] | None = None
    """The window of the shadow that was judged last: the predecessor as the writer, for comparisons later."""
    symbols: list[str] = []
    """What the predecessor records, as it reported when the candidate was warm."""
    holds: int = 0
    decision: str = ""
    """``approved`` or ``rejected``, with ``decided_by``."""
    decided_by: str = ""
    cancelled_by: str = ""
    held_by: str = ""
    """Who holds it: it does not go beyond ``APPROVAL`` or ``RETIRE`` until it is resumed."""
    agent_request: str = ""
    """The id of the last request that was taken from the agent."""
    reason: str = ""
    """Why it did not go on."""
    failed_in: str = ""
    """The state in which that was found."""
    handover_began: float | None = None
    handover_call_seconds: float | None = None
    """The call that handed over, as the deployer saw it."""
    handover_seconds: float | None = None
    """As the new writer measured it."""
    gap_seconds: float | None = None
    """From the predecessor's last commit to the successor's first."""
    new_generation: int | None = None
    roll_back_began: float | None = None
    roll_back_seconds: float | None = None
    """From the decision until the predecessor writes again."""
    roll_back_gap_seconds: float | None = None
    candidate_stopped: float | None = None
    """When the candidate was stopped on the way back: the predecessor must have written since."""
    results: dict[str, list[GateResult]] = {}
    """By state: the gates as judged last."""
    shadow: dict[str, Any] | None = None
    """What the candidate had compared when the shadow was over, the first differences among it."""
    audit: dict[str, Any] | None = None
    """The result of the last audit."""

    def with_(self, **changes: Any) -> "DeploymentState":
        """A copy with some of it changed."""
        return msgspec.structs.replace(self, **changes)


def encode(facts: DeploymentState) -> str:
    """As JSON."""
    return msgspec.json.encode(facts).decode()


def decode(text: str) -> DeploymentState:
    """From JSON; a journal of a newer version may know more. Raises ``Undecodable``."""
    return decode_typed(text, DeploymentState)
