"""Docker images for a machine that can pull none: built from Debian packages, Maven and wheels, under the real names.

Everything is built once and kept by Docker; a second run finds it. What is made here is test tooling: the product's
files name the real images and never these.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.harness.apicurio import application
from tests.harness.kafka import ROOT, jars

IMAGES = Path(__file__).with_name("images")
COMPOSE = "v2.40.3"
COMPOSE_SUM = "h1:XeYkQu1svDtyfZPv5nTwFryQ25ZJMkIlc4pz9HalMPI="
"""Go's checksum of the module; its own go.sum pins everything that it needs."""
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
Log = Callable[[str], None]


def run(*command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run to the end; returns what it printed. Raises ``CalledProcessError`` with the output in its notes."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        error = subprocess.CalledProcessError(done.returncode, command)
        error.add_note((done.stdout + done.stderr)[-4000:])
        raise error
    return done.stdout


def has_image(name: str) -> bool:
    """Whether Docker knows an image of that name."""
    return subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False).returncode == 0


def compose_plugin(log: Log) -> None:
    """Docker's compose plugin, compiled where it is missing."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return
    log(f"compiling docker compose {COMPOSE}")
    module = f"github.com/docker/compose/v2@{COMPOSE}"
    with tempfile.TemporaryDirectory() as folder:
        run("go", "mod", "init", "stack", cwd=Path(folder))
        found = json.loads(run("go", "mod", "download", "-json", module, cwd=Path(folder)))
        if found["Sum"] != COMPOSE_SUM:
            raise RuntimeError(f"{module} has the checksum {found['Sum']}; {COMPOSE_SUM} was expected")
        source = Path(folder) / "source"
        shutil.copytree(found["Dir"], source)
        run("chmod", "-R", "u+w", str(source))
        target = Path.home() / ".docker" / "cli-plugins" / "docker-compose"
        target.parent.mkdir(parents=True, exist_ok=True)
        flags = f"-s -w -X github.com/docker/compose/v2/internal.Version={COMPOSE}"
        run(
            "go",
            "build",
            "-trimpath",
            "-ldflags",
            flags,
            "-o",
            str(target),
            "./cmd",
            cwd=source,
            env={"CGO_ENABLED": "0"},
        )


def named() -> dict[str, str]:
    """Short name -> the image that the product's files name."""
    compose = (ROOT / "docker-compose.yaml").read_text()
    dockerfile = (ROOT / "Dockerfile").read_text()
    names = {
        short: _one(rf"image: (\S*{short}\S*)", compose)
        for short in ("kafka", "prometheus", "alertmanager", "grafana", "postgres")
    }
    names["registry"] = _one(r"image: (\S*registry:\S*)", compose)
    names["python"] = _one(r"ARG PYTHON_IMAGE=(\S+)", dockerfile)
    return names


def _one(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise LookupError(f"nothing matches {pattern}")
    return match[1]


def base(name: str, log: Log) -> None:
    """Python on Debian 12, minimal."""
    if has_image(name):
        return
    log(f"stand-in for {name}: debootstrap")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        packages = "python3,python3-dev,python3-pip,python3-venv,ca-certificates"
        run("debootstrap", "--variant=minbase", f"--include={packages}", "bookworm", str(root))
        if CERTIFICATES.exists():
            shutil.copyfile(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
        for litter in (
            *(root / "var/cache/apt/archives").glob("*.deb"),
            *root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"),
        ):
            litter.unlink()
        for folder_of_litter in ("var/lib/apt/lists", "usr/share/doc", "usr/share/man"):
            shutil.rmtree(root / folder_of_litter, ignore_errors=True)
        (root / "usr/bin/python").symlink_to("python3")
        archive = Path(folder) / "root.tar"
        run("tar", "-C", str(root), "-cf", str(archive), ".")
        environment = (
            "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            f"ENV PIP_CERT={CERTIFICATES}",
        )
        run("docker", "import", *(part for line in environment for part in ("--change", line)), str(archive), name)


def build(name: str, recipe: str, log: Log, **contents: Path) -> None:
    """Build ``images/<recipe>`` under a name, with further folders in its context."""
    if has_image(name):
        return
    log(f"stand-in for {name}")
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder) / recipe
        shutil.copytree(IMAGES / recipe, context)
        for target, source in contents.items():
            shutil.copytree(source, context / target, ignore=shutil.ignore_patterns(".*"))
        run("docker", "build", "-q", "-t", name, str(context), env={"DOCKER_BUILDKIT": "0"})


def ensure(log: Log, *, airflow: bool = False) -> None:
    """Everything that the stack's test needs and that is not there."""
    names = named()
    compose_plugin(log)
    base(names["python"], log)
    build("k2-stand-in-java:latest", "java", log)
    build(names["kafka"], "kafka", log, jars=jars())
    if not has_image(names["registry"]):
        build(names["registry"], "registry", log, app=application())
    build(names["prometheus"], "prometheus", log)
    build(names["alertmanager"], "alertmanager", log)
    build(names["grafana"], "grafana", log)
    if airflow:
        build(names["postgres"], "postgres", log)
