import math

import pytest

from ingest_ops.common.verdict import Verdict
from ingest_ops.deployment.deployment_state import GateResult
from ingest_ops.deployment.gate_evaluation import evaluate, overall, thin, why
from ingest_ops.deployment.gates import GATES, gates_of, needed
from ingest_ops.deployment.plan import parse
from ingest_ops.deployment.prometheus import NoAnswer
from ingest_ops.deployment.state_machine import State

PLAN = parse({"version": "v2"})
START, END = 1_769_040_000.0, 1_769_040_600.0
BY_ID = {gate.id: gate for gate in GATES}


class Scripted:
    def __init__(self, values: list[float], count: int = 40, series: int = 1) -> None:
        self.values, self.count, self.series = values, count, series
        self.queries: list[str] = []

    def value(self, query: str, at: float) -> list[float]:
        self.queries.append(query)
        return self.values

    def samples(self, selector: str, start: float, end: float) -> list[list[tuple[float, float]]]:
        self.queries.append(selector)
        return [[(start + 15.0 * n, 1.0) for n in range(self.count)] for _ in range(self.series)] if self.count else []


class Silent:
    def value(self, query: str, at: float) -> list[float]:
        raise NoAnswer("connection refused")

    samples = value


def verdict(gate: str, answer: object) -> GateResult:
    return evaluate(BY_ID[gate], PLAN, "green", START, END, answer)  # type: ignore[arg-type]


@pytest.mark.parametrize(("gate", "good", "bad"), [
    ("G0", 38.0, None), ("G1a", 1.0, 0.0), ("G1b", 0.0, 1.0), ("G2", 1.0, 0.0), ("G3", 1.0, 0.0), ("G4", 10.1, 10.0),
    ("G5", 399.9, 400.0), ("G6", 0.0, 1.0), ("G7a", 0.0, 1.0), ("G7b", 6000.0, None), ("H1a", 1.0, 0.0),
    ("H1b", 1.0, 2.0), ("H3", 9.9, 10.0),
])  # fmt: skip
def test_each_gate_has_its_threshold(gate: str, good: float, bad: float | None) -> None:
    assert verdict(gate, Scripted([good])).verdict is Verdict.PASS
    if bad is not None:
        assert verdict(gate, Scripted([bad])).verdict is Verdict.FAIL


@pytest.mark.parametrize("gate", BY_ID)
@pytest.mark.parametrize(
    "answer", [Scripted([]), Scripted([], 0), Scripted([math.nan]), Silent()], ids=["empty", "gone", "nan", "silent"]
)
def test_missing_data_never_passes_and_never_fails(gate: str, answer: object) -> None:
    assert verdict(gate, answer).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("gate", sorted(set(BY_ID) - {"G0"}))
def test_a_good_value_on_too_few_samples_does_not_pass_and_a_bad_one_fails(gate: str) -> None:
    good = {"G4": 50.0, "G7b": 9000.0, "G5": 1.0, "G1a": 1.0, "G2": 1.0, "G3": 1.0, "H1a": 1.0, "H1b": 1.0, "H3": 1.0}
    assert verdict(gate, Scripted([good.get(gate, 0.0)], count=30)).verdict is Verdict.INCONCLUSIVE


def test_a_wrong_value_fails_on_a_single_sample() -> None:
    assert verdict("G7a", Scripted([3.0], count=1)).verdict is Verdict.FAIL


def test_too_little_to_compare_is_no_failure() -> None:
    assert verdict("G7b", Scripted([100.0])).verdict is Verdict.INCONCLUSIVE
    assert verdict("G0", Scripted([20.0])).verdict is Verdict.INCONCLUSIVE


def test_two_series_where_one_is_due_are_not_guessed_about() -> None:
    assert verdict("G1a", Scripted([1.0, 1.0])).verdict is Verdict.INCONCLUSIVE
    assert verdict("G1a", Scripted([1.0], series=2)).verdict is Verdict.INCONCLUSIVE


def test_the_query_is_kept_as_sent() -> None:
    answer = Scripted([1.0])
    found = verdict("G2", answer)
    assert found.query == 'min_over_time(ingest_healthy{slot="green"}[600000ms])'
    assert found.query in answer.queries
    assert (found.expected, found.found, len(found.samples)) == (40, 40, 40)


def test_a_rate_is_judged_once_it_can_be_known() -> None:
    found = verdict("G4", Scripted([50.0], count=36))
    assert found.start == START + 60
    assert "[60000ms]" in found.query
    assert "[540000ms:15000ms]" in found.query


def test_no_query_invents_data() -> None:
    assert not [gate.id for gate in GATES if "or vector" in gate.query or " or " in gate.query]


def test_the_validation_repeats_the_six_checks_of_the_shadow() -> None:
    shadow, validate = ({gate.id for gate in gates_of(state)} for state in (State.SHADOW, State.VALIDATE))
    assert {"G0", "G1a", "G1b", "G2", "G3", "G4", "G5", "G6"} == shadow & validate
    assert shadow - validate == {"G7a", "G7b"}
    assert validate - shadow == {"H1a", "H1b", "H3"}


@pytest.mark.parametrize(("expected", "samples"), [(40, 38), (20, 19), (12, 11), (2, 1), (1, 1), (60, 57)])
def test_the_coverage_is_thirty_eight_of_forty(expected: int, samples: int) -> None:
    assert needed(expected, 0.95) == samples


def test_the_worst_verdict_counts_and_nothing_at_all_is_no_pass() -> None:
    one = verdict("G2", Scripted([1.0]))
    bad, unknown = verdict("G2", Scripted([0.0])), verdict("G2", Silent())
    assert overall([one]) is Verdict.PASS
    assert overall([one, unknown]) is Verdict.INCONCLUSIVE
    assert overall([one, unknown, bad]) is Verdict.FAIL
    assert overall([]) is Verdict.INCONCLUSIVE
    assert why([one, unknown, bad], Verdict.FAIL).startswith("G2 (Health")


def test_evidence_is_thinned_without_its_extremes_being_lost() -> None:
    samples = [(float(n), 1.0) for n in range(5000)]
    samples[1234] = (1234.0, 99.0)
    samples[4321] = (4321.0, -99.0)
    kept = thin(samples)
    assert len(kept) <= 242
    assert {99.0, -99.0} <= {value for _, value in kept}
    assert (kept[0], kept[-1]) == (samples[0], samples[-1])
    assert kept == sorted(kept)
