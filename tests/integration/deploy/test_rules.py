"""The rules as Prometheus's own tool sees them: each alert fires, does not fire, and behaves as said without data."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.checks import ALERTS
from deploy.generate import rules
from deploy.records import Record, records
from tests.harness.kafka import ROOT
from tests.integration.deploy.cases import BLUE, CASES, Case

BY_NAME = {alert.name: alert for alert in ALERTS}
NAMES = [alert.name for alert in ALERTS]
ABSENCES = {"IngestTargetAbsent", "IngestAuditorAbsent", "MonitoringWatcherAbsent", "Watchdog"}
"""They are the absence, or always fire."""


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
    found = [record for record in records(step) if record.name in expr]
    below = [record for one in found for record in needed(one.expr, step)]
    return [record for record in records(step) if record in found or record in below]


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
    """The firing series with a sample of the quiet ones every ten minutes, the last one shortly before it is judged."""
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


def restarted(case: Case) -> Series:
    """The quiet series with a restart in their middle: a minute without samples, and counters that begin again."""
    pause = max(1, 60 // case.step)
    at = max(1, steps(case) // 2)
    found = {}
    for key, text in case.quiet.items():
        values = expanded(text)
        if key.split("{")[0].endswith("_total"):
            base = float(values[at]) if values[at] not in ("_", "stale") else 0.0
            values = values[:at] + [v if v in ("_", "stale") else f"{float(v) - base:.15g}" for v in values[at:]]
        found[key] = [*values[:at], *["_"] * pause, *values[at + pause :]]
    return found


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
    if not case.fires:
        return found
    found["fires"] = promtool_test([name], plain["fires"], case, case.at, expected=True)
    found["does not fire"] = promtool_test([name], plain["quiet"], case, case.at, expected=False)
    found["restart"] = promtool_test([name], restarted(case), case, case.at, expected=False)
    if case.flaps:
        found["flapping"] = promtool_test([name], flapping(case), case, case.at, expected=True)
    if case.gone:
        later = f"{steps(case) * case.step // 60 + MINUTES_GONE}m"
        found["target gone"] = promtool_test([name, *case.gone], gone(case), case, later, expected=True)
    return found


def test_every_alert_has_a_case_and_every_case_an_alert() -> None:
    assert sorted(CASES) == sorted(NAMES)
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.integration
@pytest.mark.parametrize("name", NAMES)
def test_alert_fires_and_does_not_and_survives_its_target(name: str, promtool: str, tmp_path: Path) -> None:
    """Fires, does not fire, no data, target gone, flapping, restart."""
    case = CASES[name]
    alerts = [BY_NAME[one] for one in (name, *case.gone)]
    expressions = " ".join(alert.expr for alert in alerts)
    (tmp_path / "rules.yaml").write_text(
        rules(records=needed(expressions, case.step), alerts=alerts, interval=case.step)
    )
    tests = [{"name": kind, **test} for kind, test in all_tests(name, case).items()]
    path = tmp_path / "tests.yaml"
    path.write_text(
        yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": f"{case.step}s", "tests": tests})
    )
    run(promtool, "test", "rules", str(path))


def test_every_exception_is_one_that_is_meant() -> None:
    """An alert that a dip may end, or that no absence covers, is listed here with its reason."""
    ends_with_a_good_sample = {
        # What was found is replaced by what is found next.
        "IngestDataLoss", "IngestDuplicate", "IngestAuditFault", "IngestDeploymentManual",
        "IngestAuditInconclusive",
        # Counted over a window: a quiet sample in it changes the count.
        "IngestCrashLoop", "BinanceNoMessages", "BinanceMemoryTrend",
    }  # fmt: skip
    assert {name for name, case in CASES.items() if not case.flaps} <= ends_with_a_good_sample
    assert {name for name, case in CASES.items() if not case.gone} <= ABSENCES


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
    (tmp_path / "rules.yaml").write_text(rules(records=needed(alert.expr, 15), alerts=[alert], interval=15))
    tests = [
        promtool_test(
            [alert.name], {key: expanded(text) for key, text in chosen.items()}, case, "5h30m", expected=fires
        )
        for chosen, fires in ((case.fires, True), (case.quiet, False))
    ]
    path = tmp_path / "tests.yaml"
    path.write_text(yaml.safe_dump({"rule_files": ["rules.yaml"], "evaluation_interval": "15s", "tests": tests}))
    run(promtool, "test", "rules", str(path))


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
