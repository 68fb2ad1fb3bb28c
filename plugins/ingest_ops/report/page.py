"""The report page of Airflow's web interface: the list of all reports with their verdicts, and the reports themselves.

Mounted below ``/k2``. Every answer needs a user who is logged in to Airflow. The reports share their origin with
Airflow's own pages, so each answer carries a content security policy that forbids scripts, forms and anything loaded.
"""

from collections.abc import Awaitable, Callable, Iterable
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse

from ingest_ops.index import FOLDERS, SUFFIXES, Entry, NoSuchReport, as_json, list_reports, read_report
from ingest_ops.render.html import CONTENT_SECURITY_POLICY, render

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
FOLDERS_OF_DAG = {
    "daily_validation": ("validation", "audit"),
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
            answer = RedirectResponse(f"{LOGIN}?next={quote(str(request.url.path), safe='')}", status_code=303)
        answer.headers.update(HEADERS)
        return answer

    # Plain functions: FastAPI runs them in a thread, for they read files.

    @app.get("/reports")
    @app.get("/reports/")
    def index(
        kind: Annotated[str, Query(max_length=40)] = "",
        dag: Annotated[str, Query(max_length=250)] = "",
        examples: Annotated[bool, Query()] = False,  # noqa: FBT002 - a query parameter
    ) -> Response:
        root = reports()
        entries = list_reports(root, examples=examples)
        known = examples or bool(list_reports(root, examples=True))
        return Response(_index(entries, kind, dag, examples=examples, offer_examples=known), media_type="text/html")

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
    def report(name: str) -> Response:
        identity, _, suffix = name.rpartition(".")
        try:
            content = read_report(reports(), identity, suffix)
        except NoSuchReport as error:
            raise HTTPException(404, "no such report") from error
        return Response(content, media_type=SUFFIXES[suffix])

    return app


def folders_of(dag: str) -> tuple[str, ...]:
    """The folders whose reports a DAG makes; all of them for one that makes none."""
    return next((folders for begin, folders in FOLDERS_OF_DAG.items() if dag.startswith(begin)), FOLDERS)


def _index(entries: Iterable[Entry], kind: str, dag: str, *, examples: bool, offer_examples: bool) -> str:
    wanted = (kind,) if kind in FOLDERS else folders_of(dag)
    shown = [entry for entry in entries if entry.folder in wanted]
    choices = [("All", BASE + "/", wanted == FOLDERS and not examples)]
    choices += [(folder.capitalize(), f"{BASE}/?kind={folder}", (folder,) == wanted) for folder in FOLDERS]
    if offer_examples:
        choices.append(("Examples", f"{BASE}/?examples=true", examples))
    return render(
        "index.html.j2",
        title="Examples of reports" if examples else "Reports",
        policy=CONTENT_SECURITY_POLICY,
        choices=choices,
        folders=[(folder, list(group)) for folder, group in groupby(shown, key=lambda entry: entry.folder)],
        base=BASE,
    )
