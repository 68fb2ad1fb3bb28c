"""The command line: exit codes, and that a record can be judged again."""

import json
from pathlib import Path

import pytest

from ingest_ops.__main__ import main
from ingest_ops.soak import cli
from ingest_ops.soak.plan import SOAK_1H
from ingest_ops.soak.sources import Source
from tests.unit.ingest_ops.soak.books import Clock, ScrapedSource, finished, sample, sound


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(cli, "_clock", clock)
    monkeypatch.setattr("time.sleep", clock.sleep)
    return clock


def figures(folder: Path, verdict: str = "PASS") -> str:
    path = folder / "audit.json"
    path.write_text(json.dumps({"verdict": verdict, "reason": "said so", "totals": {}}))
    return str(path)


def watch(folder: Path, *more: str, verdict: str = "PASS") -> int:
    options = ["--plan", "1h", "--run-id", "soak-cli", "--reports", str(folder), "--prometheus-url", "http://p"]
    return main(["soak", "run", *options, "--audit-figures", figures(folder, verdict), *more])


def use(monkeypatch: pytest.MonkeyPatch, source: Source) -> None:
    monkeypatch.setattr(cli, "source_from", lambda _: source)


def test_a_watched_soak_passes_with_0(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, ScrapedSource(clock))
    assert watch(tmp_path, "--environment", "feed=made up") == 0
    assert capsys.readouterr().out.startswith("PASS: ")
    data = json.loads((tmp_path / "soak-cli.json").read_text())
    assert data["environment"]["feed"] == "made up"
    assert len(data["samples"]["candidate"]) == 61


@pytest.mark.parametrize(("options", "verdict", "code"), [([], "FAIL", 1), (["--seconds", "120"], "PASS", 2)])
def test_fail_is_1_and_inconclusive_2(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, options: list[str], verdict: str, code: int
) -> None:
    # A scrape each second: a trial samples each 6 s.
    monkeypatch.setattr(ScrapedSource, "read", _each_second)
    use(monkeypatch, ScrapedSource(clock))
    assert watch(tmp_path, *options, verdict=verdict) == code


def _each_second(source: ScrapedSource, since: float, until: float) -> list[object]:
    from tests.unit.ingest_ops.soak.books import START

    first, last = int(since - START) + 1, int(min(until, source._clock.now) - START)
    return [sample(START + n, float(n)) for n in range(max(first, 0), last + 1)]


def test_a_record_is_judged_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = finished(SOAK_1H, sound(SOAK_1H))
    path = tmp_path / "records" / "soak-test.json"
    record.save(path)
    arguments = ["soak", "report", str(path), "--reports", str(tmp_path)]
    assert main([*arguments, "--audit-figures", figures(tmp_path)]) == 0
    assert main(arguments) == 2
    assert "not audited" in capsys.readouterr().out


@pytest.mark.parametrize("text", [None, "{}", "no json"])
def test_what_is_no_record_is_said(tmp_path: Path, text: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text)
    assert main(["soak", "report", str(path)]) == 2
    assert capsys.readouterr().err.startswith("soak: ")


def test_a_soak_needs_something_to_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["soak", "run", "--run-id", "x", "--reports", str(tmp_path)]) == 2
    assert "metrics_url" in capsys.readouterr().err


def test_the_schema_can_be_had(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["soak", "schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Report of a soak"
