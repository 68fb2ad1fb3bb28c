"""Every DAG parses, is thin, and has the shape that its machine needs."""

import ast
import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted((ROOT / "dags").glob("*.py"))
HEAVY = {
    "pandas",
    "numpy",
    "docker",
    "requests",
    "httpx2",
    "sqlalchemy",
    "prometheus_api_client",
    "jinja2",
    "matplotlib",
}

# Airflow's and its libraries' own warnings must not fail our tests.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(900)]


def _names(dag: Any, task: str, direction: str) -> set[str]:
    return set(getattr(dag.get_task(task), f"{direction}_task_ids"))


def test_all_dags_are_read_without_an_error(dagbag: Any) -> None:
    assert dagbag.import_errors == {}
    assert {path.stem for path in FILES} == set(dagbag.dags)


def test_all_dags_can_be_serialised_as_the_scheduler_does(dagbag: Any) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    for dag in dagbag.dags.values():
        again = DagSerialization.from_dict(DagSerialization.to_dict(dag))
        assert set(again.task_dict) == set(dag.task_dict)


def test_every_task_has_an_owner_and_no_dag_catches_up(dagbag: Any) -> None:
    for dag in dagbag.dags.values():
        assert dag.catchup is False
        assert dag.max_active_runs == 1
        assert dag.description
        assert all(task.owner == "k2" for task in dag.tasks)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_dag_file_is_thin(path: Path) -> None:
    tree = ast.parse(path.read_text())
    modules = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert not modules & (HEAVY | {"ingest"})
    assert len(path.read_text().splitlines()) < 130
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.For | ast.While | ast.Try | ast.FunctionDef)]


def test_reading_the_deployment_dags_imports_nothing_heavy() -> None:
    code = (
        "import sys, ingest_ops.airflow.deployment_tasks, ingest_ops.airflow.soak_tasks;"
        "print(sorted(set(sys.modules) & {'pandas', 'numpy', 'docker', 'prometheus_api_client'}))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": f"{ROOT / 'plugins'}:{ROOT}", "PATH": "/usr/bin:/bin", "AIRFLOW_HOME": "/nonexistent"},
    )  # fmt: skip
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_a_deployment_goes_through_its_stages_in_order(dagbag: Any) -> None:
    dag = dagbag.dags["deploy_blue_green"]
    chain = [
        "check",
        "wait_for_open_deployment",
        "build",
        "start_green",
        "watch",
        "need_approval",
        "cut_over",
        "validate",
        "retire_blue",
    ]
    for before, after in itertools.pairwise(chain):
        assert after in _names(dag, before, "downstream"), (before, after)
    assert _names(dag, "need_approval", "downstream") == {"approve", "cut_over"}
    assert _names(dag, "cut_over", "upstream") == {"need_approval", "approve"}
    assert dag.get_task("cut_over").trigger_rule.value == "none_failed_min_one_success"


def test_whatever_fails_is_rolled_back_and_reported(dagbag: Any) -> None:
    dag = dagbag.dags["deploy_blue_green"]
    roll_back = dag.get_task("roll_back")
    assert roll_back.trigger_rule.value == "one_failed"
    assert roll_back.retries == 3
    # A branch skips every direct child that it does not choose: the roll-back must not be one.
    stages = {
        "acquire_pool",
        "wait_for_open_deployment",
        "build",
        "start_green",
        "watch",
        "approve",
        "cut_over",
        "validate",
        "retire_blue",
    }
    assert _names(dag, "roll_back", "upstream") == stages
    assert dag.get_task("report").trigger_rule.value == "all_done"
    assert dag.get_task("report").downstream_task_ids == set()
    assert dag.get_task("approve").fail_on_reject is True


def test_an_executor_that_is_slow_to_report_does_not_end_the_wait_for_the_pool(dagbag: Any) -> None:
    lock = dagbag.dags["deploy_blue_green"].get_task("wait_for_open_deployment")
    assert lock.reschedule
    assert lock.poke_interval >= 20, "queued again before the executor's word on the last look, a task is marked failed"
    assert lock.retries == 3


def test_every_state_of_the_machine_is_some_task_s(dagbag: Any) -> None:
    from ingest_ops.deployment.state_machine import TERMINAL, UNDOING, State

    dag = dagbag.dags["deploy_blue_green"]
    states = [state for task in dag.tasks for state in getattr(task, "states", [])]
    assert sorted(states) == sorted(set(State) - TERMINAL - UNDOING)


def test_deployments_and_soaks_share_a_pool_of_one(dagbag: Any) -> None:
    assert dagbag.dags["deploy_blue_green"].get_task("acquire_pool").pool == "ingest"
    for name in ("soak_1h", "soak_24h"):
        assert dagbag.dags[name].get_task("watch").pool == "ingest"
    others = [task for task in dagbag.dags["deploy_blue_green"].tasks if task.task_id != "acquire_pool"]
    assert {task.pool for task in others} == {"default_pool"}, "the pool's only slot is held: nobody else may need it"


def test_the_form_and_the_plan_agree(dagbag: Any) -> None:
    from ingest_ops.deployment.plan import parse

    params = {name: param.value for name, param in _params(dagbag, "deploy_blue_green").items()}
    plan = parse({**params, "version": "v2"})
    assert plan == parse({"version": "v2"}), "the form's defaults are the plan's"


def _params(dagbag: Any, name: str) -> dict[str, Any]:
    params = dagbag.dags[name].params
    return {key: params.get_param(key) for key in params}


@pytest.mark.parametrize("name", ["deploy_blue_green", "roll_back"])
def test_what_is_triggered_by_hand_works_from_the_first_day(dagbag: Any, name: str) -> None:
    dag = dagbag.dags[name]
    assert dag.is_paused_upon_creation is False
    assert dag.timetable.can_be_scheduled is False


def test_each_minute_somebody_looks_after_the_journal(dagbag: Any) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    dag = dagbag.dags["reconcile"]
    assert dag.is_paused_upon_creation is False
    assert "* * * * *" in str(DagSerialization.to_dict(dag)["dag"]["timetable"])


@pytest.mark.parametrize(
    ("run_id", "name"),
    [
        ("manual__2026-01-22T03:15:00.123456+00:00", "deploy-manual__2026-01-22T03-15-00.123456-00-00"),
        ("../../etc/passwd", "deploy-etc-passwd"),
        ("x" * 200, None),
    ],
)
def test_a_run_s_deployment_has_a_name_that_every_part_takes(run_id: str, name: str | None) -> None:
    from ingest_ops.airflow.deployment_tasks import deployment_name

    made = deployment_name("deploy_blue_green", run_id)
    assert name is None or made == name
    assert len(made) <= 50
