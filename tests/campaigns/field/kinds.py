"""Further cases of the document's kinds: what others change while the service is down, and what they take away."""

import time

from tests.campaigns.field.environment import Environment, audited, begin, wrong_in
from tests.campaigns.field.example import example, require

CHANGED = "what others can change is checked once, or never"


@example("3.9", CHANGED, "partitions added while down: the start ends with 3, naming both numbers; nothing is written;"
         " accepted by K2_KAFKA_PARTITIONS it goes on")  # fmt: skip
def partitions_while_down(environment: Environment) -> str:
    """The trades topic gets more partitions between two lives of the service."""
    with environment.stack("partitions-down", "--symbols", "3", "--rate", "100") as stack:
        service = begin(stack)
        time.sleep(2)
        service.terminate()
        before = len(environment.admin.list_topics(stack.topic, timeout=10).topics[stack.topic].partitions)
        environment.grow(stack.topic, before + 3)
        service.start(wait=False)
        ended = service.wait(40)
        log = service.log.read_text(errors="replace")
        require(ended == 3, f"the start ends with {ended}")
        require(
            f"{before + 3} partitions" in log and f"written to {before}" in log, "the log does not name the numbers"
        )
        require("writing as generation 2" not in log, "it has become the writer before it ended")
        again = stack.service(K2_KAFKA_PARTITIONS=str(before + 3))
        stack.wait(stack.writing, "the service as writer", seconds=60)
        _, report = audited(stack)
        missing = {name: count for name, count in wrong_in(report["totals"]).items() if name != "reordered"}
        require(not missing and again.alive, f"accepted: {missing}")
        return f"exit 3 names {before} and {before + 3}; accepted, nothing is missing"
