"""A real Airflow that deploys on the real parts, with everything that waits for minutes made to wait for seconds."""

import contextlib
import logging
import os
import time
import urllib.error
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ingest_ops.airflow.deployment_tasks import deployment_name
from ingest_ops.deployment.journal import Journal, NoSuchDeployment, Record
from ingest_ops.deployment.state_machine import State
from tests.campaigns.deployment.environment import DeploymentEnvironment
from tests.harness.airflow import Airflow

if TYPE_CHECKING:
    from ingest_ops.render.model import Cell
    from tests.campaigns.deployment.kills import Outcome

DAG = "deploy_blue_green"
CONF: dict[str, Any] = {
    "watch_minutes": 0.5, "validate_minutes": 0.4, "hold_minutes": 0.1, "holds": 1, "grace_seconds": 8,
    "scrape_seconds": 1, "min_compared": 500, "max_memory_mb": 300, "min_coverage": 0.8,
}  # fmt: skip
"""Windows of half a minute: the shortest ones that are still waited for without a worker."""
LIMIT = float(os.environ.get("DEPLOY_LIMIT_SECONDS", "900"))
"""What anything may take, on a slow machine."""
OVER = ("success", "failed")
ASKING = ("awaiting_input", "deferred")

SHORT = {
    "K2_DEPLOY_LEASE_SECONDS": "30",
    # How soon Airflow takes a component for dead and gives its work to another: minutes by default.
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
}


class AirflowEnvironment:
    """DeploymentEnvironment and Airflow, and the questions that a test asks of both."""

    def __init__(self, field: DeploymentEnvironment, airflow: Airflow) -> None:
        self.field = field
        self.airflow = airflow
        self.outcomes: list[Outcome] = []
        """Of the deployments during which something was killed."""
        self.others: list[tuple[str, Cell]] = []
        """What else was shown."""
        self.journal = Journal(f"sqlite:///{field.directory / 'journal.db'}", lambda: time.time_ns() / 1e9)

    def record(self, run: str, dag: str = DAG) -> Record | None:
        """The deployment of a run; None before it is opened."""
        try:
            return self.journal.read(deployment_name(dag, run))
        except NoSuchDeployment:
            return None

    def state(self, run: str) -> State | None:
        """Where the journal says that a run's deployment stands."""
        record = self.record(run)
        return None if record is None else record.state

    def end(self, run: str, dag: str = DAG) -> str:
        """Wait for the end of a run; how it ended."""
        self.airflow.wait(lambda: self.airflow.run_state(dag, run) in OVER, f"the end of {run}", seconds=LIMIT)
        return self.airflow.run_state(dag, run)

    def task(self, run: str, name: str) -> str:
        """The state of one of a run's tasks."""
        return str(self.airflow.tasks(DAG, run)[name]["state"])

    def report(self, run: str, dag: str = DAG) -> dict[str, Any]:
        """The deployment's report."""
        return self.field.report(deployment_name(dag, run))

    def asked(self, run: str) -> bool:
        """Whether the run waits for a person."""
        return self.task(run, "approve") in ASKING

    def answer(self, run: str, option: str) -> None:
        """Approve or Reject, over Airflow's own API."""
        path = f"dags/{DAG}/dagRuns/{quote(run, safe='')}/taskInstances/approve/-1/hitlDetails"

        def taken() -> bool:
            """Airflow loses an answer within moments of the question, and where a retry asks anew: say it again."""
            time.sleep(8.0)
            with contextlib.suppress(urllib.error.HTTPError):  # 409: it has the answer
                self.airflow.api(path, method="PATCH", body={"chosen_options": [option], "params_input": {}})
            return self.task(run, "approve") in OVER

        self.airflow.wait(lambda: self.asked(run), "the question", seconds=LIMIT)
        self.airflow.wait(taken, "an answer that is taken", seconds=LIMIT)

    def only_writer(self, slot: str) -> None:
        """Wait until ``slot`` writes and nobody else does. Raises ``TimeoutError``."""
        self.field.wait(lambda: self.field.writers() == [slot], f"{slot} as the only writer", seconds=LIMIT)

    def audit(self) -> str:
        """The auditor's verdict over the whole topic: PASS where its exit code says so, too."""
        code, figures = self.field.stack.audit(expect_to_head=False)
        verdict = str(figures["verdict"])
        return verdict if (code == 0) == (verdict == "PASS") else f"{verdict}, exit code {code}"


@contextmanager
def opened(folder: Path, bootstrap_servers: str) -> Iterator[AirflowEnvironment]:
    """A small market, blue with v1, and an Airflow that knows the DAGs. Raises what its parts raise."""
    # Airflow's logging shows every request; the progress would drown in it.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    with ExitStack() as stack:
        field = stack.enter_context(
            DeploymentEnvironment(
                folder / "field", bootstrap_servers, rate=100, symbols=2, scrape_seconds=1.0, topic="trades.airflow"
            )
        )  # fmt: skip
        airflow = stack.enter_context(Airflow(folder / "airflow", environment=_environment(field)))
        airflow.wait(lambda: _answers(airflow), "an API server that has warmed up", seconds=LIMIT)
        site = AirflowEnvironment(field, airflow)
        stack.callback(site.journal.close)
        yield site


def _answers(airflow: Airflow) -> bool:
    """Its first answers take longer than a client waits, on a slow machine."""
    try:
        return airflow.knows(DAG)
    except OSError:  # time-outs among them
        return False


def _environment(field: DeploymentEnvironment) -> dict[str, str]:
    kept = {key: value for key, value in field.deploy_environment().items() if key.startswith("K2_")}
    reports = {
        "K2_REPORT_REPORTS": str(field.directory / "reports"),
        "K2_REPORT_PROMETHEUS_URL": field.prometheus.url,
        "K2_REPORT_SELECTOR": 'slot="blue"',
        "K2_REPORT_SCRAPE_SECONDS": "1",
    }
    return kept | reports | SHORT
