"""What a soak test demands of a judgement."""

from ingest_ops.common.verdict import Verdict
from ingest_ops.soak.judge import Judgement
from ingest_ops.soak.record import Record

TOO_SHORT = frozenset({"coverage.duration", "memory.trend"})
"""What a trial cannot say by its nature."""


def demand(judgement: Judgement, record: Record) -> None:
    """PASS; of a trial or a compressed run: nothing failed, and nothing is unknown but what its shortness explains."""
    plan = record.plan
    assert judgement.verdict is not Verdict.FAIL, judgement.reasons
    if not (plan.trial or plan.compressed):
        assert judgement.verdict is Verdict.PASS, judgement.reasons
        return
    assert judgement.verdict is Verdict.INCONCLUSIVE
    excused = (TOO_SHORT if plan.trial else frozenset()) | ({"clock"} if plan.compressed else frozenset())
    unknown = {one.id for one in judgement.checks if one.binding and one.verdict is not Verdict.PASS}
    assert unknown <= excused, judgement.reasons
