"""The report page of Airflow's web interface: the list of all reports with their verdicts, and the reports themselves.

Mounted below ``/k2``. Every answer needs a user who is logged in to Airflow. The reports share their origin with
Airflow's own pages, so each answer carries a content security policy that forbids scripts, forms and anything loaded;
one page without any report, which passes Airflow's theme on, has one script (``theme``).
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import Cookie, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse

from ingest_ops.common.verdict import Verdict
from ingest_ops.index import FOLDERS, SUFFIXES, Entry, NoSuchReport, as_json, list_reports, read_report
from ingest_ops.render.html import CONTENT_SECURITY_POLICY, render
from ingest_ops.report import theme as themes

PREFIX = "/k2"
LOGIN = "/api/v2/auth/login"
"""Airflow sends on to the login page of its auth manager."""
BASE = f"{PREFIX}/reports"
POLICY = f"{CONTENT_SECURITY_POLICY}; frame-ancestors 'self'; sandbox allow-same-origin"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}
PER_PAGE = 50
"""Reports of a kind on a page."""
STRIP = 30
"""Verdicts in the row above each list."""
FOLDERS_OF_DAG = {
    "daily_validation": ("validation", "audit"),
    "daily_archive": ("archive",),
    "soak": ("soak",),
    "deploy": ("deployments",),
    "roll_back": ("deployments",),
    "control": ("deployments",),
    "reconcile": ("deployments",),
}
"""What the tab of a DAG shows, by the beginning of the DAG's id; any other DAG's tab shows everything."""


def make_app(
    reports: Callable[[], Path],
    get_user: Callable[..., Any],
    report_of: Callable[[str, str], str] = lambda _dag, _run: "",
) -> FastAPI:
    """The application. ``reports`` gives the folder of all reports, ``get_user`` refuses requests without a login.

    ``report_of`` names the report of a DAG's run.
    """
    # No pages about the interface: they would load scripts from elsewhere, and they have no users.
    app = FastAPI(dependencies=[Depends(get_user)], docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def headers(request: Request, follow: Callable[[Request], Awaitable[Response]]) -> Response:
        answer = await follow(request)
        if answer.status_code == 401 and "text/html" in request.headers.get("accept", ""):
            # A person follows a link: the login page, and back.
            back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            answer = RedirectResponse(f"{LOGIN}?next={quote(back, safe='')}", status_code=303)
        answer.headers.update({name: value for name, value in HEADERS.items() if name not in answer.headers})
        return answer

    # Plain functions: FastAPI runs them in a thread, for they read files.

    @app.get("/reports")
    @app.get("/reports/")
    def index(
        kind: Annotated[str, Query(max_length=40)] = "",
        dag: Annotated[str, Query(max_length=250)] = "",
        verdict: Annotated[str, Query(max_length=20)] = "",
        examples: Annotated[bool, Query()] = False,  # noqa: FBT002 - a query parameter
        page: Annotated[int, Query(ge=1, le=10_000)] = 1,
        theme: Annotated[str | None, Cookie(alias=themes.COOKIE, max_length=20)] = None,
    ) -> Response:
        root = reports()
        entries = list_reports(root, examples=examples)
        known = examples or bool(list_reports(root, examples=True))
        asked = Asked(kind=kind, dag=dag, verdict=verdict, examples=examples, page=page)
        list_page = _index(entries, asked, offer_examples=known).encode()
        return Response(themes.themed(list_page, theme), media_type="text/html")

    @app.get("/reports/theme")
    def in_theme(
        dag: Annotated[str, Query(max_length=250)] = "", run: Annotated[str, Query(max_length=250)] = ""
    ) -> Response:
        query = urlencode({name: value for name, value in (("dag", dag), ("run", run)) if value})
        target = f"{BASE}/{'of-run' if run else ''}{'?' if query else ''}{query}"
        policy = {"Content-Security-Policy": themes.POLICY}
        return Response(themes.hand_over(target), media_type="text/html", headers=policy)

    @app.get("/reports/of-run")
    def of_run(
        dag: Annotated[str, Query(max_length=250)] = "", run: Annotated[str, Query(max_length=250)] = ""
    ) -> Response:
        name = report_of(dag, run)
        try:
            read_report(reports(), name, "html")
        except NoSuchReport:
            return RedirectResponse(f"{BASE}/?dag={quote(dag, safe='')}", status_code=303)
        return RedirectResponse(f"{BASE}/{name}.html", status_code=303)

    @app.get("/reports.json")
    def index_json() -> list[dict[str, Any]]:
        return [as_json(entry) for entry in list_reports(reports())]

    @app.get("/reports/{name:path}")
    def report(name: str, theme: Annotated[str | None, Cookie(alias=themes.COOKIE, max_length=20)] = None) -> Response:
        identity, _, suffix = name.rpartition(".")
        try:
            content = read_report(reports(), identity, suffix)
        except NoSuchReport as error:
            raise HTTPException(404, "no such report") from error
        return Response(themes.themed(content, theme) if suffix == "html" else content, media_type=SUFFIXES[suffix])

    return app


def folders_of(dag: str) -> tuple[str, ...]:
    """The folders whose reports a DAG makes; all of them for one that makes none."""
    return next((folders for begin, folders in FOLDERS_OF_DAG.items() if dag.startswith(begin)), FOLDERS)


@dataclass(frozen=True)
class Asked:
    """What a list shows, as its address says it."""

    kind: str = ""
    dag: str = ""
    verdict: str = ""
    examples: bool = False
    page: int = 1

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders that are shown."""
        return (self.kind,) if self.kind in FOLDERS else folders_of(self.dag)

    def address(self, **changes: str | int | bool) -> str:
        """The same list with something changed; the first page where that is not the page."""
        asked = replace(self, **{"page": 1, **changes})  # type: ignore[arg-type]
        parts = {
            "kind": asked.kind, "dag": asked.dag, "verdict": asked.verdict,
            "examples": "true" if asked.examples else "", "page": str(asked.page) if asked.page > 1 else "",
        }  # fmt: skip
        query = urlencode({name: value for name, value in parts.items() if value})
        return f"{BASE}/?{query}" if query else f"{BASE}/"


@dataclass(frozen=True)
class Shown:
    """A folder's part of the list."""

    folder: str
    entries: list[Entry]
    count: int
    strip: list[Entry]
    """The last ones, the oldest first, whatever page is shown."""


def _index(entries: Iterable[Entry], asked: Asked, *, offer_examples: bool) -> str:
    every = [entry for entry in entries if entry.folder in asked.folders]
    wanted = [entry for entry in every if not asked.verdict or str(entry.verdict) == asked.verdict]
    shown, pages = [], 1
    for folder in asked.folders:
        found = [entry for entry in wanted if entry.folder == folder]
        strip = [entry for entry in every if entry.folder == folder and entry.verdict is not None][:STRIP][::-1]
        pages = max(pages, -(-len(found) // PER_PAGE))
        part = found[(asked.page - 1) * PER_PAGE : asked.page * PER_PAGE]
        if part:
            shown.append(Shown(folder, part, len(found), strip))
    choices = [("All", asked.address(kind="", dag="", examples=False), asked.folders == FOLDERS and not asked.examples)]
    choices += [
        (folder.capitalize(), asked.address(kind=folder, dag="", examples=False), (folder,) == asked.folders)
        for folder in FOLDERS
    ]
    if offer_examples:
        choices.append(("Examples", f"{BASE}/?examples=true", asked.examples))
    verdicts = [("Any verdict", asked.address(verdict=""), not asked.verdict)]
    verdicts += [(str(one), asked.address(verdict=str(one)), asked.verdict == one) for one in Verdict]
    return render(
        "index.html.j2",
        title="Examples of reports" if asked.examples else "Reports",
        policy=CONTENT_SECURITY_POLICY,
        choices=choices,
        verdicts=verdicts,
        folders=shown,
        pages=[(number, asked.address(page=number), number == asked.page) for number in _near(asked.page, pages)],
        base=BASE,
    )


def _near(page: int, pages: int) -> list[int]:
    """The pages that are offered; none where there is one alone."""
    return [one for one in range(1, pages + 1) if one in (1, pages) or abs(one - page) <= 3] if pages > 1 else []
