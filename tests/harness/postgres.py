"""A real PostgreSQL in a folder, over a socket of its own. Knows no pytest."""

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

DEBIAN = Path("/usr/lib/postgresql")


class PostgresUnavailable(Exception):
    """It cannot run here; the text says what to install."""


class Postgres:
    """One cluster, thrown away at the end."""

    def __init__(self) -> None:
        # A short path: a socket's may have 107 characters.
        self._folder = Path(tempfile.mkdtemp(prefix="k2-pg-"))
        self._as: list[str] = []

    @property
    def url(self) -> str:
        """For SQLAlchemy."""
        return f"postgresql+psycopg2://k2@/postgres?host={self._folder}"

    def __enter__(self) -> Self:
        programs = sorted(DEBIAN.glob("*/bin/initdb")) or [Path(found) for found in [shutil.which("initdb")] if found]
        if not programs:
            raise PostgresUnavailable("no initdb: install PostgreSQL (Debian: apt-get install postgresql)")
        self._bin = programs[-1].parent
        if os.geteuid() == 0:  # it refuses to run as root
            user = pwd.getpwnam("postgres")
            os.chown(self._folder, user.pw_uid, user.pw_gid)
            self._as = ["runuser", "-u", "postgres", "--"]
        data = self._folder / "data"
        self._run("initdb", "-D", str(data), "-U", "k2", "-A", "trust", "--no-sync")
        options = f"-k {self._folder} -c listen_addresses='' -c fsync=off"
        self._run("pg_ctl", "-D", str(data), "-w", "-l", str(self._folder / "log"), "-o", options, "start")
        return self

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._as, str(self._bin / program), *arguments], cwd=self._folder, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, check=False, timeout=120,
        )  # fmt: skip
        if done.returncode:
            raise PostgresUnavailable(f"{program}: {done.stderr}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-w", "-m", "immediate", "stop")
        shutil.rmtree(self._folder, ignore_errors=True)
