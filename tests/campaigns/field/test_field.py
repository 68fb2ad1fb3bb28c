"""The examples that take seconds, each as a test: the quick part of ``make field``."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaigns.field.__main__ import chosen
from tests.campaigns.field.catalogue import EXAMPLES, Example
from tests.campaigns.field.environment import Environment

NOT_YET: tuple[str, ...] = ()
"""Examples whose outcome is still wrong, by the beginning of their names."""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    with Environment(tmp_path_factory.mktemp("field")) as environment:
        yield environment


CASES = [
    pytest.param(one, id=one.name, marks=[pytest.mark.xfail(strict=False)] if one.name.startswith(NOT_YET) else [])
    for one in EXAMPLES.values()
    if one.quick
]


@pytest.mark.integration
@pytest.mark.timeout(600)
@pytest.mark.parametrize("one", CASES)
def test_example(one: Example, environment: Environment) -> None:
    one.play(environment)


def test_examples_are_chosen_by_section_and_by_name() -> None:
    assert {one.section for one in chosen("A,C", quick=False)} == {"A", "C"}
    assert [one.name for one in chosen("G.2", quick=False)] == ["G.2"]
    assert {one.name for one in chosen("3.1", quick=False)} == {"3.1.1", "3.1.2"}
    assert all(one.quick for one in chosen("", quick=True))


def test_a_name_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="ONLY=Z: there is no such example"):
        chosen("Z", quick=False)


def test_every_entry_of_the_document_has_an_example() -> None:
    wanted = {*"ABCDEFGHIJKLMNOPQ", "2", "3", "S2", "S3", "S4", "S5", "S6", "S7"}
    assert wanted <= {one.section for one in EXAMPLES.values()}
    assert Path(__file__).parent.joinpath("names.c").is_file()
