"""A day's raw samples out of Prometheus, through prometheus-api-client.

The client carries the requests, on a session of ``ingest_ops.common.prometheus``; zone-aware times and doubles on the
borders of chunks are dealt with here. Range selectors of instant queries give raw samples; ``query_range`` would carry
values forward over holes.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any

import requests
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util.retry import Retry as Retries

from ingest.core.errors import Retry, Stop
from ingest.decoding import decode_json, decoding
from ingest_ops.common.prometheus import CONNECT_SECONDS, connect, hardened
from ingest_ops.common.report_settings import DAY, ReportSettings
from ingest_ops.validation.day import Collector, Day, Raw, midnight
from ingest_ops.validation.symbol_counts import symbol_rows

SERVICE_METRICS = (
    "up",
    "process_start_time_seconds",
    "process_resident_memory_bytes",
    "ingest_build_info",
    "ingest_messages_received_total",
    "ingest_writer_active",
    "ingest_last_commit_timestamp_seconds",
    "ingest_handovers_total",
    "ingest_generation",
    "ingest_voids_total",
    "ingest_content_mismatches_total",
    "ingest_gaps_found_total",
    "ingest_gaps_filled_total",
    "ingest_gaps_open",
    "ingest_duplicates_dropped_total",
    "ingest_rejected_total",
    "ingest_producer_errors_total",
    "ingest_producer_recycles_total",
    "binance_reconnects_total",
    "binance_connection_rotations_total",
    "binance_connection_age_seconds",
    "binance_connection_status",
    "binance_connections_live",
    "binance_last_pong_timestamp_seconds",
    "binance_pongs_total",
    "binance_pong_timeouts_total",
)
SYMBOL_METRICS = {"received": "binance_messages_received_total", "committed": "ingest_trades_committed_total"}
PROMETHEUS_METRICS = (
    "process_start_time_seconds",
    "prometheus_rule_group_interval_seconds",
    "prometheus_rule_group_iterations_total",
    "prometheus_rule_group_iterations_missed_total",
    "prometheus_rule_group_last_evaluation_timestamp_seconds",
    "prometheus_rule_evaluation_failures_total",
)
AUDIT_METRICS = ("ingest_audit_missing_trades", "ingest_audit_duplicated_trades", "ingest_audit_other_faults")
"""What the auditor that watches all the time (``ingest audit --every``) shows."""


class PrometheusAway(Retry):
    """It does not answer, answers with an error of its own, or with less than everything: later it may."""


class PrometheusRefused(Stop):
    """It answers, and will not: an address, a credential or a query is wrong."""


class PrometheusSource:
    """One Prometheus. Not thread-safe; close it after use."""

    def __init__(self, settings: ReportSettings, *, session: requests.Session | None = None) -> None:
        self._settings = settings
        self._session = hardened(
            session or requests.Session(),
            ca_file=settings.prometheus_ca_file,
            token_file=settings.prometheus_token_file,
        )
        self._url = settings.prometheus_url.rstrip("/")
        self._client = connect(
            self._url,
            self._session,
            answer_seconds=settings.timeout_seconds,
            retry=Retries(
                total=settings.retries,
                backoff_factor=0.5,
                backoff_max=30,
                status_forcelist=(408, 429, 500, 502, 503, 504),
                allowed_methods=("GET",),
            ),
        )

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def day(self, when: date) -> Day:
        """Read a day. A day without any sample is a day: empty.

        Raises ``PrometheusAway`` and ``PrometheusRefused``.
        """
        service, own = self._settings.selector, self._settings.prometheus_selector
        series = self._read(when, f'{{__name__=~"{"|".join(SERVICE_METRICS)}",{service}}}')
        rules = self._rules()
        return Day(
            date=when,
            scrape_seconds=self._settings.scrape_seconds,
            series=series,
            alerts=self._read(when, 'ALERTS{alertstate="firing"}'),
            about=(
                *self._read(when, f'{{__name__=~"{"|".join(PROMETHEUS_METRICS)}",{own}}}'),
                *self._read(when, f'{{__name__=~"{"|".join(AUDIT_METRICS)}"}}'),
            ),
            symbols=self._symbols(when, series),
            rules=rules,
            rules_sha256=hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest(),
            prometheus=str(self._get("status/buildinfo").get("version", "")),
        )

    def _symbols(self, when: date, series: Sequence[Raw]) -> dict[str, dict[str, int]]:
        """Daily counts by symbol: the samples themselves are fifty times the rest of the day and are not kept."""
        parts = {
            key: self._collect(when, f"{name}{{{self._settings.selector}}}") for key, name in SYMBOL_METRICS.items()
        }
        start, end = midnight(when), midnight(when) + DAY
        return symbol_rows(series, parts["received"].series(), parts["committed"].series(), start, end)

    def _read(self, when: date, selector: str) -> tuple[Raw, ...]:
        return tuple(self._collect(when, selector).series())

    def _collect(self, when: date, selector: str) -> Collector:
        collector = Collector.around(when)
        # From a second earlier: whether a range includes its left end depends on Prometheus's version.
        start = collector.start - 1.0
        while start < collector.end:
            end = min(start + self._settings.chunk_seconds, collector.end)
            with _mapped(self._url):
                for row in self._client.get_metric_range_data(selector, start_time=_utc(start), end_time=_utc(end)):
                    collector.add(row["metric"], row["values"])
            start = end
        return collector

    def _rules(self) -> tuple[dict[str, Any], ...]:
        found = []
        for group in self._get("rules", type="alert").get("groups", ()):
            found += [
                {
                    "name": rule["name"],
                    "severity": rule.get("labels", {}).get("severity", ""),
                    "group": f"{group['file']};{group['name']}",
                    "interval": float(group["interval"]),
                    "query": rule["query"],
                    "for": rule.get("duration", 0),
                }
                for rule in group["rules"]
                if rule.get("type", "alerting") == "alerting"
            ]
        return tuple(sorted(found, key=lambda rule: (rule["group"], rule["name"], rule["query"])))

    def _get(self, path: str, **parameters: str) -> dict[str, Any]:
        with _mapped(self._url):
            answer = self._session.get(
                f"{self._url}/api/v1/{path}",
                params=parameters,
                timeout=(CONNECT_SECONDS, self._settings.timeout_seconds),
            )
            if answer.status_code != 200:
                raise PrometheusApiClientException(f"HTTP Status Code {answer.status_code} ({answer.content[:200]!r})")
            with decoding():
                data: dict[str, Any] = decode_json(answer.content)["data"]
            return data


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


@contextmanager
def _mapped(url: str) -> Iterator[None]:
    """The only place that knows what the client and its transport raise."""
    try:
        yield
    except PrometheusApiClientException as error:
        text = str(error)
        kind = PrometheusRefused if text.startswith("HTTP Status Code 4") else PrometheusAway
        raise kind(f"{url}: {text[:300]}") from error
    except requests.exceptions.SSLError as error:
        raise PrometheusRefused(f"{url}: {error}") from error
    except (requests.exceptions.TooManyRedirects, requests.exceptions.InvalidURL) as error:
        raise PrometheusRefused(f"{url}: {error}") from error
    except requests.RequestException as error:
        raise PrometheusAway(f"{url}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PrometheusAway(f"{url} answered something else: {error!r}") from error
