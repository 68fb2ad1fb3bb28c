"""The parameters of a deployment: checked once, then never changed. Times in seconds."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
SHARD_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,15}"
ShardName = Annotated[str, Meta(pattern=rf"\A{SHARD_NAME}\Z")]
Version = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]

MINUTES = ("watch", "validate", "hold")
"""Fields that people give in minutes, as ``<name>_minutes``."""


AUDIT = {"auto": None, "yes": True, "no": False}
"""As forms say it."""


class BadPlan(ValueError):
    """The configuration cannot be used: the text says which key, and what is allowed."""


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A deployment's configuration."""

    version: Version
    """What shall go live."""
    build_seconds: Seconds = 300.0
    standby_seconds: Seconds = 120.0
    """From the order to start until the candidate is warm."""
    watch_seconds: Seconds = 600.0
    approval: bool = False
    """Whether a person must agree before the hand-over."""
    approval_seconds: Seconds = 86_400.0
    handover_seconds: Seconds = 60.0
    grace_seconds: Annotated[float, Meta(ge=0, le=300)] = 30.0
    """After the hand-over, before judging begins: a scrape of either colour may still show the old state."""
    validate_seconds: Seconds = 900.0
    hold_seconds: Seconds = 300.0
    holds: Annotated[int, Meta(ge=0, le=10)] = 2
    """How often missing data is waited for."""
    roll_back_seconds: Seconds = 120.0
    scrape_seconds: Annotated[float, Meta(ge=0.1, le=60)] = 15.0
    """How often Prometheus scrapes the slots: the coverage is judged by it."""
    min_rate: Annotated[float, Meta(ge=0)] = 10.0
    """Messages per second."""
    max_memory_mb: Annotated[float, Meta(gt=0)] = 400.0
    min_compared: Annotated[int, Meta(ge=1)] = 6000
    """Records that must have been compared in SHADOW. In VALIDATE half of them must be; if it is shorter than SHADOW,
    fewer in proportion."""
    min_coverage: Annotated[float, Meta(gt=0, le=1)] = 0.95
    """Share of the samples that must be there (38 of 40)."""
    max_handover_seconds: Seconds = 10.0
    max_growth_mb: Annotated[float, Meta(gt=0)] = 8.0
    """How much memory may grow over the settled two thirds of a window, beyond the predecessor's growth."""
    max_gap_seconds: Seconds = 30.0
    """How long trades may be missing when the window of the validation ends."""
    compare_after: bool = True
    """Whether the predecessor compares what the candidate commits (no: it is of a version that cannot)."""
    audit: bool | None = None
    """Whether the independent auditor must find the topic clean; None: where one is configured."""
    requested_by: Annotated[str, Meta(max_length=128)] = ""
    shard: Annotated[str, Meta(pattern=rf"\A(?:{SHARD_NAME})?\Z")] = ""
    """Which shard of several it is deployed to; their targets in Prometheus have a label ``shard`` with it."""


def parse(conf: Mapping[str, Any]) -> Plan:
    """Check a configuration. Raises ``BadPlan``, also for a key that does not exist.

    ``watch_minutes``, ``validate_minutes`` and ``hold_minutes`` are the same in minutes; both at once are refused.
    """
    values = {key: value for key, value in conf.items() if value is not None}
    for name in MINUTES:
        key = f"{name}_minutes"
        if key not in values:
            continue
        minutes = values.pop(key)
        if f"{name}_seconds" in values:
            raise BadPlan(f"{key} and {name}_seconds say the same: give one of them")
        if isinstance(minutes, bool) or not isinstance(minutes, int | float):
            raise BadPlan(f"{key}={minutes!r}: allowed is a number")
        values[f"{name}_seconds"] = minutes * 60.0
    if isinstance(values.get("audit"), str):
        if values["audit"] not in AUDIT:
            raise BadPlan(f"audit={values['audit']!r}: allowed are {', '.join(AUDIT)}")
        values["audit"] = AUDIT[str(values["audit"])]
    known = {field.name for field in msgspec.structs.fields(Plan)}
    if unknown := sorted(set(values) - known):
        allowed = sorted(known | {f"{name}_minutes" for name in MINUTES})
        raise BadPlan(f"unknown: {', '.join(unknown)}; allowed are {', '.join(allowed)}")
    try:
        return msgspec.convert(values, Plan)
    except msgspec.ValidationError as error:
        raise BadPlan(str(error)) from error
