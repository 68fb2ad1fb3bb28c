"""The rules as Prometheus's own tool sees them: each alert fires, does not fire, and behaves as said without data."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.deploy.cases import BLUE, CASES, Case
from tests.integration.deploy.rules import (
    BY_NAME,
    MINUTES_GONE,
    NAMES,
    Series,
    check,
    expanded,
    gone,
    promtool_test,
    restarted,
    steps,
)

KINDS = frozenset(
    {"no data", "fires", "does not fire", "target gone", "flapping", "restart", "restart while it fires"}
    | {"some scrapes fail"}
)
"""What is tried of each alert."""
EXCEPTIONS = {
    ("Watchdog", kind): "it fires always, whatever there is" for kind in KINDS - {"no data"}
} | {
    (name, "some scrapes fail"): "up is what tells it, and has a sample for each scrape"
    for name in ("IngestAuditorAbsent", "IngestTargetAbsent", "MonitoringWatcherAbsent", "MonitoringWatcherNeverSeen")
}  # fmt: skip
"""What is not tried, and why."""
FLAP = 40
"""One sample of so many is a good one: one in ten minutes."""


def flapping(case: Case) -> Series:
    """The series of the case itself, or the firing ones with a sample of the quiet ones every ten minutes.

    The last good sample comes shortly before the case is judged.
    """
    if case.flapping is not None:
        return {key: expanded(text) for key, text in case.flapping.items()}
    last = steps(case) - 1
    found = {}
    for key, text in case.fires.items():
        values, good = expanded(text), expanded(case.quiet.get(key, text))
        found[key] = [
            good[index] if (last - index) % FLAP == 0 and index < len(good) else value
            for index, value in enumerate(values)
        ]
    return found


FAILING = 6
"""One scrape of so many fails."""


def failing(case: Case) -> Series:
    """A scrape that fails ends every series of its target; the last one before the judgement does not."""
    first = (steps(case) - 1) % FAILING
    return {
        key: [
            "stale" if at % FAILING == first and not key.startswith("up{") else value
            for at, value in enumerate(expanded(text))
        ]
        for key, text in case.fires.items()
    }


def all_tests(name: str, case: Case) -> dict[str, dict[str, Any]]:
    """What promtool tries, by what it shows."""
    plain = {
        kind: {key: expanded(text) for key, text in series.items()}
        for kind, series in (("fires", case.fires), ("quiet", case.quiet))
    }
    found = {"no data": promtool_test([name], {}, case, case.at, expected=case.no_data_fires)}
    if not (case.fires and case.quiet and case.gone):
        return found
    later = f"{steps(case) * case.step // 60 + MINUTES_GONE}m"
    tried: dict[str, tuple[Series, bool]] = {
        "fires": (plain["fires"], True),
        "does not fire": (plain["quiet"], False),
        "restart": (restarted(case, case.quiet), False),
        "restart while it fires": (restarted(case, case.fires), True),
        "flapping": (flapping(case), case.flaps),
        "some scrapes fail": (failing(case), True),
    }
    for kind, (chosen, expected) in tried.items():
        if kind in ("fires", "does not fire") or chosen not in plain.values():
            at = (case.flapping_at if kind == "flapping" else "") or case.at
            found[kind] = promtool_test([name], chosen, case, at, expected=expected)
    found["target gone"] = promtool_test([name, *case.gone], gone(case), case, later, expected=True)
    return found


def untried(name: str, case: Case) -> set[str]:
    """What is not tried of an alert, and is no exception."""
    return {kind for kind in KINDS - set(all_tests(name, case)) if (name, kind) not in EXCEPTIONS}


def test_every_alert_has_a_case_and_every_case_an_alert() -> None:
    assert sorted(CASES) == sorted(NAMES)
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.integration
@pytest.mark.parametrize("name", NAMES)
def test_alert_fires_and_does_not_and_survives_its_target(name: str, promtool: str, tmp_path: Path) -> None:
    """Fires, does not fire, no data, target gone, flapping, restart."""
    case = CASES[name]
    alerts = [BY_NAME[one] for one in dict.fromkeys((name, *case.gone))]
    tests = [{"name": kind, **test} for kind, test in all_tests(name, case).items()]
    check(promtool, tmp_path, alerts, tests, step=case.step)


def test_every_alert_is_tried_in_every_way() -> None:
    assert {name: lacking for name in NAMES if (lacking := untried(name, CASES[name]))} == {}
    assert {name for name, kind in EXCEPTIONS if kind != "some scrapes fail"} == {"Watchdog"}


@pytest.mark.parametrize(
    ("change", "lacking"),
    [
        ({"fires": {}}, KINDS - {"no data"}),
        ({"quiet": {}}, KINDS - {"no data"}),
        ({"gone": ()}, KINDS - {"no data"}),
        ({"flapping": CASES["IngestNotReady"].fires}, {"flapping"}),
    ],
)
def test_a_missing_case_is_found(change: dict[str, Any], lacking: set[str]) -> None:
    """Also one that tries nothing: a flapping series that does not flap."""
    assert untried("IngestNotReady", replace(CASES["IngestNotReady"], **change)) == lacking


@pytest.mark.integration
def test_a_leak_in_large_steps_is_found_by_its_hours(promtool: str, tmp_path: Path) -> None:
    """The score stays at 0; 50 MB every hour, and on the other side a step of 50 MB in three of four hours."""
    rss, score = (f"{name}{{{BLUE}}}" for name in ("process_resident_memory_bytes", "memory_leak_detection_score"))

    def stairs(*steps: int) -> str:
        sizes = [100 + sum(steps[: hour + 1]) for hour in range(len(steps))]
        return " ".join(f"{size * 2**20}x239" for size in sizes)

    case = Case(
        fires={rss: stairs(0, 50, 50, 50, 50, 50), score: "0x1500"},
        quiet={rss: stairs(0, 50, 50, 0, 50, 50), score: "0x1500"},
        at="5h",
    )
    alert = BY_NAME["BinanceMemoryLeakDetected"]
    tests = [
        promtool_test(
            [alert.name], {key: expanded(text) for key, text in chosen.items()}, case, "5h30m", expected=fires
        )
        for chosen, fires in ((case.fires, True), (case.quiet, False))
    ]
    check(promtool, tmp_path, [alert], tests, step=15)
