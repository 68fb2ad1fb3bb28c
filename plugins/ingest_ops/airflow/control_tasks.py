"""For a person: stop, hold or resume the open deployment. The words are those of the command line and of the agent."""

from typing import Any

from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from ingest_ops.deployment.tasks import RollBackLink, _DeploymentTask, person

PARAMS = frozenset({"word"})


class ControlDeployment(_DeploymentTask):
    """Record the request; the deployment's own tasks follow it within seconds."""

    operator_extra_links = (RollBackLink(),)

    def execute(self, context: Context) -> dict[str, Any]:
        """Returns which deployment it was, and what happens now."""
        from ingest_ops.deployment.commands.control import NotPossible, asked, effect

        params = context["params"]
        if unknown := sorted(set(params) - PARAMS):
            raise AirflowFailException(f"conf: unknown: {', '.join(unknown)}; allowed is word")
        by = person(context)
        with self.parts(context) as parts:
            try:
                record = asked(parts, str(params["word"]), by)
            except NotPossible as error:
                raise AirflowFailException(str(error)) from error
        said = effect(record, str(params["word"]), by)
        self.log.info("%s", said)
        return {"deployment": record.id, "state": str(record.state), "said": said}
