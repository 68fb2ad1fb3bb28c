"""The profile airflow: its services, DAGs and report page, and a deployment by containers that goes live."""

import json
import shlex
import time
import urllib.error
import urllib.request
from typing import Any

from tests.campaigns.stack.checkout import commands
from tests.campaigns.stack.checks import must
from tests.campaigns.stack.compose import VERSION, Failed, Project
from tests.campaigns.stack.stand_ins import has_image, run
from tests.harness import loopback
from tests.harness.kafka import ROOT

IMAGE = f"k2-ingest-airflow:{VERSION}"
NEXT = f"{VERSION}-next"
RUN = "next"
DEPLOY = ROOT / "docs" / "how_to" / "deploy.md"
DAGS = {path.stem for path in (ROOT / "dags").glob("*.py")}
AIRFLOW = ("airflow-api", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer")
UP_SECONDS = 900.0
DEPLOY_SECONDS = 1800.0
PLAN = {
    "version": NEXT,
    "watch_minutes": 1.5,
    "validate_minutes": 1.5,
    "grace_seconds": 15,
    "hold_minutes": 1,
    "min_compared": 1000,
    "audit": "yes",
}
"""The product's gates over short windows, with the audit insisted on."""


def build(revision: str) -> str:
    """The image of Airflow, agent and exporter."""
    arguments = ("--build-arg", f"VERSION={VERSION}", "--build-arg", f"REVISION={revision}")
    file = ("--file", "Dockerfile.airflow")
    run("docker", "build", "-q", "-t", IMAGE, *file, *arguments, ".", cwd=ROOT, env={"DOCKER_BUILDKIT": "0"})
    return f"image {IMAGE} built"


class Api:
    """Airflow's API, logged in as its admin."""

    def __init__(self, project: Project) -> None:
        self._project = project
        login = {"username": "admin", "password": project.secret("airflow_password")}
        self._token = json.loads(self._ask("POST", "/auth/token", login)[1])["access_token"]

    def status_of(self, path: str, *, logged_in: bool = True) -> int:
        """The status code of a page."""
        return self._ask("GET", path, token=self._token if logged_in else None)[0]

    def get(self, path: str) -> Any:
        """What a resource of the API is."""
        return self._json("GET", path)

    def _json(self, method: str, path: str) -> Any:
        status, text = self._ask(method, f"/api/v2{path}", token=self._token)
        must(status < 300, f"{method} {path}: {status} {text[:500]}")
        return json.loads(text)

    def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, token: str | None = None
    ) -> tuple[int, str]:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        data = None if body is None else json.dumps(body).encode()
        address = f"http://127.0.0.1:{self._project.ports['AIRFLOW_PORT']}{path}"
        request = urllib.request.Request(address, data=data, headers=headers, method=method)
        try:
            with loopback.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


def parts(project: Project, api: Api) -> str:
    """Every DAG and plugin is imported; the reports are there for who is logged in, and for nobody else."""
    for what in ("/importErrors", "/plugins/importErrors"):
        found = api.get(what)
        must(found["total_entries"] == 0, f"{what}: {found}")
    known = {dag["dag_id"] for dag in api.get("/dags")["dags"]}
    must(known == DAGS, f"DAGs: {sorted(known)} instead of {sorted(DAGS)}")
    must(api.get("/pools/ingest")["include_deferred"] is True, "the pool does not count deferred tasks")
    codes = [api.status_of("/k2/reports/", logged_in=logged_in) for logged_in in (False, True)]
    must(codes == [401, 200], f"the reports answer {codes}")
    for service in (*AIRFLOW, "agent", "exporter"):
        host = project.inspect(service)["HostConfig"]
        must(host["ReadonlyRootfs"] and host["Memory"] and host["PidsLimit"], f"{service} is not held short")
        _, user = project.execute(service, "id", "-u")
        must(user.strip() == "10001", f"{service} runs as {user.strip()}")
    return f"{len(known)} DAGs without import errors; reports: 401 without a login, 200 with one"


def deploy(project: Project, api: Api) -> str:
    """A version that is built from source by the agent, through every gate, with a clean audit, to DONE."""
    began = time.monotonic()
    (line,) = (one for one in commands(DEPLOY, "docker compose exec") if "dags trigger deploy_blue_green" in one)
    before, conf, _ = line.partition(" --conf ")
    must(conf, f"no configuration in {line!r}")
    project.line(f"{before} --run-id {RUN} --conf {shlex.quote(json.dumps(PLAN))}")
    run_path = f"/dags/deploy_blue_green/dagRuns/{RUN}"
    while (state := api.get(run_path)["state"]) not in ("success", "failed"):
        if time.monotonic() - began > DEPLOY_SECONDS:
            raise Failed(f"the deployment is still {state}: {_tasks(api, run_path)}")
        time.sleep(2)
    took = time.monotonic() - began
    code, text = project.execute("airflow-scheduler", "cat", f"/var/lib/k2/reports/deployments/deploy-{RUN}.json")
    must(code == 0, f"no report: {text}; {_tasks(api, run_path)}")
    report = json.loads(text)
    must(state == "success" and report["state"] == "DONE", f"{state}: {_tasks(api, run_path)}\n{text[:4000]}")
    audit = report["facts"]["audit"]
    must(audit["verdict"] == "PASS", f"audit: {audit}")
    status = json.loads(project.fetch("INGEST_GREEN_PORT", "/status"))
    must((status["version"], status["role"]) == (NEXT, "active"), f"green: {status['version']} {status['role']}")
    blue = project.inspect("ingest-sim")["State"]
    must((blue["Running"], blue["ExitCode"]) == (False, 0), f"blue: {blue}")
    must(api.status_of(f"/k2/reports/deployments/deploy-{RUN}.html") == 200, "its report is not on the page")
    return f"{NEXT} is live {took:.0f} s after the trigger; {audit['reason']}"


def _tasks(api: Api, run_path: str) -> dict[str, str]:
    return {task["task_id"]: task["state"] for task in api.get(f"{run_path}/taskInstances")["task_instances"]}


def forget() -> None:
    """No image of the version that is to be deployed: the agent shall build it."""
    if has_image(f"k2-ingest:{NEXT}"):
        run("docker", "image", "rm", "--force", f"k2-ingest:{NEXT}")


def stage(project: Project) -> list[str]:
    """All of it, beside what runs already. Returns lines for the log."""
    forget()
    began = time.monotonic()
    project.add("airflow")
    (line,) = commands(ROOT / "README.md", "docker compose --profile airflow")
    project.line(line)
    project.wait_healthy(UP_SECONDS)
    said = [f"{line}: healthy {time.monotonic() - began:.0f} s after it was started"]
    project.add("sim-green")
    (line,) = commands(DEPLOY, "docker compose --profile sim-green")
    project.line(line)
    api = Api(project)
    said.append(parts(project, api))
    said.append(deploy(project, api))
    return said
