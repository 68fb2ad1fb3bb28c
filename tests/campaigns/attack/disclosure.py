"""What `ps` shows of an instance with secrets, and what a crash of it leaves on the disk."""

import resource
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.campaigns.attack.hostile import Row, row
from tests.campaigns.drills.environment import DrillEnvironment
from tests.harness.processes import ServiceProcess

PATTERN = Path("/proc/sys/kernel/core_pattern")
END_SECONDS = 30.0
CRASH = "import os, sys; secret = sys.stdin.read(); os.kill(os.getpid(), 11)"


@contextmanager
def dumps_allowed() -> Iterator[None]:
    """Children that are started in this context may leave core dumps as far as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def dump_of_another(folder: Path, secret: str) -> bool:
    """Whether a crash of any other program leaves a core dump with the secret here: the control of the attack.

    True also where dumps go to a program or another folder, and nothing can be seen here.
    """
    if not PATTERN.exists() or PATTERN.read_text()[:1] in ("|", "/", "@"):
        return True
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY:
        return True
    folder.mkdir()
    with dumps_allowed():
        subprocess.run([sys.executable, "-c", CRASH], input=secret, text=True, cwd=folder, check=False)
    found = any(secret.encode() in path.read_bytes() for path in folder.iterdir())
    shutil.rmtree(folder)
    return found


def crash(env: DrillEnvironment, _service: ServiceProcess, seconds: float) -> Row:
    """An instance whose token comes from a file is looked at with `ps`, crashes, and is started again."""
    del seconds
    secret = f"canary-{uuid.uuid4().hex}"
    token = env.directory / "canary_token"
    token.write_text(secret)
    folder = env.directory / "crashed"
    folder.mkdir()
    with dumps_allowed():
        victim = env.stack.service(
            "crashed", start=False, K2_CONTROL_TOKEN="", K2_CONTROL_TOKEN_FILE=str(token), K2_START_MODE="standby"
        )  # fmt: skip
        victim.working_directory = folder
        victim.start()
    assert victim.process is not None
    proc = Path("/proc") / str(victim.process.pid)
    shown = b"".join((proc / name).read_bytes() for name in ("cmdline", "environ"))
    victim.signal(signal.SIGSEGV)
    victim.wait(END_SECONDS)
    code = victim.returncode
    left = [path.name for path in folder.iterdir()]
    victim.start()
    checks = {
        "not in ps": secret.encode() not in shown,
        f"crashed: {code}": code == -signal.SIGSEGV,
        f"no core dump: {left}": not left,
        "another program leaves one": dump_of_another(env.directory / "control", secret),
        "starts again": victim.alive,
        "not in the log": secret not in victim.log.read_text(errors="replace"),
    }
    victim.terminate()
    del env.stack.services["crashed"]
    return row("crash", checks, 1)
