"""What is typed into the form of each DAG: values that are refused, and values that are taken."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.harness.airflow_pages import Value

TIMES, GATES, MISSING = "Times", "Gates", "Where data is missing"


@dataclass(frozen=True)
class Form:
    """One form. ``bad`` are values that are refused with ``refusal``; ``good`` are taken, and become ``conf``."""

    good: Mapping[str, Value] = field(default_factory=dict)
    conf: Mapping[str, Any] = field(default_factory=dict)
    bad: Mapping[str, Value] = field(default_factory=dict)
    refusal: str = ""
    sections: Mapping[str, str] = field(default_factory=dict)
    incomplete: tuple[str, ...] = ()
    """Fields without which the form cannot be sent."""


def _days(names: tuple[str, ...], others: Mapping[str, tuple[Value, Any]]) -> Form:
    return Form(
        bad={names[-1]: "22.01.2026"},
        refusal=f"param {names[-1]}: '22.01.2026' does not match",
        good={**dict.fromkeys(names, "2026-01-22"), **{name: typed for name, (typed, _) in others.items()}},
        conf={**dict.fromkeys(names, "2026-01-22"), **{name: means for name, (_, means) in others.items()}},
        incomplete=("days",) if "days" in others else (),
    )


def _soak(plan: str) -> Form:
    return Form(
        bad={"selector": "slot=green"},
        refusal="Invalid input for param selector: 'slot=green'",
        good={"plan": plan, "selector": 'slot="green"', "previous_selector": 'slot="blue"', "trial_seconds": "120"},
        conf={"plan": plan, "selector": 'slot="green"', "previous_selector": 'slot="blue"', "trial_seconds": 120},
    )


_DEPLOYMENT_NUMBERS = {
    TIMES: {"watch_minutes": "3", "validate_minutes": "4.5", "grace_seconds": "12", "scrape_seconds": "5"},
    GATES: {
        "min_rate": "1", "max_memory_mb": "300", "max_growth_mb": "7.5", "max_gap_seconds": "20", "min_compared": "50",
    },
    MISSING: {"min_coverage": "0.9", "hold_minutes": "2", "holds": "1"},
}  # fmt: skip
_NUMBERS = {name: value for section in _DEPLOYMENT_NUMBERS.values() for name, value in section.items()}

FORMS: dict[str, Form] = {
    "deploy_blue_green": Form(
        bad={"version": "bad version!"},
        refusal="Invalid input for param version: 'bad version!'",
        good={"version": "v9.9-from-the-form", "approval": True, "audit": "no", "compare_after": False, **_NUMBERS},
        conf={
            "version": "v9.9-from-the-form", "approval": True, "audit": "no", "compare_after": False,
            **{name: float(value) for name, value in _NUMBERS.items()},
        },
        sections={
            "compare_after": GATES,
            **{name: section for section, names in _DEPLOYMENT_NUMBERS.items() for name in names},
        },
        incomplete=("version", "watch_minutes"),
    ),
    "roll_back": Form(
        bad={"version": "../v1"},
        refusal="Invalid input for param version: '../v1'",
        good={"version": "v1", "audit": False},
        conf={"version": "v1", "audit": False},
    ),
    # One of three words: there is nothing else that could be typed.
    "control_deployment": Form(good={"word": "resume"}, conf={"word": "resume"}),
    "soak_1h": _soak("3min"),
    "soak_24h": _soak("12h"),
    "daily_validation": _days(("end",), {"days": ("3", 3), "refresh": (True, True)}),
    "daily_archive": _days(("first", "last"), {}),
    "reconcile": Form(),
}  # fmt: skip
