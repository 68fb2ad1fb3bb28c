"""One GET to the exchange's REST API: budget, refusals, fail-over and limits, whatever the endpoint.

Each address is judged by itself: what one of them answers never keeps a request from the others. A request is tried at
each usable address in turn, each with its own time-out, until one gives a usable answer.
"""

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from types import TracebackType
from typing import NamedTuple, Self, TypeVar
from urllib.parse import urlsplit

import httpx2

from ingest.binance.dialer import Dialer
from ingest.binance.endpoints import Endpoints
from ingest.binance.http_client import DialerBackend, http_client
from ingest.binance.refusals import BadRequest, Forbidden, ForbiddenRequests, bounded_retry_after, error_body
from ingest.binance.shared_weight import SharedWeight
from ingest.binance.weight import Urgency, WeightBudget
from ingest.core.backoff import full_jitter
from ingest.core.clock import Clock
from ingest.core.errors import Banned, Reject, Retry
from ingest.metrics import Metrics
from ingest.settings import BinanceSettings

log = logging.getLogger(__name__)

T = TypeVar("T")

BODY_LIMIT = 4 * 1024 * 1024
EXCHANGE_INFO_LIMIT = 16 * 1024 * 1024
ERROR_BODY_LIMIT = 4096
TRADES_FIRST_SECONDS = 0.5
"""Pause of other streams while missing trades are being requested."""
STREAMS_AT_ONCE = 6
"""Requests of other streams at once: they never use all connections of the pool."""
_STATUS_LABELS = frozenset({"403", "418", "429", "2xx", "4xx", "5xx"})


class _Answer(NamedTuple):
    status: int
    headers: httpx2.Headers
    body: bytes


class RestClient:
    """GET requests within the weight budget; an address that has refused us is not asked until its time is over.

    An asynchronous context manager: it owns the connection pool.
    """

    def __init__(
        self,
        settings: BinanceSettings,
        metrics: Metrics,
        *,
        ssl_context: ssl.SSLContext | None,
        dialer: Dialer | None = None,
        clock: Clock = time,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._timeout = settings.rest_timeout_seconds
        self._endpoints = Endpoints((settings.rest_url, *settings.rest_fallback_urls))
        self._forbidden = ForbiddenRequests()
        self.budget = WeightBudget(
            settings.rest_weight_fraction, catch_up_fraction=settings.rest_weight_catch_up_fraction
        )
        self._uniform = uniform
        self._backoff = self._new_backoff()
        self._backoff_of_streams = self._new_backoff()
        self._slots_of_streams = asyncio.Semaphore(STREAMS_AT_ONCE)
        self.trades_first = False
        """Whether missing trades are being requested: other streams request nothing meanwhile."""
        self._backend = DialerBackend(dialer if dialer is not None else Dialer())
        self._http = http_client(self._backend, ssl_context=ssl_context, timeout_seconds=settings.rest_timeout_seconds)
        self._plain_only = ssl_context is None
        metrics.rest_weight_limit.set(self.budget.allowed())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    def _new_backoff(self) -> Iterator[float]:
        return full_jitter(initial=0.5, maximum=30.0, uniform=self._uniform)

    @property
    def address_count(self) -> int:
        """How many addresses are configured."""
        return len(self._endpoints)

    def set_limit(self, limit: int, url: str) -> None:
        """Take over the weight per minute that an address states in its ``exchangeInfo``."""
        self.budget.set_limit(limit, url)
        self._metrics.rest_weight_limit.set(self.budget.allowed(url))

    def set_catching_up(self, catching_up: bool) -> None:  # noqa: FBT001 -- a state, not a mode of this call
        """Use the larger share of the weight while trades are missing."""
        self.budget.catching_up = catching_up
        self._metrics.rest_weight_limit.set(self.budget.allowed())

    def share_address(self, processes: int) -> None:
        """Leave room for others: so many processes at most, this one included, use the same address."""
        self.budget.shared = SharedWeight(processes)

    async def get(
        self,
        path: str,
        params: Mapping[str, str],
        parse: Callable[[bytes], T],
        *,
        weight: int,
        limit: int = BODY_LIMIT,
        urgency: Urgency = Urgency.FINDING,
        skip: Collection[str] = (),
    ) -> tuple[T, str]:
        """Return the parsed body of a 200 answer of at most ``limit`` bytes, and the address that gave it.

        ``parse`` raises ``Reject`` for a body that cannot be used; ``skip`` names addresses that are not to be asked;
        ``urgency`` says what has to be left to others. Raises ``Banned`` while all addresses refuse us and the first to
        open is a ban, ``RequestRefused`` for a request that each of them refuses, ``Retry`` for everything else.
        """
        if urgency is not Urgency.STREAMS:
            return await self._get(path, params, parse, weight, limit, urgency, skip)
        async with self._slots_of_streams:
            if self.trades_first:
                raise Retry("trades are missing: their history is read first", after=TRADES_FIRST_SECONDS)
            return await self._get(path, params, parse, weight, limit, urgency, skip)

    async def _get(
        self,
        path: str,
        params: Mapping[str, str],
        parse: Callable[[bytes], T],
        weight: int,
        limit: int,
        urgency: Urgency,
        skip: Collection[str],
    ) -> tuple[T, str]:
        error: Retry | None = None
        for url in self._candidates(path, params, skip):
            delay = self.budget.take(weight, self._clock.monotonic(), url, urgency=urgency)
            if delay > 0.0:
                error = error or Retry("the weight budget is spent", after=delay)
                continue
            try:
                value = await self._ask(url, path, params, parse, weight, limit, urgency)
            except Retry as refusal:
                error = refusal
            else:
                self._endpoints.worked(url)
                if urgency is Urgency.STREAMS:
                    self._backoff_of_streams = self._new_backoff()
                else:
                    self._backoff = self._new_backoff()
                return value, url
        if error is None:
            raise self._closed()
        raise error

    def _candidates(self, path: str, params: Mapping[str, str], skip: Collection[str]) -> list[str]:
        """Return the addresses to ask, the best first. Raises ``Forbidden`` where each has refused this request."""
        now = self._clock.monotonic()
        usable = [endpoint.url for endpoint in self._endpoints.usable(now) if endpoint.url not in skip]
        open_to_it = [url for url in usable if not self._forbidden.holds(url, path, params, now)]
        if usable and not open_to_it:
            raise Forbidden(path, after=min(self._forbidden.holds(url, path, params, now) for url in usable))
        return open_to_it

    def _closed(self) -> Retry:
        after, banned = self._endpoints.opens_in(self._clock.monotonic())
        kind = Banned if banned else Retry
        return kind("every address of the exchange refuses us for now", after=after or next(self._backoff))

    async def _ask(
        self,
        url: str,
        path: str,
        params: Mapping[str, str],
        parse: Callable[[bytes], T],
        weight: int,
        limit: int,
        urgency: Urgency,
    ) -> T:
        """One request to one address. Raises ``Retry`` after its failure has been accounted for."""
        if self._plain_only and url.startswith("https:"):
            self.budget.lost(weight, self._clock.monotonic(), url)
            raise Retry(f"{url}: no TLS context was given", after=60.0)
        self._metrics.rest_weight.inc(weight)
        answered = False
        try:
            answer = await self._exchange(url + path, params, limit)
            answered = self._note(url, answer, weight)
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError, TimeoutError) as error:
            self._metrics.rest_requests.labels("error").inc()
            self._backend.blame(urlsplit(url).hostname or "")
            raise self._failed(url, f"{type(error).__name__}: {error}"[:300], urgency) from error
        finally:
            if not answered:
                self.budget.lost(weight, self._clock.monotonic(), url)
        if answer.status != 200:
            raise self._refused(url, path, params, answer, urgency)
        self._forbidden.worked(url)
        try:
            return parse(answer.body)
        except Reject as error:
            raise self._failed(url, f"unusable answer to {path}: {error}", urgency) from error

    async def _exchange(self, url: str, params: Mapping[str, str], limit: int) -> _Answer:
        patience = self._timeout * (3.0 if limit > BODY_LIMIT else 1.0)
        async with asyncio.timeout(patience), self._http.stream("GET", url, params=dict(params)) as response:
            most = limit if response.status_code == 200 else ERROR_BODY_LIMIT
            chunks: list[bytes] = []
            size = 0
            if response.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
                raise httpx2.DecodingError("compressed although not asked for")
            async for chunk in response.aiter_raw():
                size += len(chunk)
                if size > most:
                    if response.status_code != 200:
                        break  # an error page: its beginning says enough
                    raise httpx2.DecodingError(f"body larger than {limit} bytes")
                chunks.append(chunk)
            return _Answer(response.status_code, response.headers, b"".join(chunks))

    def _note(self, url: str, answer: _Answer, weight: int) -> bool:
        """Count an answer; returns whether it says how much weight is used."""
        label = str(answer.status) if answer.status in (403, 418, 429) else f"{answer.status // 100}xx"
        self._metrics.rest_requests.labels(label if label in _STATUS_LABELS else "error").inc()
        used = answer.headers.get("x-mbx-used-weight-1m", "")
        if not (used.isascii() and used.isdigit() and len(used) <= 9):
            return False
        self._metrics.rest_weight_used.set(int(used))
        self.budget.observed(int(used), self._clock.monotonic(), self._clock.time_ns() / 1e9, url, cost=weight)
        return True

    def _refused(self, url: str, path: str, params: Mapping[str, str], answer: _Answer, urgency: Urgency) -> Retry:
        """Account for an answer other than 200, and return what the caller raises."""
        status, now = answer.status, self._clock.monotonic()
        after = bounded_retry_after(status, answer.headers.get("retry-after", ""))
        if status in (418, 429, 451):
            return self._close(url, now, after, status)
        if status == 403:
            if self._forbidden.add(url, path, params, now):
                # Several different requests in a row: it concerns this host, not a request.
                return self._close(url, now, after, status)
            log.warning("REST request refused", extra={"url": url, "path": path, "status": status})
            return Forbidden(path, after=self._forbidden.holds(url, path, params, now))
        error = error_body(answer.body)
        if status == 400:
            return BadRequest(error.code, error.msg[:200])
        if after > 0.0:
            self._endpoints.refused(url, now, after)
        return self._failed(url, f"HTTP {status} {error.msg[:100]}", urgency)

    def _close(self, url: str, now: float, after: float, status: int) -> Retry:
        """Do not use this address for ``after`` seconds."""
        banned = status != 429
        self._endpoints.refused(url, now, after, banned=banned)
        log.error(
            "REST address refuses us: HTTP %d from %s; not used for %.0f s", status, url, after,
            extra={"url": url, "status": status, "seconds": after},
        )  # fmt: skip
        kind = Banned if banned else Retry
        return kind(f"{url}: HTTP {status}", after=self._soonest(after))

    def _soonest(self, after: float) -> float:
        """Seconds until a request may be sent somewhere: at once where another address is open."""
        opens, _ = self._endpoints.opens_in(self._clock.monotonic())
        return after if opens >= after else max(opens, 0.5)

    def _failed(self, url: str, why: str, urgency: Urgency) -> Retry:
        """Account for a failure of this address. What other streams ask for in vain does not make trades wait."""
        self._endpoints.failed(url, self._clock.monotonic())
        log.warning("REST request failed at %s: %s", url, why, extra={"url": url})
        backoff = self._backoff_of_streams if urgency is Urgency.STREAMS else self._backoff
        return Retry(f"{url}: {why}", after=next(backoff))
