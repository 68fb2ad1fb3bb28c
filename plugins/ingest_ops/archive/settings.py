"""Where the archive reads and writes. Read from the environment (``K2_ARCHIVE_...``)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ingest.command.arguments import is_url
from ingest.command.masking import refused
from ingest.core.errors import BadSettings
from ingest_ops.common.secret import cause, content

PREFIX = "K2_ARCHIVE_"
_FROM_FILES = ("catalog_options", "kafka_options", "schema_registry_password")
"""Secrets that ``<name>_file`` may hold; that of the catalog's address is read where it is used."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True, kw_only=True)
class ArchiveSettings:
    """Settings of the archive; each is ``K2_ARCHIVE_<FIELD>``."""

    warehouse: str = "archive"
    """Folder or URL (``s3://bucket/prefix``) of the tables' files."""
    catalog_uri: str = ""
    """SQLAlchemy URL of the catalog. Default: SQLite in ``catalog.db`` in the warehouse's folder."""
    catalog_uri_file: Path | None = None
    """File with that URL in its place: it may have a password."""
    catalog_options: tuple[str, ...] = ()
    """Further options of PyIceberg's catalog, ``name=value`` each, such as ``s3.endpoint=http://minio:9000``."""
    catalog_options_file: Path | None = None
    """File with such options, one in each line: they may be secret, and hold commas."""
    namespace: str = "market"
    table: str = "trades"
    certificates: str = ""
    """Folder or URL of the certificates. Default: ``certificates`` in the warehouse."""
    work: Path = Path(".cache/archive")
    """Folder for the spool: about 200 bytes for each record of a day, removed when the day is committed."""
    bootstrap_servers: str = "127.0.0.1:29092"
    topic: str = "market.crypto.trades.binance"
    positions_topic: str = ""
    """Default: ``<topic>.positions``."""
    kafka_options: tuple[str, ...] = ()
    """Options of librdkafka, ``name=value`` each."""
    kafka_options_file: Path | None = None
    """File with such options, one in each line: they may be secret, and hold commas."""
    schema_registry_url: str = "http://127.0.0.1:8081/apis/ccompat/v7"
    schema_registry_user: str = ""
    schema_registry_password: str = ""
    schema_registry_password_file: Path | None = None
    """File with the password in its place."""
    rest_url: str = "https://api.binance.com"
    """The exchange's REST API, asked whether a quiet symbol has further trades; empty: not asked."""
    files_url: str = "https://data.binance.vision"
    """Base address of the exchange's daily files; empty: no comparison."""
    signing_key: Path | None = None
    """Ed25519 private key (PEM); without it certificates are not signed."""
    trusted_key: str = ""
    """Public key, hexadecimal, that ``archive verify`` demands."""
    grace_seconds: float = 600.0
    """After midnight, until a quiet symbol's day may be called finished."""
    early_seconds: float = 3600.0
    """How long before midnight reading begins: by the clock with which records were written."""
    timeout_seconds: float = 60.0
    bucket_rows: int = 8_000_000
    """Trades in one data file, about; a symbol is never divided."""
    workers: int = 2

    @property
    def is_folder(self) -> bool:
        """Whether the warehouse is a folder of this machine."""
        return "://" not in self.warehouse

    @property
    def positions(self) -> str:
        """Name of the positions topic."""
        return self.positions_topic or f"{self.topic}.positions"

    @property
    def kafka(self) -> dict[str, str]:
        """Options of librdkafka."""
        return _pairs(self.kafka_options)

    @property
    def catalog(self) -> dict[str, str]:
        """Properties of PyIceberg's catalog."""
        warehouse = f"file://{Path(self.warehouse).absolute()}" if self.is_folder else self.warehouse
        stated = content(self.catalog_uri_file).strip() if self.catalog_uri_file else self.catalog_uri
        uri = stated or f"sqlite:///{Path(self.warehouse).absolute() / 'catalog.db'}"
        return {"type": "sql", "uri": uri, "warehouse": warehouse, **_pairs(self.catalog_options)}

    @property
    def certificates_location(self) -> str:
        """Where certificates are."""
        return self.certificates or f"{self.catalog['warehouse'].rstrip('/')}/certificates"

    @classmethod
    def load(cls, environment: Mapping[str, str]) -> "ArchiveSettings":
        """Read ``K2_ARCHIVE_<FIELD>``. Raises ``BadSettings`` with every problem at once, unknown names included."""
        known = {PREFIX + field.name.upper(): field.name for field in fields(cls)}
        problems = [
            f"{name}: unknown setting" for name in sorted(environment) if name.startswith(PREFIX) and name not in known
        ]
        found: dict[str, Any] = {}
        for variable, name in known.items():
            raw = environment.get(variable, "").strip()
            if variable not in environment or (not raw and not isinstance(getattr(cls(), name), str)):
                continue
            try:
                found[name] = _convert(raw, getattr(cls(), name), name)
            except ValueError:
                problems.append(f"{variable}={refused(raw)!r}: allowed is a number, 0 or more")
        for name in _FROM_FILES:
            _read_file(name, found, problems)
        settings = cls(**found)
        problems += settings.problems()
        if problems:
            raise BadSettings(problems)
        return settings

    def problems(self) -> list[str]:
        """What is wrong with the values."""
        found = [
            f"{PREFIX}{name.upper()}={refused(getattr(self, name))!r}: allowed is [a-z][a-z0-9_]*"
            for name in ("namespace", "table")
            if not _NAME.fullmatch(getattr(self, name))
        ]
        for name in ("rest_url", "files_url", "schema_registry_url"):
            value = getattr(self, name)
            if value and not is_url(value, ("http", "https")):
                found.append(f"{PREFIX}{name.upper()}={refused(value)!r}: allowed is http(s)://host[:port][/path]")
        for name in ("catalog_options", "kafka_options"):
            # Nothing of an option is shown: what a comma cut off a password would be "not name=value".
            found += [
                f"{PREFIX}{name.upper()}: option {number} is not name=value; one that holds a comma goes into "
                f"{PREFIX}{name.upper()}_FILE"
                for number, one in enumerate(getattr(self, name), 1)
                if not one.partition("=")[0] or "=" not in one
            ]
        if self.catalog_uri_file is not None:
            if self.catalog_uri:
                found.append(f"{PREFIX}CATALOG_URI and {PREFIX}CATALOG_URI_FILE: allowed is one of them")
            else:
                try:
                    content(self.catalog_uri_file)
                except OSError as error:
                    shown = refused(self.catalog_uri_file)
                    found.append(f"{PREFIX}CATALOG_URI_FILE={shown!r}: cannot be read ({cause(error)})")
        elif not self.is_folder and not self.catalog_uri:
            found.append(
                f"{PREFIX}CATALOG_URI: a warehouse that is no folder needs one, such as sqlite:////data/catalog.db"
            )
        if not self.warehouse:
            found.append(f"{PREFIX}WAREHOUSE: is empty")
        if self.bucket_rows < 1 or not 1 <= self.workers <= 64:
            found.append(f"{PREFIX}BUCKET_ROWS, _WORKERS: allowed is 1 or more, at most 64 workers")
        return found


def _convert(raw: str, before: object, name: str) -> object:
    if isinstance(before, tuple):
        return tuple(part.strip() for part in raw.split(",") if part.strip())
    if isinstance(before, Path) or name == "signing_key" or name.endswith("_file"):
        return Path(raw)
    if isinstance(before, int | float):
        value = type(before)(raw)
        if not 0 <= value < float("inf"):
            raise ValueError(raw)
        return value
    return raw


def _read_file(name: str, found: dict[str, Any], problems: list[str]) -> None:
    """Replace a value by the content of its file, where one is named."""
    variable, path = PREFIX + name.upper(), found.get(f"{name}_file")
    if path is None:
        return
    if found.get(name):
        problems.append(f"{variable} and {variable}_FILE: allowed is one of them")
        return
    try:
        text = content(path).rstrip("\r\n")
    except OSError as error:
        problems.append(f"{variable}_FILE={refused(path)!r}: cannot be read ({cause(error)})")
        return
    is_list = isinstance(getattr(ArchiveSettings, name), tuple)
    found[name] = tuple(line.strip() for line in text.splitlines() if line.strip()) if is_list else text


def _pairs(options: tuple[str, ...]) -> dict[str, str]:
    return dict(one.split("=", 1) for one in options)
