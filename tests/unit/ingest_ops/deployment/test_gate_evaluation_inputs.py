import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from ingest.metrics import Metrics
from ingest_ops.common.verdict import Verdict
from ingest_ops.deployment.declared_children import DECLARED
from ingest_ops.deployment.gate_evaluation import overall, thin, why
from ingest_ops.deployment.gate_inputs import needed
from ingest_ops.deployment.gates import gates_of
from ingest_ops.deployment.prometheus import Sampled
from ingest_ops.deployment.state_machine import State
from tests.harness.deployment.series import HEALTHY, Series
from tests.unit.ingest_ops.deployment.gate_series import BAD, BY_ID, END, series, verdict

# --- faults of the input ---


Change = Callable[[list[Sampled]], list[Sampled]]


def _keep(one: Sampled, samples: list[tuple[float, float]]) -> Sampled:
    return Sampled(one.labels, samples)


def remove_all(found: list[Sampled]) -> list[Sampled]:
    del found
    return []


def remove_one(found: list[Sampled]) -> list[Sampled]:
    return found[1:]


def thin_out(found: list[Sampled]) -> list[Sampled]:
    chance = random.Random(1)
    return [_keep(one, [sample for sample in one.samples if chance.random() < 0.6]) for one in found]


def cut_middle(found: list[Sampled]) -> list[Sampled]:
    return [_keep(one, one.samples[:18] + one.samples[22:]) for one in found]


def cut_end(found: list[Sampled]) -> list[Sampled]:
    return [_keep(one, one.samples[:-6]) for one in found]


def cut_begin(found: list[Sampled]) -> list[Sampled]:
    return [_keep(one, one.samples[6:]) for one in found]


def to_nan(found: list[Sampled]) -> list[Sampled]:
    return [_keep(one, [(at, float("nan")) for at, _ in one.samples]) for one in found]


def double(found: list[Sampled]) -> list[Sampled]:
    return found + [Sampled({**one.labels, "replica": "b"}, one.samples) for one in found]


def double_samples(found: list[Sampled]) -> list[Sampled]:
    return [
        _keep(one, sorted(one.samples + [(at + 0.5, value) for at, value in one.samples])) for one in found
    ]  # fmt: skip


def shift(scrapes: float) -> Change:
    def late(found: list[Sampled]) -> list[Sampled]:
        return [
            _keep(one, [(at + scrapes * 15.0, value) for at, value in one.samples if at + scrapes * 15.0 <= END])
            for one in found
        ]

    return late


FAULTS: dict[str, Change] = {
    "removed": remove_all, "a child removed": remove_one, "thinned": thin_out, "cut in the middle": cut_middle,
    "cut at the end": cut_end, "cut at the beginning": cut_begin, "no numbers": to_nan, "doubled": double,
    "scraped twice": double_samples, "shifted": shift(8), "shifted far": shift(20),
}  # fmt: skip


def relabelled(found: list[Sampled]) -> list[Sampled]:
    """Every label that tells children apart has another name."""
    return [
        Sampled({f"exported_{name}" if name not in ("__name__", "slot", "job") else name: value
                 for name, value in one.labels.items()}, one.samples)
        for one in found
    ]  # fmt: skip


def renamed_children(found: list[Sampled]) -> list[Sampled]:
    return [
        Sampled({name: value if name in ("__name__", "slot", "job") else f"x{value}" for name, value in
                 one.labels.items()}, one.samples)
        for one in found
    ]  # fmt: skip


def faulty(answer: Series, metric: str, slot: str, change: Change) -> Series:
    made = replace(answer)
    before = answer.change

    def apply(m: str, s: str, found: list[Sampled]) -> list[Sampled]:
        changed = before(m, s, found)
        return change(changed) if (m, s) == (metric, slot) else changed

    made.change = apply
    return made


def inputs_of(gate: str) -> list[tuple[str, str]]:
    slots = {"candidate": "green", "live": "blue"}
    return sorted({(one.metric, slots[one.slot]) for one in BY_ID[gate].inputs.values()})


TRUTHS = {gate: [series(), *BAD.get(gate, [])] for gate in BY_ID}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("gate", BY_ID)
def test_no_fault_of_an_input_makes_a_verdict_better_and_none_passes(gate: str, fault: str) -> None:
    for answer in TRUTHS[gate]:
        before = verdict(gate, answer)
        for metric, slot in inputs_of(gate):
            after = verdict(gate, faulty(answer, metric, slot, FAULTS[fault]))
            assert after.verdict is not Verdict.PASS or before.verdict is Verdict.PASS, (metric, slot, after)
            assert after.verdict is not Verdict.PASS, (metric, slot, after)
            if before.verdict is Verdict.PASS:
                assert after.verdict is Verdict.INCONCLUSIVE or gate in CAN_FAIL, (metric, slot, after)


CAN_FAIL = {"C2", "C3", "E1", "E2", "E3", "E6"}
"""Where a child of the candidate alone is gone it is a real difference as well."""


@pytest.mark.parametrize("gate", [gate for gate in BY_ID if any(one.child for one in BY_ID[gate].inputs.values())])
def test_relabelled_children_never_pass(gate: str) -> None:
    for metric, slot in inputs_of(gate):
        if not HEALTHY[metric][1]:
            continue
        for change in (relabelled, renamed_children):
            found = verdict(gate, faulty(series(), metric, slot, change))
            assert found.verdict is not Verdict.PASS, (metric, slot, found)


BOTH = {"removed": remove_all, "a child removed": remove_one, "relabelled": relabelled, "renamed": renamed_children}


@pytest.mark.parametrize("fault", BOTH)
@pytest.mark.parametrize("gate", [gate for gate in BY_ID if any(one.child for one in BY_ID[gate].inputs.values())])
def test_what_both_slots_lack_is_missing(gate: str, fault: str) -> None:
    """A gate must not hold the candidate against a predecessor that lost the same child."""
    answer = series()
    for metric, slot in inputs_of(gate):
        if HEALTHY[metric][1]:
            answer = faulty(answer, metric, slot, BOTH[fault])
    assert verdict(gate, answer).verdict is not Verdict.PASS


@pytest.mark.parametrize("gate", ["C2", "C3"])
def test_other_symbols_excuse_a_missing_one_only_where_both_slots_have_them(gate: str) -> None:
    def under_other(found: list[Sampled]) -> list[Sampled]:
        return [*found[:-1], Sampled({**found[-1].labels, "symbol": "other"}, found[-1].samples)]

    both = series()
    for metric, slot in inputs_of(gate):
        alone = verdict(gate, faulty(series(), metric, slot, under_other))
        assert alone.verdict is not Verdict.PASS, (metric, slot, alone)
        both = faulty(both, metric, slot, under_other)
    assert verdict(gate, both).verdict is Verdict.PASS


def test_the_declared_children_are_those_of_the_service() -> None:
    exposed = {
        (one.name, one.labels.get("reason") or one.labels.get("scope"))
        for family in Metrics().registry.collect() for one in family.samples
    }  # fmt: skip
    for metric, children in DECLARED.items():
        assert {child for name, child in exposed if name == metric} == children, metric


def test_a_symbol_that_the_candidate_alone_has_is_no_fault() -> None:
    def listed(found: list[Sampled]) -> list[Sampled]:
        return [*found, Sampled({**found[0].labels, "symbol": "NEWUSDT"}, found[0].samples)]

    found = verdict("C2", faulty(series(), "binance_messages_received_total", "green", listed))
    assert found.verdict is Verdict.PASS, found


def test_silence_of_prometheus_is_no_verdict() -> None:
    for gate in BY_ID:
        assert verdict(gate, Series(silent=True)).verdict is Verdict.INCONCLUSIVE


def test_a_wrong_value_fails_on_few_samples() -> None:
    few = faulty(BAD["G7a"][0], "ingest_shadow_mismatch_total", "green", lambda found: [
        _keep(one, one.samples[-1:]) for one in found
    ])  # fmt: skip
    assert verdict("G7a", few).verdict is Verdict.FAIL


def test_the_validation_repeats_the_checks_of_the_shadow() -> None:
    shadow, validate = ({gate.id for gate in gates_of(state)} for state in (State.SHADOW, State.VALIDATE))
    assert {"G0", "G1a", "G1b", "G2", "G3", "G4", "G5", "G6", "C1", "C2", "C6", "E1"} <= shadow & validate
    assert {"G7a", "G7b", "S1", "S2"} <= shadow - validate
    assert {"H1", "H3", "S3", "S5", "C7", "C8"} <= validate - shadow


def test_no_query_invents_data() -> None:
    answer = series()
    queries = [verdict(gate, answer).query for gate in BY_ID]
    assert not [query for query in queries if " or " in query or "vector(" in query]


@pytest.mark.parametrize(("expected", "samples"), [(40, 38), (20, 19), (12, 11), (2, 1), (1, 1), (60, 57)])
def test_the_coverage_is_thirty_eight_of_forty(expected: int, samples: int) -> None:
    assert needed(expected, 0.95) == samples


def test_the_worst_verdict_counts_and_nothing_at_all_is_no_pass() -> None:
    one = verdict("G2", series())
    bad, unknown = verdict("G2", BAD["G2"][0]), verdict("G2", Series(silent=True))
    assert overall([one]) is Verdict.PASS
    assert overall([one, unknown]) is Verdict.INCONCLUSIVE
    assert overall([one, unknown, bad]) is Verdict.FAIL
    assert overall([]) is Verdict.INCONCLUSIVE
    assert why([one, unknown, bad], Verdict.FAIL) == "G2 (Health: ready all the time): 0, must be 1"


def test_one_cause_is_said_once() -> None:
    found = [verdict(gate, Series(silent=True)) for gate in ("G2", "G3", "G5")]
    assert why(found, Verdict.INCONCLUSIVE) == "G2, G3, G5: Prometheus does not answer: connection refused"


def test_evidence_is_thinned_without_its_extremes_being_lost() -> None:
    samples = [(float(n), 1.0) for n in range(5000)]
    samples[1234] = (1234.0, 99.0)
    samples[4321] = (4321.0, -99.0)
    kept = thin(samples)
    assert len(kept) <= 242
    assert {99.0, -99.0} <= {value for _, value in kept}
    assert (kept[0], kept[-1]) == (samples[0], samples[-1])
    assert kept == sorted(kept)
