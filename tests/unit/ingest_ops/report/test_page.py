"""The report page: nobody without a login, nothing but reports, and no way for a report to do anything."""

import json
from pathlib import Path

import pytest
from fastapi import HTTPException, Request
from fastapi.testclient import TestClient

from ingest_ops.report.page import folders_of, make_app

TOKEN = {"Authorization": "Bearer good"}


def user(request: Request) -> str:
    if request.headers.get("Authorization") != TOKEN["Authorization"]:
        raise HTTPException(401, "Not authenticated")
    return "somebody"


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    for report, title, verdict in (
        ("validation/2026-01-22-7d", "Week <b>one</b>", "PASS"),
        ("soak/soak_24h-1", "Soak", "FAIL"),
        ("examples/soak/shown", "An example", "PASS"),
    ):
        path = tmp_path / "reports" / f"{report}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        head = {"run_id": path.stem, "title": title, "verdict": verdict, "generated_at": "2026-01-23T00:20:00Z"}
        path.write_text(json.dumps(head))
        path.with_suffix(".html").write_text("<p>a report</p>")
    (tmp_path / "secret.html").write_text("secret")
    return tmp_path / "reports"


@pytest.fixture
def client(reports: Path) -> TestClient:
    return TestClient(make_app(lambda: reports, user), headers=TOKEN)


PATHS = [
    "/reports",
    "/reports/",
    "/reports.json",
    "/reports/soak/soak_24h-1.html",
    "/reports/soak/none.html",
    "/reports/x",
]
THEME = "/reports/theme?dag=soak_24h&run=1"


@pytest.mark.parametrize("path", [*PATHS, THEME])
def test_nobody_without_a_login(reports: Path, path: str) -> None:
    answer = TestClient(make_app(lambda: reports, user)).get(path)
    assert answer.status_code == 401
    assert "report" not in answer.text.lower().replace("reports", "")


def test_a_browser_without_a_login_is_sent_to_the_login_page_and_back(reports: Path) -> None:
    client = TestClient(make_app(lambda: reports, user), follow_redirects=False)
    answer = client.get("/reports/soak/soak_24h-1.html", headers={"Accept": "text/html,*/*;q=0.8"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/api/v2/auth/login?next=%2Freports%2Fsoak%2Fsoak_24h-1.html"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    listed = client.get("/reports/?kind=soak&page=2", headers={"Accept": "text/html"})
    assert listed.headers["location"] == "/api/v2/auth/login?next=%2Freports%2F%3Fkind%3Dsoak%26page%3D2"


def test_examples_are_offered_where_there_are_any(tmp_path: Path, client: TestClient) -> None:
    assert "?examples=true" in client.get("/reports/").text
    other = TestClient(make_app(lambda: tmp_path / "none", user), headers=TOKEN)
    assert "?examples=true" not in other.get("/reports/").text


@pytest.mark.parametrize("path", [*PATHS, "/docs", "/openapi.json", "/anything"])
def test_every_answer_forbids_scripts_and_everything_from_elsewhere(client: TestClient, path: str) -> None:
    policy = client.get(path).headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert "allow-scripts" not in policy
    assert "frame-ancestors 'self'" in policy


def test_there_are_no_pages_about_the_interface(client: TestClient) -> None:
    assert {client.get(path).status_code for path in ("/docs", "/redoc", "/openapi.json")} == {404}


def test_the_list_has_every_report_with_its_verdict(client: TestClient) -> None:
    text = client.get("/reports/").text
    assert 'href="/k2/reports/soak/soak_24h-1.html"' in text
    assert "FAIL" in text
    assert "Week &lt;b&gt;one&lt;/b&gt;" in text
    assert "An example" not in text
    assert "An example" in client.get("/reports/?examples=true").text


def test_a_tab_shows_what_its_dag_makes(client: TestClient) -> None:
    text = client.get("/reports/?dag=soak_24h").text
    assert "soak_24h-1.html" in text
    assert "2026-01-22-7d.html" not in text
    assert "2026-01-22-7d.html" in client.get("/reports/?dag=some_other").text
    assert folders_of("daily_validation")[0] == "validation"
    assert folders_of("deploy_blue_green") == folders_of("roll_back") == ("deployments",)


def test_an_unknown_kind_shows_everything(client: TestClient) -> None:
    assert "soak_24h-1.html" in client.get("/reports/?kind=../../etc").text


@pytest.mark.parametrize(
    ("suffix", "kind"), [("html", "text/html; charset=utf-8"), ("json", "application/json")]
)  # fmt: skip
def test_a_report_is_served_as_what_it_is(client: TestClient, suffix: str, kind: str) -> None:
    answer = client.get(f"/reports/soak/soak_24h-1.{suffix}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == kind
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "../secret.html", "..%2fsecret.html", "%2e%2e/secret.html", "soak/../../secret.html", "/etc/passwd",
        "soak%2f..%2f..%2fsecret.html", "soak/%2e%2e/%2e%2e/secret.html", "%2fetc%2fpasswd.html", "soak/soak_24h-1.py",
        "soak/soak_24h-1", "soak/soak_24h-1.html%00", "soak\\soak_24h-1.html", "validation/..%5c..%5csecret.html",
        "examples/../soak/x.html", "soak/" + "a" * 5000 + ".html", "....//secret.html",
    ],
)  # fmt: skip
def test_no_path_leads_elsewhere(client: TestClient, path: str) -> None:
    answer = client.get(f"/reports/{path}")
    assert answer.status_code in (404, 307)
    assert "secret" not in answer.text


def test_a_linked_report_is_not_served(reports: Path, client: TestClient) -> None:
    (reports / "soak" / "leak.html").symlink_to(reports.parent / "secret.html")
    (reports / "soak" / "leak.json").write_text("{}")
    assert client.get("/reports/soak/leak.html").status_code == 404
    assert client.get("/reports/soak/leak.json").status_code == 200


def test_no_reports_is_said(tmp_path: Path) -> None:
    client = TestClient(make_app(lambda: tmp_path, user), headers=TOKEN)
    assert "No report yet" in client.get("/reports/").text
    assert client.get("/reports.json").json() == []


def test_only_reading_is_offered(client: TestClient) -> None:
    path = "/reports/soak/soak_24h-1.html"
    assert {client.request(method, path).status_code for method in ("POST", "PUT", "DELETE", "PATCH")} == {405}


def test_the_tab_of_a_run_shows_its_report_or_the_list_of_its_kind(reports: Path) -> None:
    app = make_app(lambda: reports, user, lambda dag, run: f"soak/{dag}-{run}")
    client = TestClient(app, headers=TOKEN, follow_redirects=False)
    found = client.get("/reports/of-run?dag=soak_24h&run=1")
    assert (found.status_code, found.headers["location"]) == (303, "/k2/reports/soak/soak_24h-1.html")
    for query in ("dag=soak_24h&run=2", "dag=soak_24h&run=..%2F..%2Fsecret", ""):
        other = client.get(f"/reports/of-run?{query}")
        assert (other.status_code, other.headers["location"].partition("?")[0]) == (303, "/k2/reports/")
    assert TestClient(app).get("/reports/of-run?dag=soak_24h&run=1").status_code == 401


def test_a_long_list_has_pages_filters_and_a_strip_of_verdicts(tmp_path: Path) -> None:
    folder = tmp_path / "soak"
    folder.mkdir()
    for number in range(120):
        verdict = "FAIL" if number % 10 == 0 else "PASS"
        head = {"run_id": f"s{number}", "title": f"Soak {number}", "verdict": verdict,
                "generated_at": f"2026-01-{1 + number // 24:02}T{number % 24:02}:00:00Z"}  # fmt: skip
        (folder / f"s{number}.json").write_text(json.dumps(head))
        (folder / f"s{number}.html").write_text("<p>a report</p>")
    client = TestClient(make_app(lambda: tmp_path, user), headers=TOKEN)
    first = client.get("/reports/?kind=soak").text
    assert first.count("<tr>") == 51
    assert first.count("<li><a class=") == 30
    assert "Soak 119" in first
    assert "?kind=soak&amp;page=3" in first
    last = client.get("/reports/?kind=soak&page=3").text
    assert last.count("<tr>") == 21
    failed = client.get("/reports/?kind=soak&verdict=FAIL").text
    assert failed.count("<tr>") == 13
    assert "page=2" not in failed
    assert "No report yet" in client.get("/reports/?kind=soak&page=9").text
    assert client.get("/reports/?page=0").status_code == 422
