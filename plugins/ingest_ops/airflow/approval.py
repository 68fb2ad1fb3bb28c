"""The question whether a version may take over."""

from typing import Any

from airflow.providers.standard.exceptions import HITLRejectException, HITLTimeoutError
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException


class Approval(ApprovalOperator):
    """Asks once: a refusal, or no answer in time, is an answer and fails the task for good.

    Airflow's own operator fails like any task, and a task with retries would ask the person who refused once more.
    Retries stay for what is no answer, such as a worker that died.
    """

    def __init__(self, **options: Any) -> None:
        """As ``ApprovalOperator``."""
        super().__init__(fail_on_reject=True, **options)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Return the answer. Raises ``AirflowFailException`` if it is no approval."""
        try:
            return super().execute_complete(context, event)
        except HITLRejectException as error:
            raise AirflowFailException("refused") from error
        except HITLTimeoutError as error:
            raise AirflowFailException("not answered in time") from error
