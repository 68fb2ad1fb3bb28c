from ingest_ops.archive.certificate import Comparison, SymbolEntry, VoidEntry
from ingest_ops.archive.judge import Context, Identity, judge, uncovered
from ingest_ops.archive.tally import SymbolDay
from ingest_ops.common.verdict import Verdict

BTC = Identity("BTCUSDT", "BINANCE", "BTC", "USDT")


def facts(**others: object) -> SymbolDay:
    return SymbolDay(**{"first_id": 10, "last_id": 20, "trades": 11, "before_id": 9, "after_id": 21, **others})  # type: ignore[arg-type]


def judged(day: SymbolDay, **others: object) -> SymbolEntry:
    return judge(BTC, day, Context(**{"start": "earlier record", "end": "later record", **others}))  # type: ignore[arg-type]


def codes(entry: SymbolEntry) -> list[str]:
    return [one.code for one in entry.findings]


def test_a_whole_day_passes() -> None:
    entry = judged(facts())
    assert (entry.verdict, entry.findings, entry.previous_last_id) == (Verdict.PASS, [], 9)


def test_missing_ids_fail_and_are_named() -> None:
    entry = judged(facts(gaps=[(12, 14)]))
    assert entry.verdict is Verdict.FAIL
    assert [(one.code, one.first_id, one.last_id, one.count) for one in entry.findings] == [("missing", 12, 14, 3)]


def test_a_void_accounts_for_missing_ids() -> None:
    entry = judged(facts(gaps=[(12, 14)]), voids=[VoidEntry(12, 14, "exchange_hole")])
    assert (entry.verdict, codes(entry)) == (Verdict.PASS, ["void"])
    assert entry.voids == [VoidEntry(12, 14, "exchange_hole")]


def test_a_void_that_covers_a_part_leaves_the_rest_missing() -> None:
    entry = judged(facts(gaps=[(12, 16)]), voids=[VoidEntry(13, 14, "exchange_hole")])
    found = [(one.first_id, one.last_id) for one in entry.findings if one.code == "missing"]
    assert (entry.verdict, found) == (Verdict.FAIL, [(12, 12), (15, 16)])


def test_a_record_whose_id_is_void_fails() -> None:
    entry = judged(facts(), voids=[VoidEntry(15, 16, "exchange_hole")])
    found = [(one.code, one.first_id, one.last_id) for one in entry.findings]
    assert (entry.verdict, found) == (Verdict.FAIL, [("trade_in_void", 15, 16)])


def test_ids_between_the_days_are_missing() -> None:
    entry = judged(facts(before_id=None), previous_last_id=7)
    assert [(one.code, one.first_id, one.last_id) for one in entry.findings] == [("missing", 8, 9)]
    assert judged(facts(before_id=None), previous_last_id=9).verdict is Verdict.PASS


def test_ids_of_the_day_before_do_not_come_again() -> None:
    assert codes(judged(facts(), previous_last_id=10)) == ["joins_not"]


def test_ends_that_are_not_shown_are_no_pass() -> None:
    assert judged(facts(), start="").verdict is Verdict.INCONCLUSIVE
    entry = judged(facts(), end="", end_detail="because")
    assert (entry.verdict, entry.findings[0].detail) == (Verdict.INCONCLUSIVE, "because")


def test_duplicates_and_contradictions_fail() -> None:
    assert codes(judged(facts(duplicates=2, first_duplicate=11))) == ["duplicate"]
    assert codes(judged(facts(), malformed=1)) == ["malformed"]


def test_the_comparison_decides() -> None:
    for comparison, verdict in (
        (Comparison("x", "equal"), Verdict.PASS),
        (Comparison("x", "their_hole", only_ours=3), Verdict.PASS),
        (Comparison("x", "differs", only_theirs=1, examples={"only_theirs": [15]}), Verdict.FAIL),
        (Comparison("x", "differs", differing=1), Verdict.FAIL),
        (Comparison("x", "absent"), Verdict.INCONCLUSIVE),
        (Comparison("x", "checksum"), Verdict.INCONCLUSIVE),
        (Comparison("x", "unusable"), Verdict.INCONCLUSIVE),
    ):
        assert judged(facts(), comparison=comparison).verdict is verdict, comparison


def test_uncovered() -> None:
    assert list(uncovered((1, 10), [(3, 4), (4, 6), (9, 20)])) == [(1, 2), (7, 8)]
    assert list(uncovered((1, 2), [])) == [(1, 2)]
    assert list(uncovered((1, 2), [(0, 5)])) == []
