"""Public addresses that reports link to: a reader is not in the containers' network."""

from dataclasses import dataclass

from ingest_ops.render.model import Link

DASHBOARD = "d/k2-operations"
BEFORE_MS = AFTER_MS = 300_000


@dataclass(frozen=True)
class Addresses:
    """Base addresses, each without a slash at its end; empty where there is none."""

    grafana: str = ""
    docs: str = ""
    """Where the folder ``docs`` is shown, e.g. a repository's page of it."""

    def links(self, start: float, end: float, *, failed: bool, page: str = "how_to/deploy.md#the-gates") -> list[Link]:
        """For the top of a report: Grafana over the time (seconds since 1970), and what to do where it failed."""
        found = []
        if self.grafana:
            span = f"from={int(start * 1000) - BEFORE_MS}&to={int(end * 1000) + AFTER_MS}"
            found.append(Link("Grafana at that time", f"{self.grafana}/{DASHBOARD}?{span}"))
        if self.docs:
            found.append(Link("What the gates mean" if failed else "How it is judged", f"{self.docs}/{page}"))
            if failed:
                found.append(Link("Runbook", f"{self.docs}/runbook.md"))
        return found


NOWHERE = Addresses()
