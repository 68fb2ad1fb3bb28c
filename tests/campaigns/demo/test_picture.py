"""The picture in the README shows what the demo measured."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns.demo.picture import PICTURE, draw

SUMMARY: dict[str, Any] = {
    "verdict": "PASS", "trades_sent": 1200, "trades_committed": 1200, "missing": 0, "duplicated": 0, "reordered": 0,
    "altered": 0, "events": [[2.0, "kill -9 of the service"]],
    "samples": [[0.5, 10, 0], [1.0, 600, 550], [4.0, 1200, 1200]],
}  # fmt: skip


def words(svg: str) -> str:
    return " ".join(ElementTree.fromstring(svg).itertext())  # noqa: S314 -- our own text


def test_it_tells_the_verdict_the_counts_and_what_happened() -> None:
    told = words(draw(SUMMARY))
    assert "make demo: PASS" in told
    assert "1,200 trades sent, 1,200 in Kafka; 0 missing, 0 duplicated, 0 reordered, 0 altered" in told
    assert "1: at 2 s, kill -9 of the service" in told


def test_without_samples_there_is_no_picture() -> None:
    with pytest.raises(ValueError, match="no samples"):
        draw(SUMMARY | {"samples": []})


def test_the_one_in_the_readme_is_of_this_kind() -> None:
    told = words(PICTURE.read_text())
    assert "make demo: PASS" in told
    assert "kill -9 of the service" in told
    assert "docs/images/demo.svg" in (Path(__file__).resolve().parents[3] / "README.md").read_text()
