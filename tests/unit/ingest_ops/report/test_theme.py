"""The page that hands Airflow's theme over, and the reports in that theme's colours."""

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Annotated

import pytest
from fastapi import Header, HTTPException
from fastapi.testclient import TestClient

from ingest_ops.render.html import TEMPLATES
from ingest_ops.report.page import make_app
from ingest_ops.report.theme import ANSWERS, COOKIE, MEDIA, themed

STYLE = (TEMPLATES / "style.css").read_bytes()


def user(authorization: Annotated[str, Header()] = "") -> None:
    if not authorization:
        raise HTTPException(401, "who?")


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    folder = tmp_path / "soak"
    folder.mkdir()
    (folder / "one.json").write_text(json.dumps({"title": "One", "verdict": "PASS"}))
    (folder / "one.html").write_bytes(b"<style>" + STYLE + b"</style>")
    return TestClient(make_app(lambda: tmp_path, user), headers={"Authorization": "x"})


def test_the_policy_of_the_page_in_between_names_its_one_script(client: TestClient) -> None:
    answer = client.get("/reports/theme?dag=soak_24h&run=manual__2026-11-30T15:39:59%2B00:00")
    policy = answer.headers["Content-Security-Policy"]
    (script,) = re.findall(r"<script>(.*?)</script>", answer.text, re.S)
    assert f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'self'" in policy
    assert COOKIE in script
    target = "/k2/reports/of-run?dag=soak_24h&amp;run=manual__2026-11-30T15%3A39%3A59%2B00%3A00"
    assert f'<a id="to" href="{target}">' in answer.text


@pytest.mark.parametrize(("query", "target"), [("", "/k2/reports/"), ("dag=soak_1h", "/k2/reports/?dag=soak_1h")])
def test_it_leads_to_the_list(client: TestClient, query: str, target: str) -> None:
    assert f'href="{target}"' in client.get(f"/reports/theme?{query}").text


def test_nothing_of_an_address_becomes_markup_or_leads_elsewhere(client: TestClient) -> None:
    text = client.get("/reports/theme", params={"dag": '"><script>x</script>', "run": "//evil.example/"}).text
    assert text.count("<script>") == 1
    assert 'href="/k2/reports/of-run?dag=%22%3E%3Cscript%3Ex%3C%2Fscript%3E&amp;run=%2F%2Fevil.example%2F"' in text


@pytest.mark.parametrize("path", ["/reports/", "/reports/soak/one.html"])
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_reports_have_the_colours_of_the_theme(client: TestClient, path: str, theme: str) -> None:
    client.cookies.set(COOKIE, theme)
    answer = client.get(path)
    media, scheme = ANSWERS[theme]
    assert MEDIA.decode() not in answer.text
    assert media.decode() in answer.text
    assert f"color-scheme: {scheme.decode()};" in answer.text
    assert "allow-scripts" not in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("theme", [None, "system", "</style><script>"])
def test_any_other_theme_is_the_operating_system_s(theme: str | None) -> None:
    assert themed(STYLE, theme) == STYLE


def test_a_report_as_data_is_sent_as_it_is(client: TestClient) -> None:
    client.cookies.set(COOKIE, "dark")
    assert client.get("/reports/soak/one.json").json() == {"title": "One", "verdict": "PASS"}
