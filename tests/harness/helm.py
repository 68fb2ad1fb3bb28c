"""The real helm, built once from its Go module: what it needs is pinned by the checksums in ``helm_module/go.sum``.

``python -m tests.harness.helm`` builds it and checks the chart. Debian 12's Go (1.19) builds Helm 3.12.
``K2_TEST_HELM`` names another helm to test with.
"""

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from msgspec import Meta

from ingest.settings import declared
from tests.harness.jars import digest
from tests.harness.processes import ROOT

MODULE = Path(__file__).with_name("helm_module")
CHART = ROOT / "deploy" / "helm" / "k2-ingest"
VALUES = {path.name.removesuffix("-values.yaml"): path for path in sorted((CHART / "ci").glob("*-values.yaml"))}
"""Example values by the mode that they show."""
OLDEST_KUBERNETES = "1.28.0"
"""What ``Chart.yaml`` requires; helm would take another one where no cluster answers."""
OLDEST_GO = (1, 19)
BUILD_SECONDS = 1800
RUN_SECONDS = 120
PACKAGE = "helm.sh/helm/v3"
SHARED_ATTEMPTS = "K2_BINANCE_CONNECTION_ATTEMPTS_PER_5_MINUTES"


def fleet_attempts() -> int:
    """Connection attempts of all instances of an address: four fifths of the exchange's limit.

    The rest is for what was used there before a fleet was started (decision 21).
    """
    (setting,) = (one for one in declared() if one.name == SHARED_ATTEMPTS)
    (limit,) = (meta.le for meta in get_args(setting.type) if isinstance(meta, Meta))
    assert isinstance(limit, int)
    return limit * 4 // 5


class HelmUnavailable(Exception):
    """There is no helm and none can be built; the text says why and what to do."""


class HelmFailed(Exception):
    """Helm ended with an error; the text is what it said."""


def stated_version() -> str:
    """The version that ``go.mod`` names, e.g. ``v3.12.3``."""
    found = re.search(rf"^require {re.escape(PACKAGE)} (\S+)$", (MODULE / "go.mod").read_text(), re.M)
    assert found is not None
    return found[1]


@dataclass(frozen=True, slots=True)
class Build:
    """Builds the program into a folder that is complete or absent."""

    folder: Path

    def program(self) -> Path:
        """Path of helm, verified. Raises ``HelmUnavailable``."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with (self.folder.parent / f"{self.folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.folder.exists() and not self._whole():
                sys.stderr.write(f"{self.folder}: not what was built: building again\n")
            if not self._whole():
                self._build()
        return self.folder / "helm"

    def _whole(self) -> bool:
        program, stated = self.folder / "helm", self.folder / "SHA256"
        return program.is_file() and stated.is_file() and stated.read_text() == digest(program)

    def _build(self) -> None:
        go = _go()
        version = stated_version()
        sys.stderr.write(f"building helm {version} into {self.folder}, once\n")
        with tempfile.TemporaryDirectory(dir=self.folder.parent, prefix=f"{self.folder.name}.") as directory:
            fresh = Path(directory) / "fresh"
            fresh.mkdir()
            command = [
                go, "build", "-mod=readonly", "-trimpath", "-buildvcs=false",
                "-ldflags", f"-s -w -X {PACKAGE}/internal/version.version={version}",
                "-o", str(fresh / "helm"), f"{PACKAGE}/cmd/helm",
            ]  # fmt: skip
            environment = os.environ | {"GOFLAGS": "", "GOWORK": "off", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
            done = _run(command, BUILD_SECONDS, environment, MODULE)
            if done.returncode:
                raise HelmUnavailable(
                    f"{go} could not build helm {version}: its module proxy does not answer, no longer has a module of "
                    f"{MODULE.name}/go.mod, or has another than go.sum states:\n{done.stderr[-2000:]}"
                )
            (fresh / "SHA256").write_text(digest(fresh / "helm"))
            shutil.rmtree(self.folder, ignore_errors=True)
            fresh.rename(self.folder)


def _go() -> str:
    go = shutil.which("go")
    if go is None:
        raise HelmUnavailable("no go to build helm: install Go (Debian: apt-get install golang-go)")
    said = _run([go, "version"], RUN_SECONDS, {**os.environ, "GOTOOLCHAIN": "local"}, MODULE).stdout
    found = re.search(r"go(\d+)\.(\d+)", said)
    if found is None or (int(found[1]), int(found[2])) < OLDEST_GO:
        oldest = ".".join(map(str, OLDEST_GO))
        raise HelmUnavailable(f"{go} is too old to build helm: {said.strip()!r}, {oldest} or later is needed")
    return go


def _run(
    command: Sequence[str], seconds: float, environment: Mapping[str, str], directory: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=seconds, env=environment, cwd=directory
    )


def folder() -> Path:
    """Where the built helm is: another one for other modules."""
    pins = hashlib.sha256((MODULE / "go.mod").read_bytes() + (MODULE / "go.sum").read_bytes()).hexdigest()
    return ROOT / ".cache" / f"helm-{stated_version()}-{pins[:12]}"


class Helm:
    """The program, on one chart."""

    def __init__(self, chart: Path = CHART) -> None:
        """Raises ``HelmUnavailable``."""
        other = os.environ.get("K2_TEST_HELM")
        self.program = Path(other) if other else Build(folder()).program()
        self.chart = chart

    def run(self, *arguments: str) -> str:
        """What one command prints. Raises ``HelmFailed``."""
        # Nothing of a user's own helm: no plugins, no cluster.
        environment = {"PATH": os.defpath, "HOME": "/nonexistent", "HELM_NAMESPACE": "market"}
        done = _run([str(self.program), *arguments], RUN_SECONDS, environment, ROOT)
        if done.returncode:
            raise HelmFailed(done.stdout + done.stderr)
        return done.stdout

    def lint(self, values: Path) -> str:
        """Check the chart, warnings as errors."""
        return self.run("lint", "--strict", str(self.chart), "--values", str(values))

    def template(self, *values: Path, release: str = "k2", options: Sequence[str] = ()) -> list[dict[str, Any]]:
        """What the chart renders, one entry for each resource."""
        files = [word for path in values for word in ("--values", str(path))]
        text = self.run(
            "template", release, str(self.chart), "--kube-version", OLDEST_KUBERNETES, *files, *options
        )  # fmt: skip
        return [one for one in yaml.safe_load_all(text) if one is not None]


def main() -> int:
    """Build helm; lint and render the chart with each example."""
    parser = argparse.ArgumentParser(prog="python -m tests.harness.helm", description=main.__doc__)
    parser.add_argument("--build", action="store_true", help="build helm and check nothing")
    options = parser.parse_args()
    try:
        helm = Helm()
        for name, path in ({} if options.build else VALUES).items():
            helm.lint(path)
            sys.stdout.write(f"{name}: {len(helm.template(path))} resources\n")
    except HelmUnavailable as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except HelmFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
