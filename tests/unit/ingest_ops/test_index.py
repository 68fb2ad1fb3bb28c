"""The list of reports, and the names that must not open anything."""

import json
import os
from pathlib import Path

import pytest

from ingest_ops.common.verdict import Verdict
from ingest_ops.index import NoSuchReport, list_reports, read_report


def put(root: Path, report: str, *, html: bool = True, **values: object) -> Path:
    path = root / f"{report}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({"run_id": path.stem, "verdict": "PASS", "generated_at": "2026-01-01T00:00:00Z"} | values)
    )
    if html:
        path.with_suffix(".html").write_text("<p>")
    return path


def test_lists_by_folder_and_newest_first(tmp_path: Path) -> None:
    put(tmp_path, "soak/old", generated_at="2026-01-01T00:00:00Z", summary="slow")
    put(tmp_path, "soak/new", generated_at="2026-01-02T00:00:00Z", verdict="FAIL", extra={"much": [1, 2]})
    put(tmp_path, "validation/week", html=False, verdict=None)
    entries = list_reports(tmp_path)
    assert [entry.id for entry in entries] == ["validation/week", "soak/new", "soak/old"]
    assert [entry.verdict for entry in entries] == [None, Verdict.FAIL, Verdict.PASS]
    assert [entry.suffixes for entry in entries] == [("json",), ("html", "json"), ("html", "json")]
    assert entries[2].summary == "slow"
    assert read_report(tmp_path, "soak/new", "html") == b"<p>"


def test_an_empty_or_missing_root_has_no_reports(tmp_path: Path) -> None:
    assert list_reports(tmp_path) == list_reports(tmp_path / "nowhere") == []


def test_examples_are_listed_apart(tmp_path: Path) -> None:
    put(tmp_path, "examples/soak/shown")
    assert list_reports(tmp_path) == []
    assert [entry.id for entry in list_reports(tmp_path, examples=True)] == ["examples/soak/shown"]
    assert read_report(tmp_path, "examples/soak/shown", "html") == b"<p>"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"verdict": "GOOD"}',
        '{"verdict": 3}',
        '{"title": {}}',
        "\xff",
        pytest.param('{"extra": ' + "[" * 100_000, id="nested"),
    ],
)
def test_a_broken_report_is_listed_and_never_a_pass(tmp_path: Path, text: str) -> None:
    path = put(tmp_path, "soak/broken")
    path.write_bytes(text.encode("latin-1"))
    (entry,) = list_reports(tmp_path)
    assert entry.problem
    assert entry.verdict is Verdict.INCONCLUSIVE


ODD = [
    "", ".", "..", "/", "soak", "soak/", "/soak/week", "soak//week", "soak/../soak/week", "../reports/soak/week",
    "soak/..", "soak/.week", "soak/week/", "soak/week/week", "soak/week\x00", "soak/week.json", "soak/week\n",
    "soak\\week", "soak/%77eek", "soak/%2e%2e/secret", "SOAK/week", "other/week", "examples/soak",
    "examples/examples/soak/week",
    "examples/../soak/week", "soak/we ek", "soak/wéek", "soak/-week", "soak/~root", "soak/week;ls", "soak/" + "w" * 300,
    "file:///etc/passwd", "//etc/passwd", "soak/\u2025/week", "soak/week?x", "soak/week#x", "soak/*", "soak/week:ads",
]  # fmt: skip


@pytest.mark.parametrize("report", ODD)
def test_an_odd_name_opens_nothing(tmp_path: Path, report: str) -> None:
    root = tmp_path / "reports"
    put(root, "soak/week")
    (tmp_path / "secret.json").write_text("{}")
    (tmp_path / "passwd.html").write_text("{}")
    for suffix in ("html", "json", "md"):
        with pytest.raises(NoSuchReport):
            read_report(root, report, suffix)


@pytest.mark.parametrize("suffix", ["", "py", "JSON", "json ", "../json", "html.j2", ".json", "json\x00"])
def test_an_odd_suffix_opens_nothing(tmp_path: Path, suffix: str) -> None:
    put(tmp_path, "soak/week")
    (tmp_path / "soak/week.py").write_text("")
    with pytest.raises(NoSuchReport):
        read_report(tmp_path, "soak/week", suffix)


def test_odd_files_are_not_listed(tmp_path: Path) -> None:
    put(tmp_path, "soak/week")
    for name in (".hidden.json", "-x.json", "a b.json", "week.txt", "wéek.json", ".json", "json"):
        (tmp_path / "soak" / name).write_text("{}")
    (tmp_path / "soak" / "folder.json").mkdir()
    put(tmp_path, "elsewhere/week")
    assert [entry.id for entry in list_reports(tmp_path)] == ["soak/week"]


def test_a_linked_file_does_not_exist(tmp_path: Path) -> None:
    root = tmp_path / "reports"
    put(root, "soak/week")
    secret = put(tmp_path, "secret")
    (root / "soak/leak.json").symlink_to(secret)
    (root / "soak/alias.json").symlink_to(root / "soak/week.json")
    put(root, "soak/half", html=False)
    (root / "soak/half.html").symlink_to(secret)
    assert {entry.run_id: entry.suffixes for entry in list_reports(root)} == {
        "week": ("html", "json"),
        "half": ("json",),
    }
    for report, suffix in (("soak/leak", "json"), ("soak/alias", "json"), ("soak/half", "html")):
        with pytest.raises(NoSuchReport):
            read_report(root, report, suffix)


@pytest.mark.parametrize("linked", ["soak", "examples"])
def test_a_linked_folder_does_not_exist(tmp_path: Path, linked: str) -> None:
    root, outside = tmp_path / "reports", tmp_path / "outside"
    put(outside, "week")
    put(outside, "soak/week")
    root.mkdir()
    (root / linked).symlink_to(outside)
    assert list_reports(root) == list_reports(root, examples=True) == []
    for report in ("soak/week", "examples/soak/week"):
        with pytest.raises(NoSuchReport):
            read_report(root, report, "json")


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    put(tmp_path / "volume", "soak/week")
    (tmp_path / "reports").symlink_to(tmp_path / "volume")
    assert [entry.id for entry in list_reports(tmp_path / "reports")] == ["soak/week"]


def test_a_pipe_blocks_nobody(tmp_path: Path) -> None:
    put(tmp_path, "soak/week")
    os.mkfifo(tmp_path / "soak/pipe.json")
    assert [entry.id for entry in list_reports(tmp_path)] == ["soak/week"]
    with pytest.raises(NoSuchReport):
        read_report(tmp_path, "soak/pipe", "json")


def test_a_giant_is_no_report(tmp_path: Path) -> None:
    path = put(tmp_path, "soak/giant")
    with path.open("r+b") as file:
        file.truncate(65 * 2**20)
    assert list_reports(tmp_path) == []
