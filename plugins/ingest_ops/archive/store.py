"""The certificates of a table: files by day and sequence, beside the table."""

import re
from collections.abc import Iterable
from datetime import date
from typing import Final

from ingest_ops.archive.certificate import Certificate, CertificateError, decode, encode
from ingest_ops.archive.storage import Storage

_FILE: Final = re.compile(r"(\d{4})-([0-9a-f]{16})\.json")


class CertificateStore:
    """Certificates below ``<location>/<table>/<day>/``."""

    def __init__(self, storage: Storage, location: str) -> None:
        self._storage = storage
        self._location = location.rstrip("/")

    def folder(self, day: date) -> str:
        """Where the certificates of a day are."""
        return f"{self._location}/{day.isoformat()}"

    def days(self) -> list[date]:
        """Days that have a certificate."""
        found = []
        for name in self._storage.names(self._location):
            try:
                found.append(date.fromisoformat(name))
            except ValueError:
                continue
        return [day for day in found if self.names(day)]

    def names(self, day: date) -> list[str]:
        """Names of a day's certificates, the oldest first."""
        return [name for name in self._storage.names(self.folder(day)) if _FILE.fullmatch(name)]

    def all(self, day: date) -> list[Certificate]:
        """Every certificate of a day, the oldest first. Raises ``CertificateError``."""
        found = [self.read(day, name) for name in self.names(day)]
        # Two runs at once, in an object store, may have given the same number.
        return sorted(found, key=lambda one: (one.sequence, one.created_at_us))

    def read(self, day: date, name: str) -> Certificate:
        """One certificate. Raises ``CertificateError``."""
        found = decode(self._storage.read(f"{self.folder(day)}/{name}"), f"{day}/{name}")
        if found.day != day.isoformat() or name != file_name(found):
            raise CertificateError(f"{day}/{name}: is the certificate of {found.day}, {file_name(found)}")
        return found

    def current(self, day: date, live: Iterable[str], location: str) -> Certificate | None:
        """The latest certificate that names the files that the day has now; else the latest one; None without any.

        ``live``: locations of the day's files, below ``location``.
        """
        found = self.all(day)
        files = set(live)
        matching = [one for one in found if {f"{location}/{file.path}" for file in one.files} == files]
        chosen = matching or found
        return chosen[-1] if chosen else None

    def write(self, certificate: Certificate, locator: bytes) -> None:
        """Write a certificate; its locator first."""
        folder = self.folder(date.fromisoformat(certificate.day))
        self._storage.write(f"{folder}/{certificate.locator.path}", locator)
        self._storage.write(f"{folder}/{file_name(certificate)}", encode(certificate))

    def locator(self, certificate: Certificate) -> bytes:
        """The sums of a certificate. Raises ``FileNotFoundError``."""
        folder = self.folder(date.fromisoformat(certificate.day))
        return self._storage.read(f"{folder}/{certificate.locator.path}")

    def remove_after(self, day: date, sequence: int, before: float | None = None) -> list[str]:
        """Remove certificates that were written for a commit that never came, if they are older than ``before``."""
        gone = []
        for name in self._storage.names(self.folder(day), before):
            number = name.partition("-")[0]
            if number.isdecimal() and int(number) > sequence:
                self._storage.remove(f"{self.folder(day)}/{name}")
                gone.append(name)
        return gone


def file_name(certificate: Certificate) -> str:
    """Name of a certificate's file: its sequence and the beginning of its digest."""
    return f"{certificate.sequence:04d}-{certificate.digest()[:16]}.json"
