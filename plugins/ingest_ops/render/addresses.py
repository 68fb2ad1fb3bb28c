"""Public addresses that reports link to: a reader is not in the containers' network."""

from dataclasses import dataclass
from urllib.parse import quote

from ingest_ops.common.report_settings import ReportSettings
from ingest_ops.render.model import Link

DASHBOARD = "d/k2-operations"
BEFORE_MS = AFTER_MS = 300_000


@dataclass(frozen=True)
class Addresses:
    """Base addresses, each without a slash at its end; empty where there is none."""

    grafana: str = ""
    docs: str = ""
    """Where the folder ``docs`` is shown, e.g. a repository's page of it."""
    prometheus: str = ""

    def links(self, start: float, end: float, *, failed: bool, page: str = "how_to/deploy.md#the-gates") -> list[Link]:
        """For the top of a report: Grafana over the time (seconds since 1970), and what to do where it failed."""
        found = self.charts(start, end)
        if self.docs:
            found.append(Link("What the gates mean" if failed else "How it is judged", f"{self.docs}/{page}"))
            if failed:
                found.append(Link("Runbook", f"{self.docs}/runbook.md"))
        return found

    def charts(self, start: float, end: float) -> list[Link]:
        """Grafana over a time (seconds since 1970) and five minutes on both sides of it."""
        if not self.grafana:
            return []
        span = f"from={int(start * 1000) - BEFORE_MS}&to={int(end * 1000) + AFTER_MS}"
        return [Link("Grafana at that time", f"{self.grafana}/{DASHBOARD}?{span}")]

    def runbook(self, alert: str) -> list[Link]:
        """What to do about an alert."""
        return [Link(alert, f"{self.docs}/runbook.md#{alert.lower()}")] if self.docs else []

    def query(self, promql: str, at: str) -> Link | None:
        """A query in Prometheus, evaluated at a moment (RFC 3339); none where Prometheus has no address for readers."""
        if not self.prometheus:
            return None
        end = quote(at)
        return Link("show", f"{self.prometheus}/graph?g0.expr={quote(promql, safe='')}&g0.tab=1&g0.end_input={end}")


NOWHERE = Addresses()


def of(settings: ReportSettings) -> Addresses:
    """Those of a validation's and a soak's report."""
    public = settings.prometheus_public_url or settings.prometheus_url
    return Addresses(settings.grafana_url.rstrip("/"), settings.docs_url.rstrip("/"), public.rstrip("/"))
