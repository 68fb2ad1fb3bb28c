"""Rules tried by promtool: series of a case, and what they must lead to."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from deploy.alert_model import Alert
from deploy.checks import ALERTS
from deploy.generate import rules
from deploy.records import Record, records
from tests.harness.kafka import ROOT
from tests.integration.deploy.cases import Case

BY_NAME = {alert.name: alert for alert in ALERTS}
NAMES = [alert.name for alert in ALERTS]


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
