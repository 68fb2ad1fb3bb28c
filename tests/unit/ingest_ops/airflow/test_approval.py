"""The question whether a version may take over, and what an answer does to its task."""

from datetime import UTC, datetime
from typing import Any

import pytest

pytestmark = pytest.mark.filterwarnings("ignore")


def answer(option: str) -> dict[str, Any]:
    return {
        "chosen_options": [option],
        "params_input": {},
        "responded_at": datetime(2026, 1, 21, 10, 0, tzinfo=UTC),
        "responded_by_user": {"id": "1", "name": "ada"},
    }


def operator() -> Any:
    from ingest_ops.airflow.approval import Approval

    return Approval(task_id="approve", subject="Let v2 take over?", retries=1)


def test_an_approval_is_handed_on_with_who_gave_it() -> None:
    found = operator().execute_complete({}, answer("Approve"))
    assert found["responded_by_user"]["name"] == "ada"


@pytest.mark.parametrize(
    ("event", "reason"),
    [(answer("Reject"), "refused"), ({"error": "late", "error_type": "timeout"}, "not answered in time")],
    ids=["refused", "no answer"],
)
def test_what_is_no_approval_fails_the_task_for_good(event: dict[str, Any], reason: str) -> None:
    """A task that only fails is tried again, and asks the person who refused once more."""
    from airflow.sdk.exceptions import AirflowFailException

    with pytest.raises(AirflowFailException, match=reason):
        operator().execute_complete({}, event)


def test_other_failures_are_tried_again() -> None:
    from airflow.providers.standard.exceptions import HITLTriggerEventError

    with pytest.raises(HITLTriggerEventError):
        operator().execute_complete({}, {"error": "broken", "error_type": "unknown"})


def test_the_deployment_asks_this_way() -> None:
    from airflow.dag_processing.dagbag import DagBag

    from tests.harness.kafka import ROOT

    dag = DagBag(str(ROOT / "dags" / "deploy_blue_green.py")).dags["deploy_blue_green"]
    assert type(dag.get_task("approve")).__name__ == "Approval"
