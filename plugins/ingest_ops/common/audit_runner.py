"""Runs the independent auditor as a separate program: it shares no code with the writer."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest.command import terminal
from ingest.decoding import decode_json
from ingest_ops.common.files import read_file
from ingest_ops.common.verdict import Verdict

VERDICTS = {0: Verdict.PASS, 1: Verdict.FAIL}
"""By exit code; 2 and anything else is INCONCLUSIVE: the auditor could not judge."""


@dataclass(frozen=True)
class AuditResult:
    """What the auditor said, and its figures as it wrote them."""

    verdict: Verdict
    reason: str
    figures: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """Plain data for the report."""
        return {"verdict": str(self.verdict), "reason": self.reason, "figures": dict(self.figures)}

    @classmethod
    def of_figures(cls, figures: Mapping[str, Any]) -> "AuditResult":
        """What the auditor wrote with ``--json``. Raises ``ValueError`` where it is something else."""
        try:
            return cls(Verdict(figures["verdict"]), str(figures["reason"]), dict(figures))
        except (KeyError, TypeError) as error:
            raise ValueError(f"no figures of the auditor: {error!r}") from error

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "AuditResult":
        """The result of a stored report."""
        return cls(Verdict(data["verdict"]), data["reason"], data["figures"])


def run_audit(
    command: Sequence[str], figures: Path, *, timeout: float = 3600.0, directory: Path | None = None
) -> AuditResult:
    """Run the auditor in ``directory``; ``figures`` is the file that its ``--json`` names, replaced by it.

    Never raises for what the auditor does: a missing program, a time-out, or figures that do not have the verdict of
    the exit code are INCONCLUSIVE. Python itself ends with 1 if a package is missing: that is no FAIL.
    """
    figures = figures.absolute()
    figures.parent.mkdir(parents=True, exist_ok=True)
    figures.unlink(missing_ok=True)
    try:
        done = subprocess.run(  # noqa: S603 - the operator's own command
            [*command, "--json", str(figures)],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            cwd=directory,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return AuditResult(Verdict.INCONCLUSIVE, f"the auditor did not run: {error}", {})
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or [""]
    said = terminal.one_line(f"exit {done.returncode}: {lines[-1]}")[:500]
    try:
        found = AuditResult.of_figures(decode_json(read_file(figures)))
    except (OSError, ValueError, RecursionError) as error:
        return AuditResult(Verdict.INCONCLUSIVE, f"the auditor left no figures: {error}; {said}"[:500], {})
    verdict = VERDICTS.get(done.returncode, Verdict.INCONCLUSIVE)
    if verdict is not found.verdict:
        said = f"the auditor's figures say {found.verdict}, but: {said}"[:500]
        verdict = Verdict.INCONCLUSIVE
    return AuditResult(verdict, said, found.figures)
