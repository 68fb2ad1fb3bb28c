"""The rules as Prometheus's own tool sees them: each alert fires, does not fire, and behaves as said without data."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.alert_model import Alert
from deploy.checks import ALERTS
from deploy.generate import rules
from deploy.records import Record, records
from tests.harness.kafka import ROOT
from tests.integration.deploy.cases import AGENT, AUDIT, BLUE, CASES, OPERATIONS, Case

BY_NAME = {alert.name: alert for alert in ALERTS}
NAMES = [alert.name for alert in ALERTS]
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


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("no promtool: install prometheus (Debian: apt-get install prometheus)")
        pytest.skip("no promtool")
    return found


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def needed(expr: str, step: int) -> list[Record]:
    """The recording rules that an expression rests on, in their order: days are evaluated quickly without the rest."""
    made = records(step)
    found: set[str] = set()
    texts = [expr]
    while texts:
        text = texts.pop()
        new = [record for record in made if record.name in text and record.name not in found]
        found |= {record.name for record in new}
        texts += [record.expr for record in new]
    return [record for record in made if record.name in found]


Series = dict[str, list[str]]
MINUTES_GONE = 12
"""How long a target has been gone when the alerts are looked at."""
FLAP = 40
"""One sample of so many is a good one: one in ten minutes."""


def expanded(text: str) -> list[str]:
    """Promtool's notation as one value for each step; ``_`` where there is none."""
    found: list[str] = []
    for part in text.split():
        if (match := re.fullmatch(r"(-?[\d.]+)(?:([+-][\d.]+))?x(\d+)", part)) is None:
            found.append(part)
            continue
        first, by, times = float(match[1]), float(match[2] or 0), int(match[3])
        found += [f"{first + by * n:.15g}" for n in range(times + 1)]
    return found


def steps(case: Case) -> int:
    """Steps until the case is judged."""
    unit = {"m": 60, "h": 3600}[case.at[-1]]
    return int(case.at[:-1]) * unit // case.step


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


def gone(case: Case) -> Series:
    """The firing series end when the case is judged; their target does not answer from then on."""
    end = steps(case)
    found = {key: [*expanded(text)[: end + 1], "stale"] for key, text in case.fires.items()}
    for key in case.fires:
        labels = dict(re.findall(r'(\w+)="([^"]*)"', key))
        target = ",".join(f'{name}="{labels[name]}"' for name in ("job", "instance", "slot") if name in labels)
        if labels.get("job") != "prometheus" and not key.startswith("up{"):
            found[f"up{{{target}}}"] = ["1"] * (end + 1) + ["0"] * (MINUTES_GONE * 60 // case.step + 20)
    return found


def restarted(case: Case, series: dict[str, str]) -> Series:
    """A restart in the middle: a minute without samples, and counters that begin again."""
    pause = max(1, 60 // case.step)
    at = max(1, steps(case) // 2)
    found = {}
    for key, text in series.items():
        values = expanded(text)
        if key.split("{")[0].endswith("_total"):
            base = float(values[at]) if values[at] not in ("_", "stale") else 0.0
            values = values[:at] + [v if v in ("_", "stale") else f"{float(v) - base:.15g}" for v in values[at:]]
        found[key] = [*values[:at], *["_"] * pause, *values[at + pause :]]
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


def promtool_test(names: Sequence[str], series: Series, case: Case, at: str, *, expected: bool) -> dict[str, Any]:
    return {
        "interval": f"{case.step}s",
        "input_series": [{"series": key, "values": " ".join(values)} for key, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname=~"{"|".join(names)}",alertstate="firing"}}) > bool 0',
                "eval_time": at,
                "exp_samples": [{"labels": "{}", "value": 1}] if expected else [],
            }
        ],
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


def check(promtool: str, folder: Path, alerts: Sequence[Alert], tests: Sequence[dict[str, Any]], *, step: int) -> None:
    """Let promtool try the rules of these alerts; ``step`` is the seconds between two evaluations."""
    expressions = " ".join(alert.expr for alert in alerts)
    (folder / "rules.yaml").write_text(rules(records=needed(expressions, step), alerts=alerts, interval=step))
    path = folder / "tests.yaml"
    # Otherwise the order is random, and an alert before its recording rule sees what was recorded one step earlier.
    order = ["ingest-records", *dict.fromkeys(f"ingest-{alert.group}" for alert in alerts)]
    data = {
        "rule_files": ["rules.yaml"],
        "evaluation_interval": f"{step}s",
        "group_eval_order": order,
        "tests": [*tests],
    }
    path.write_text(yaml.safe_dump(data))
    run(promtool, "test", "rules", str(path))


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


OF_THE_SERVICE = [name for name, case in CASES.items() if any('job="ingest"' in key for key in case.fires)]


def in_shard(series: dict[str, str], shard: str) -> Series:
    """The series of the service as another shard has them."""
    return {
        key.replace('job="ingest",instance="', f'job="ingest",shard="{shard}",instance="{shard}-'): expanded(text)
        for key, text in series.items()
    }


@pytest.mark.integration
@pytest.mark.parametrize("name", OF_THE_SERVICE)
def test_a_sound_shard_hides_no_other(name: str, promtool: str, tmp_path: Path) -> None:
    """Each, not any: it fires for one of two shards, and for neither if both are sound."""
    case = CASES[name]
    one, other, both = in_shard(case.fires, "a"), in_shard(case.quiet, "b"), in_shard(case.quiet, "a")
    tests = [
        promtool_test([name], other | one, case, case.at, expected=True),
        promtool_test([name], other | both, case, case.at, expected=False),
    ]
    check(promtool, tmp_path, [BY_NAME[name]], tests, step=case.step)


SHARDS = [f'up{{job="ingest",instance="ingest-{name}:9095",slot="blue",shard="{name}"}}' for name in "ab"]
WATCHED = {
    "IngestTargetAbsent": SHARDS,
    "IngestAuditorAbsent": [f"up{{{AUDIT}}}"],
    "MonitoringWatcherAbsent": [f"up{{{OPERATIONS}}}", f"up{{{AGENT}}}"],
}


@pytest.mark.integration
@pytest.mark.parametrize("name", WATCHED)
def test_an_expected_target_stays_expected_however_long_it_is_away(name: str, promtool: str, tmp_path: Path) -> None:
    """It pages after three days as on the first; removed from the configuration, it ends after three days."""
    alert, (first, *others) = BY_NAME[name], WATCHED[name]
    answering = {other: ["1"] * 1400 for other in others}
    case = replace(CASES[name], step=240)  # the longest within Prometheus's look-back of five minutes
    away = {first: ["1"] * 30 + ["0"] * 1400, **answering}
    removed = {first: ["1"] * 30 + ["0"] * 30 + ["stale"], **answering}
    tests = [
        promtool_test([name], away, case, "80h", expected=True),
        promtool_test([name], removed, case, "2d", expected=True),
        promtool_test([name], removed, case, "80h", expected=False),
    ]
    check(promtool, tmp_path, [alert], tests, step=240)


@pytest.mark.integration
@pytest.mark.parametrize("name", WATCHED)
@pytest.mark.parametrize(("down", "up", "fires"), [(19, 1, True), (16, 4, True), (6, 34, False)])
def test_an_answer_now_and_then_is_no_answer(
    name: str, *, down: int, up: int, fires: bool, promtool: str, tmp_path: Path
) -> None:
    """Scrapes that fail and succeed in turns for an hour; a restart of 90 s each ten minutes is told as one."""
    alert, (first, *others) = BY_NAME[name], WATCHED[name]
    shown: Series = {other: ["1"] * 400 for other in others}
    shown[first] = ["1"] * 20 + (["0"] * down + ["1"] * up) * 12
    tests = [promtool_test([name], shown, CASES[name], f"{minute}m", expected=fires) for minute in (30, 45, 58)]
    check(promtool, tmp_path, [alert], tests, step=15)


@pytest.mark.integration
@pytest.mark.parametrize(("name", "watcher"), [("IngestAuditOverdue", AUDIT), ("IngestReportMissing", OPERATIONS)])
def test_what_never_came_is_overdue(name: str, watcher: str, promtool: str, tmp_path: Path) -> None:
    """An auditor whose first audit never ends, an exporter that never saw a report; a stack without them."""
    case = CASES[name]
    here, elsewhere = {f"up{{{watcher}}}": ["1"] * 2000}, {f"up{{{AGENT}}}": ["1"] * 2000}
    tests = [
        promtool_test([name], here, case, "24h", expected=False),
        promtool_test([name], here, case, "28h", expected=True),
        promtool_test([name], elsewhere, case, "28h", expected=False),
    ]
    check(promtool, tmp_path, [BY_NAME[name]], tests, step=120)


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_no_rule_has_a_bare_for(alert: Alert) -> None:
    """It begins anew with each good sample and with each scrape that fails."""
    assert "for:" not in rules(alerts=[alert]).replace("keep_firing_for:", "")


@pytest.mark.integration
def test_a_configured_shard_that_never_answered_pages(promtool: str, tmp_path: Path) -> None:
    one, other = SHARDS
    alert, case = BY_NAME["IngestTargetAbsent"], CASES["IngestTargetAbsent"]
    tests = [promtool_test([alert.name], {one: ["0"] * 40, other: ["1"] * 40}, case, "8m", expected=True)]
    check(promtool, tmp_path, [alert], tests, step=15)


@pytest.mark.integration
@pytest.mark.parametrize("name", ["IngestDataLoss", "IngestDuplicate", "IngestAuditFault"])
def test_what_the_auditor_found_outlives_it(name: str, promtool: str, tmp_path: Path) -> None:
    case = CASES[name]
    later = f"{steps(case) * case.step // 60 + MINUTES_GONE}m"
    check(promtool, tmp_path, [BY_NAME[name]], [promtool_test([name], gone(case), case, later, expected=True)], step=15)


FAULTS = {
    "IngestDataLoss": "missing_trades", "IngestDuplicate": "duplicated_trades", "IngestAuditFault": "other_faults",
}  # fmt: skip


def audits(figure: str, *parts: tuple[int, str, str, str]) -> Series:
    """What an auditor shows: (samples, figure, covers from, faults from), ``_`` for nothing. It is up all the time."""
    names = (f"audit_{figure}", "audit_covers_from_timestamp_seconds", "audit_faults_from_timestamp_seconds")
    found: Series = {f"up{{{AUDIT}}}": ["1"] * sum(count for count, *_ in parts)}
    for at, name in enumerate(names):
        values: list[str] = []
        for count, *shown in parts:
            # A restarted process that does not show a series any more: Prometheus marks it as stale.
            gone = shown[at] == "_" and values and values[-1] not in ("_", "stale")
            values += ["stale", *["_"] * (count - 1)] if gone else [shown[at]] * count
        found[f"ingest_{name}{{{AUDIT}}}"] = values
    return found


@pytest.mark.integration
@pytest.mark.parametrize("name", FAULTS)
def test_only_an_audit_that_covers_a_fault_resolves_it(name: str, promtool: str, tmp_path: Path) -> None:
    """Not a restarted auditor before its first audit, nor an audit of later hours, nor its next restart."""
    found, restarted = (40, "3", "1000", "1200"), (80, "_", "_", "_")
    later, covering = (80, "0", "9000", "_"), (40, "0", "1200", "_")
    case = CASES[name]
    history = (found, restarted, later, restarted, later)
    shown = audits(FAULTS[name], *history, covering, restarted, later)
    minutes = [sum(count for count, *_ in history[:until]) * 15 // 60 - 1 for until in range(1, len(history) + 1)]
    tests = [promtool_test([name], shown, case, f"{minute}m", expected=True) for minute in minutes]
    tests += [
        promtool_test([name], shown, case, f"{minutes[-1] + more}m", expected=False) for more in (8, 20, 45)
    ]  # fmt: skip
    # A second fault that is older moves the begin; an audit that covers the first alone resolves neither.
    older = audits(FAULTS[name], found, (40, "4", "500", "500"), (40, "0", "1000", "_"), (40, "0", "400", "_"))
    tests += [
        promtool_test([name], older, case, at, expected=fires) for at, fires in (("28m", True), ("38m", False))
    ]  # fmt: skip
    check(promtool, tmp_path, [BY_NAME[name]], tests, step=15)


SPARSE = (
    "BinanceMemoryCritical", "BinanceMemoryHigh", "BinanceMemoryLeakDetected", "IngestNotReady", "IngestEventLoopSlow",
    "IngestNoWriter", "IngestSplitBrain", "IngestSymbolFrozen", "IngestTopicLosesData",
)  # fmt: skip
"""Alerts on a share of a window's samples."""


@pytest.mark.integration
@pytest.mark.parametrize("name", SPARSE)
def test_three_of_four_scrapes_that_fail_silence_nothing(name: str, promtool: str, tmp_path: Path) -> None:
    """Also the scrape interval of a minute."""
    case = CASES[name]

    def thinned(series: dict[str, str]) -> Series:
        return {
            key: [value if at % 4 == 0 else "_" for at, value in enumerate(expanded(text))]
            for key, text in series.items()
        }

    tests = [
        promtool_test([name], thinned(series), case, case.at, expected=expected)
        for series, expected in ((case.fires, True), (case.quiet, False))
    ]
    check(promtool, tmp_path, [BY_NAME[name]], tests, step=15)


def test_every_alert_on_a_share_of_samples_is_tried_with_few_of_them() -> None:
    counting = {alert.name for alert in ALERTS if "quantile_over_time" in alert.expr or "avg_over_time" in alert.expr}
    assert counting - set(SPARSE) == {"IngestSlotUnreachable"}, "it reads up, which each scrape writes"


@pytest.mark.integration
def test_the_configuration_is_one_that_prometheus_takes(promtool: str) -> None:
    run(promtool, "check", "config", "deploy/prometheus/prometheus.yaml")


@pytest.mark.integration
def test_the_configuration_is_one_that_alertmanager_takes() -> None:
    amtool = shutil.which("amtool")
    if amtool is None:
        if os.environ.get("CI"):
            pytest.fail("no amtool: install prometheus-alertmanager (Debian)")
        pytest.skip("no amtool")
    run(amtool, "check-config", "deploy/alertmanager/alertmanager.yaml")
