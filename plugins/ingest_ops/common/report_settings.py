"""What is asked of a day and of a week, and where the samples are. Read from the environment (``K2_REPORT_...``)."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from ingest.command.masking import refused
from ingest.core.errors import BadSettings

PREFIX = "K2_REPORT_"
MB = 2**20
DAY = 86_400.0

_ADDRESS = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?")
_SELECTOR = re.compile(r'[a-zA-Z_]\w*=~?"[^"\\{}]*"(,[a-zA-Z_]\w*=~?"[^"\\{}]*")*')


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The thresholds. Times in seconds, sizes in MB (2**20 bytes)."""

    memory_mb: float = 400.0
    """No sample of the resident memory reaches this."""
    memory_growth_mb_per_day: float = 50.0
    """The growth's 99 % interval, the pace of the second half and the last level stay below this, each day."""
    memory_growth_mb_per_week: float = 50.0
    """The same over the week, for processes that lived at least three days of it."""
    rate_per_second: float = 10.0
    """Messages per second: the mean and every window of ``rate_window_seconds`` are above this."""
    rate_window_seconds: float = 300.0
    reconnects: int = 0
    """Unscheduled reconnections, at most."""
    restarts: int = 0
    """Restarts outside of deployments, at most."""
    unreported_upgrades: int = 1
    """Restarts with another version but without a deployment's report that count as planned, a day."""
    shards: tuple[str, ...] = ()
    """Values of the label ``shard`` that must be there; those seen in any day of the window are expected anyway."""
    symbols: tuple[str, ...] = ()
    """Symbols that must be there; those seen in any day of the window are expected anyway."""
    connection_lifetime_seconds: float = 14_400.0
    connection_lifetime_jitter: float = 0.1
    connection_age_seconds: float = 14_520.0
    """No connection grows older: the lifetime and two minutes."""
    ping_interval_seconds: float = 180.0
    pong_age_seconds: float = 195.0
    """The last pong is never older: the interval and fifteen seconds."""
    pongs_of_480: float = 470.0
    """Pongs, for each 480 that the connected time gives room for, at least."""
    commit_age_seconds: float = 10.0
    """A slot is fresh if the last commit is younger."""
    freshness_percent: float = 99.9
    lost: int = 0
    duplicated: int = 0
    other_faults: int = 0
    """Trades altered, reordered, unknown or unaccounted for, at most."""
    alerts: int = 0
    """Alerts of the judged severities that fired, at most."""
    alert_severities: tuple[str, ...] = ("critical", "high", "page")
    alerts_judged: tuple[str, ...] = ("BinanceMemoryHigh", "BinanceMemoryLeakDetected")
    """Judged whatever their severity: what these say is a criterion of its own."""
    alerts_ignored: tuple[str, ...] = ("Watchdog",)
    """Alerts that fire when all is well."""
    alerts_required: tuple[str, ...] = (
        "IngestNoWriter",
        "IngestSplitBrain",
        "IngestTargetAbsent",
        "IngestDataLoss",
        "IngestDuplicate",
        "BinanceMemoryCritical",
        "BinanceMemoryHigh",
        "BinanceMemoryLeakDetected",
    )
    """Names that must be among the loaded rules; at least one rule of a judged severity must be in any case."""
    least_coverage: float = 0.99
    """Share of the slots of a day for which each series of a check must have a sample."""
    audit_within_seconds: float = 129_600.0
    """An audit speaks for a day if it ran after the day's end, and not later than this."""

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """Where the samples, the audits and the reports are."""

    prometheus_url: str = "http://127.0.0.1:9090"
    prometheus_public_url: str = ""
    """Where a reader of the report finds Prometheus, for links; empty: at ``prometheus_url``."""
    grafana_url: str = ""
    """Public base address of Grafana, for links in reports."""
    docs_url: str = ""
    """Public address of the folder ``docs``, for links in reports."""
    prometheus_token_file: Path | None = None
    """A file with a bearer token, where Prometheus asks for one; read for each request."""
    prometheus_ca_file: Path | None = None
    """PEM bundle to verify Prometheus by; without it certifi's. Verification cannot be switched off."""
    selector: str = 'job="ingest"'
    """What selects the service's series."""
    prometheus_selector: str = 'job="prometheus"'
    """What selects Prometheus's series about itself."""
    scrape_seconds: float = 15.0
    timeout_seconds: float = 60.0
    retries: int = 4
    chunk_seconds: float = 10_800.0
    """Raw samples asked for at once."""
    reports: Path = Path("reports")
    """The folder of all reports."""
    audit_command: str = ""
    """A command line of the auditor; the daily run executes it first and keeps what it says."""
    exchange_url: str = ""
    """REST address of the exchange, e.g. https://api.binance.com: its own count of each symbol's trades in the last 24
    hours is kept with a day that is read within an hour of its end. Empty: symbols are judged by other days alone."""
    label: str = ""
    """A mark beside the verdict, where it alone could mislead: "staging", "generated days"."""
    limits: Limits = Limits()

    @property
    def folder(self) -> Path:
        """Where this report goes."""
        return self.reports / "validation"

    @property
    def days(self) -> Path:
        """Where the days are kept as data."""
        return self.folder / "days"

    @classmethod
    def load(cls, environment: Mapping[str, str]) -> "ReportSettings":
        """Read ``K2_REPORT_<FIELD>``. Raises ``BadSettings`` with every problem at once, unknown names included."""
        problems: list[str] = []
        limits = _read(Limits(), environment, problems)
        settings = _read(ReportSettings(), environment, problems)
        known = {PREFIX + field.name.upper() for part in (Limits, cls) for field in fields(part)} - {PREFIX + "LIMITS"}
        problems += [
            f"{name}: unknown setting" for name in sorted(environment) if name.startswith(PREFIX) and name not in known
        ]
        for name in ("selector", "prometheus_selector"):
            if not _SELECTOR.fullmatch(value := getattr(settings, name)):
                problems.append(f'{PREFIX}{name.upper()}={refused(value)!r}: allowed is label="value", comma separated')
        for name in ("prometheus_url", "prometheus_public_url", "grafana_url", "docs_url", "exchange_url"):
            address = getattr(settings, name)
            if (address or name == "prometheus_url") and not _ADDRESS.fullmatch(address):
                problems.append(f"{PREFIX}{name.upper()}={refused(address)!r}: allowed is http(s)://host[:port][/path]")
        if not 0 < limits.least_coverage <= 1:
            problems.append(f"{PREFIX}LEAST_COVERAGE={limits.least_coverage}: allowed is more than 0, at most 1")
        if settings.scrape_seconds <= 0 or settings.chunk_seconds < 60 or settings.timeout_seconds <= 0:
            problems.append(f"{PREFIX}SCRAPE_SECONDS, _CHUNK_SECONDS, _TIMEOUT_SECONDS: allowed is more than 0 (60)")
        if problems:
            raise BadSettings(problems)
        return replace(settings, limits=limits)


Part = TypeVar("Part", Limits, ReportSettings)


def _read(part: Part, environment: Mapping[str, str], problems: list[str]) -> Part:
    found: dict[str, Any] = {}
    for field in fields(part):
        raw = environment.get(PREFIX + field.name.upper(), "").strip()
        if not raw or field.name == "limits":
            continue
        before = getattr(part, field.name)
        try:
            found[field.name] = _convert(raw, before)
        except ValueError:
            kind = "a whole number" if isinstance(before, int) else "a number, 0 or more"
            problems.append(f"{PREFIX}{field.name.upper()}={refused(raw)!r}: allowed is {kind}")
    return replace(part, **found)


def _convert(raw: str, before: object) -> object:
    match before:
        case tuple():
            return tuple(part.strip() for part in raw.split(",") if part.strip())
        case int() | float():
            value = type(before)(raw)
            if not 0 <= value < math.inf:
                raise ValueError(raw)
            return value
        case Path() | None:
            return Path(raw)
        case _:
            return raw
