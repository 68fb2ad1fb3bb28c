import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.alert_model import Alert
from deploy.checks import ALERTS
from deploy.generate import rules
from tests.integration.deploy.cases import AGENT, AUDIT, CASES, OPERATIONS
from tests.integration.deploy.rules import (
    BY_NAME,
    MINUTES_GONE,
    NAMES,
    Series,
    check,
    expanded,
    gone,
    promtool_test,
    run,
    steps,
)

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
    "IngestNoWriter", "IngestSplitBrain", "IngestSymbolFrozen", "IngestTopicLosesData", "IngestBooksOutOfSync",
    "IngestStreamHalted", "IngestFleetShardUnwritten",
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
