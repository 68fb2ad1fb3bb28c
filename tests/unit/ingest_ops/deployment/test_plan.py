import pytest

from ingest_ops.deployment.plan import BadPlan, parse


def test_the_defaults_are_those_of_the_design() -> None:
    plan = parse({"version": "v2.0-stable"})
    assert (plan.build_seconds, plan.standby_seconds, plan.watch_seconds) == (300, 120, 600)
    assert (plan.handover_seconds, plan.validate_seconds, plan.roll_back_seconds) == (60, 900, 120)
    assert (plan.hold_seconds, plan.holds) == (300, 2)


def test_minutes_are_seconds() -> None:
    plan = parse({"version": "v2", "watch_minutes": 0.5, "validate_minutes": 2, "hold_minutes": 1})
    assert (plan.watch_seconds, plan.validate_seconds, plan.hold_seconds) == (30, 120, 60)


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({}, "version"),
        ({"version": "v2", "watch_minuts": 5}, "unknown: watch_minuts"),
        ({"version": "v2", "__class__": 1}, "unknown: __class__"),
        ({"version": "../etc"}, "version"),
        ({"version": "v2\n"}, "version"),
        ({"version": "-rf"}, "version"),
        ({"version": "v2", "watch_minutes": "5"}, "watch_minutes"),
        ({"version": "v2", "watch_minutes": True}, "watch_minutes"),
        ({"version": "v2", "watch_minutes": 1, "watch_seconds": 60}, "give one"),
        ({"version": "v2", "watch_minutes": 0}, "watch_seconds"),
        ({"version": "v2", "min_coverage": 1.5}, "min_coverage"),
        ({"version": "v2", "approval": "yes"}, "approval"),
        ({"version": "v2", "audit": "perhaps"}, "allowed are auto, yes, no"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(conf: dict[str, object], said: str) -> None:
    with pytest.raises(BadPlan, match=said):
        parse(conf)


def test_an_empty_field_of_the_form_is_the_default() -> None:
    assert parse({"version": "v2", "max_memory_mb": None}).max_memory_mb == 400


@pytest.mark.parametrize(("said", "audit"), [("auto", None), ("yes", True), ("no", False), (True, True), (None, None)])
def test_the_audit_as_a_form_says_it(said: object, audit: bool | None) -> None:
    assert parse({"version": "v2", "audit": said}).audit is audit
