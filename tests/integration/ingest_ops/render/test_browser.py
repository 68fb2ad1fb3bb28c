"""Reports in a real browser: ``make ui``. No page is wider than a phone, and its text can be read, light and dark."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest_ops.deployment import report
from ingest_ops.deployment.audit_trail import AuditTrail
from ingest_ops.deployment.plan import parse
from tests.harness.browser import CONTRAST, Browser, BrowserUnavailable
from tests.harness.deployment.model import TwoSlots, closing, deployer
from tests.harness.kafka import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(300)]

PHONE = 390
EXAMPLES = sorted((ROOT / "reports" / "examples").glob("*/*.html"))
STYLE = (ROOT / "plugins/ingest_ops/render/templates/style.css").read_text("utf-8")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        with Browser() as running:
            yield running
    except BrowserUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def measured(browser: Browser, path: Path, *, dark: bool) -> None:
    browser.open(path, width=PHONE, dark=dark)
    width = browser.evaluate("document.documentElement.scrollWidth")
    assert width <= PHONE, f"{path.name} is {width} px wide"
    ratio, _, text = str(browser.evaluate(CONTRAST)).partition(" ")
    assert float(ratio) >= 4.5, f"{path.name}: contrast {ratio} of {text!r}"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_deployment_s_report_fits_a_phone(browser: Browser, tmp_path: Path, dark: bool) -> None:
    world = TwoSlots(tmp_path)
    with closing(deployer(world)) as one:
        one.open("d1", parse({"version": "v2.0-stable", "watch_seconds": 600, "validate_seconds": 900}))
        record = one.run("d1", until=lambda _: False)
    trail = AuditTrail(world.folder / "d1.trail.jsonl")
    paths = report.write(tmp_path, record, trail, generated_at=world.now)
    measured(browser, paths["html"], dark=dark)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}-{path.stem}"[:60])
def test_the_examples_fit_a_phone_in_the_present_style(
    browser: Browser, tmp_path: Path, path: Path, dark: bool
) -> None:
    """They are committed as they were made: the style is that of today."""
    text = path.read_text("utf-8")
    styled, count = re.subn(r"<style>.*?</style>", lambda _: f"<style>{STYLE}</style>", text, count=1, flags=re.S)
    assert count == 1
    (tmp_path / path.name).write_text(styled)
    measured(browser, tmp_path / path.name, dark=dark)
