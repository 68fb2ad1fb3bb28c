"""One GET to the exchange's REST API: budget, bans, fail-over and limits, whatever the endpoint.

Every outcome that is no usable answer becomes ``Retry`` or ``Banned`` here, in one place (`_refused`, `_failed`).
"""

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import NoReturn, Self

import httpx2
import msgspec

from ingest.binance.endpoints import Endpoints
from ingest.binance.weight import WeightBudget
from ingest.core.backoff import full_jitter
from ingest.core.clock import Clock
from ingest.core.errors import Banned, Retry
from ingest.metrics import Metrics
from ingest.settings import BinanceSettings

log = logging.getLogger(__name__)

BODY_LIMIT = 4 * 1024 * 1024
EXCHANGE_INFO_LIMIT = 16 * 1024 * 1024
ERROR_BODY_LIMIT = 4096
RETRY_AFTER_429 = 60.0
RETRY_AFTER_418 = 120.0
"""The shortest ban that the exchange hands out, seconds [rest]."""
RETRY_AFTER_FORBIDDEN = 300.0
RETRY_AFTER_LIMIT = 4 * 86_400.0
"""The longest ban is three days [rest]; a larger header is nonsense."""
UNKNOWN_SYMBOL = -1121
SLOW_ANSWERS = frozenset({"exchangeInfo"})


class BadRequest(Retry):
    """The exchange refused what we asked for (HTTP 400): asking again soon will not help [rest]."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"refused: {code} {message}", after=60.0)
        self.code = code


class _ErrorBody(msgspec.Struct):
    code: int = 0
    msg: str = ""


_error_body = msgspec.json.Decoder(_ErrorBody).decode


class RestClient:
    """GET requests within the weight budget; nothing is sent while the exchange has told us to wait.

    An asynchronous context manager: it owns the connection pool.
    """

    def __init__(
        self,
        settings: BinanceSettings,
        metrics: Metrics,
        *,
        ssl_context: ssl.SSLContext | None,
        clock: Clock = time,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._timeout = settings.rest_timeout_seconds
        self._endpoints = Endpoints((settings.rest_url, *settings.rest_fallback_urls))
        self.budget = WeightBudget(settings.rest_weight_fraction)
        self._uniform = uniform
        self._backoff = self._new_backoff()
        self._blocked_until = float("-inf")
        self._banned = False
        self._answered_by = self._endpoints.best(clock.monotonic())
        self._http = httpx2.AsyncClient(
            verify=ssl_context if ssl_context is not None else False,
            trust_env=False,  # no proxy, no netrc, no CA from the environment: settings decide
            follow_redirects=False,
            timeout=httpx2.Timeout(settings.rest_timeout_seconds),
            limits=httpx2.Limits(max_connections=8, max_keepalive_connections=4, keepalive_expiry=30.0),
            headers={
                "X-MBX-TIME-UNIT": "MICROSECOND",
                "Accept": "application/json",
                "Accept-Encoding": "identity",  # a body limit means something only before inflation
            },
        )
        self._plain_only = ssl_context is None
        metrics.rest_weight_limit.set(self.budget.allowed)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    def _new_backoff(self) -> Iterator[float]:
        return full_jitter(initial=0.5, maximum=30.0, uniform=self._uniform)

    def blocked(self) -> float:
        """Seconds for which nothing may be sent, 0.0 for none."""
        return max(0.0, self._blocked_until - self._clock.monotonic())

    def set_limit(self, limit: int) -> None:
        """Take over the weight per minute that ``exchangeInfo`` states."""
        self.budget.set_limit(limit, self._clock.monotonic())
        self._metrics.rest_weight_limit.set(self.budget.allowed)

    async def get(self, path: str, params: Mapping[str, str], *, weight: int, limit: int = BODY_LIMIT) -> bytes:
        """Return the body of a 200 answer, at most ``limit`` bytes.

        Raises ``Banned`` inside a ban, ``BadRequest`` for a request that the exchange refuses, ``Retry`` for everything
        else: budget spent, 429, 5xx, time-out, no connection, a redirect, a body that is too large.
        """
        now = self._clock.monotonic()
        if now < self._blocked_until:
            kind = Banned if self._banned else Retry
            raise kind("the exchange told us to wait", after=self._blocked_until - now)
        delay = self.budget.take(weight, now)
        if delay > 0.0:
            raise Retry("the weight budget is spent", after=delay)
        self._metrics.rest_weight.inc(weight)
        url = self._endpoints.best(now)
        if self._plain_only and url.startswith("https:"):
            raise Retry(f"{url}: no TLS context was given", after=60.0)
        try:
            status, headers, body = await self._exchange(url + path, params, limit)
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError, TimeoutError) as error:
            self._metrics.rest_requests.labels("error").inc()
            self._failed(url, f"{type(error).__name__}: {error}"[:300], error)
        self._note(status, headers)
        if status != 200:
            self._refused(url, status, headers, body)
        self._endpoints.worked(url)
        self._answered_by = url
        self._backoff = self._new_backoff()
        return body

    def unusable(self, why: str) -> Retry:
        """The error for a 200 answer that cannot be used: its address is avoided for a while."""
        self._endpoints.failed(self._answered_by, self._clock.monotonic())
        log.warning("unusable answer from the REST API: %s", why)
        return Retry(f"unusable answer: {why}", after=max(0.5, next(self._backoff)))

    async def _exchange(self, url: str, params: Mapping[str, str], limit: int) -> tuple[int, httpx2.Headers, bytes]:
        patience = self._timeout * (3.0 if limit > BODY_LIMIT else 1.0)
        async with asyncio.timeout(patience), self._http.stream("GET", url, params=dict(params)) as response:
            wanted = limit if response.status_code == 200 else ERROR_BODY_LIMIT
            chunks: list[bytes] = []
            size = 0
            if response.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
                raise httpx2.DecodingError("compressed although not asked for")
            async for chunk in response.aiter_raw():
                size += len(chunk)
                if size > wanted:
                    if response.status_code != 200:
                        break  # an error page: its beginning says enough
                    raise httpx2.DecodingError(f"body larger than {limit} bytes")
                chunks.append(chunk)
            return response.status_code, response.headers, b"".join(chunks)

    def _note(self, status: int, headers: httpx2.Headers) -> None:
        label = str(status) if status in (403, 418, 429) else f"{status // 100}xx"
        self._metrics.rest_requests.labels(
            label if label in ("403", "418", "429", "2xx", "4xx", "5xx") else "error"
        ).inc()
        used = headers.get("x-mbx-used-weight-1m", "")
        if used.isascii() and used.isdigit() and len(used) <= 9:
            self._metrics.rest_weight_used.set(int(used))
            self.budget.observed(int(used), self._clock.monotonic(), self._clock.time_ns() / 1e9)

    def _refused(self, url: str, status: int, headers: httpx2.Headers, body: bytes) -> NoReturn:
        """Turn an answer other than 200 into what the caller does next."""
        now = self._clock.monotonic()
        if status == 429:
            raise self._block(now, _retry_after(headers, RETRY_AFTER_429), banned=False, text="HTTP 429")
        if status == 418:
            raise self._block(now, _retry_after(headers, RETRY_AFTER_418), banned=True, text="HTTP 418, address banned")
        if status in (403, 451):
            # Not documented for what; a CDN or a region. Another address of the same exchange may still answer.
            log.error("%s answers HTTP %d: this host may not use it", url, status)
            after = _retry_after(headers, RETRY_AFTER_FORBIDDEN)
            self._endpoints.failed(url, now, seconds=after)
            if self._endpoints.another(now):
                raise Retry(f"{url}: HTTP {status}", after=0.5)
            raise self._block(now, after, banned=True, text=f"HTTP {status} from every address")
        if status == 400:
            refusal = _refusal(body)
            raise BadRequest(refusal.code, refusal.msg[:200])
        self._failed(url, f"HTTP {status} {_refusal(body).msg[:100]}", None, _retry_after(headers, 0.0))

    def _block(self, now: float, after: float, *, banned: bool, text: str) -> Retry:
        self._blocked_until = max(self._blocked_until, now + after)
        self._banned = banned
        log.error("REST stopped for %.0f s: %s", after, text)
        return (Banned if banned else Retry)(text, after=after)

    def _failed(self, url: str, why: str, cause: Exception | None, after: float = 0.0) -> NoReturn:
        """Turn a failure of this address into a retry at the next one."""
        self._endpoints.failed(url, self._clock.monotonic())
        log.warning("REST call failed at %s: %s", url, why)
        raise Retry(f"{url}: {why}", after=max(after, next(self._backoff))) from cause


def _retry_after(headers: httpx2.Headers, default: float) -> float:
    """Seconds from ``Retry-After`` (whole seconds [rest]); ``default`` where it is no such number."""
    text = headers.get("retry-after", "").strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        return default
    return min(max(1.0, float(text)), RETRY_AFTER_LIMIT)


def _refusal(body: bytes) -> _ErrorBody:
    try:
        return _error_body(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _ErrorBody(0, body[:100].decode("utf-8", "replace"))
