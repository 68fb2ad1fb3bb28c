"""The form of a deployment, in sections. Its defaults are the plan's."""

from typing import Any

from airflow.sdk import Param

from ingest_ops.deployment.versions import known

VERSION = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
TIMES, GATES, MISSING = "Times", "Gates", "Where data is missing"


def form() -> dict[str, Any]:
    """The parameters. The versions that are offered are those that the agent named last; any other may be typed."""
    return {
        "version": Param(
            type="string",
            pattern=VERSION,
            examples=known() or ["v2.0-stable"],
            title="Version",
            description="A tag of the image, e.g. v2.0-stable: letters, digits and . _ -, at most 64 of them.",
        ),
        "approval": Param(default=False, type="boolean", title="A person must approve the cut-over"),
        "audit": Param(
            "auto",
            enum=["auto", "yes", "no"],
            title="Audit",
            description="auto: where an auditor is configured. yes: refuse to deploy without one.",
        ),
        "watch_minutes": _number(10.0, "Watch, minutes", TIMES, exclusiveMinimum=0, maximum=1440),
        "validate_minutes": _number(15.0, "Validate, minutes", TIMES, exclusiveMinimum=0, maximum=1440),
        "grace_seconds": _number(30.0, "After the cut-over, seconds", TIMES, minimum=0, maximum=300),
        "scrape_seconds": _number(15.0, "Scrape interval, seconds", TIMES, minimum=0.1, maximum=60),
        "min_rate": _number(10.0, "Least messages per second", GATES, minimum=0),
        "max_memory_mb": _number(400.0, "Memory below, MB", GATES, exclusiveMinimum=0),
        "max_growth_mb": _number(8.0, "Memory growth in a window, MB", GATES, exclusiveMinimum=0),
        "max_gap_seconds": _number(30.0, "Trades missing at the end for at most, seconds", GATES, exclusiveMinimum=0),
        "min_compared": Param(
            6000,
            type="integer",
            minimum=1,
            title="Least records compared in the shadow",
            description="After the hand-over half of them; if Validate is shorter than Watch, fewer in proportion.",
            section=GATES,
        ),
        "compare_after": Param(
            default=True,
            type="boolean",
            title="The predecessor compares what the new version commits",
            description="Off only where the predecessor is of a version that cannot.",
            section=GATES,
        ),
        "min_coverage": _number(0.95, "Least share of samples", MISSING, exclusiveMinimum=0, maximum=1),
        "hold_minutes": _number(5.0, "Wait, minutes", MISSING, exclusiveMinimum=0),
        "holds": Param(2, type="integer", minimum=0, maximum=10, title="How often to wait", section=MISSING),
    }


def _number(default: float, title: str, section: str, **limits: Any) -> Param:
    return Param(default, type="number", title=title, section=section, **limits)
