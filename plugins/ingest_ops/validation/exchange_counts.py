"""The exchange's own count of trades of each symbol, from its 24 hour statistics: what a day should have shown.

The statistics end when they are asked for, so that they speak for a day that has just ended, and for no earlier one.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import replace

import requests

from ingest.decoding import decode_json
from ingest.http.answers import MiB, TooMuch, pieces
from ingest_ops.validation.day import Day

log = logging.getLogger(__name__)

PATH = "/api/v3/ticker/24hr"
MOST_BYTES = 32 * MiB
READ_BYTES = 64 * 1024
SPEAKS_FOR = 3600.0
"""Seconds after a day's end in which the statistics may be taken: they cover 23 of its hours at least."""
CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 30.0
COUNT = "exchange"
"""Key of the count in ``Day.symbols``."""


def with_exchange_counts(day: Day, url: str, now: float | None = None) -> Day:
    """The day with the exchange's counts of the symbols that it has, if it ended less than an hour ago.

    Trouble is logged and leaves the day as it is: earlier days still say what is usual. ``now``: seconds since 1970.
    """
    at = time.time_ns() / 1e9 if now is None else now
    if not url or not 0 <= at - day.end <= SPEAKS_FOR:
        return day
    try:
        counts = _counts(url)
    except (requests.RequestException, TooMuch, ValueError, KeyError, TypeError) as error:
        log.warning("no counts of trades from the exchange: %r", error, extra={"url": url, "day": str(day.date)})
        return day
    rows = {name: {**row, COUNT: counts[name]} if name in counts else row for name, row in day.symbols.items()}
    return replace(day, symbols=rows)


def _counts(url: str) -> Mapping[str, int]:
    """Trades of 24 hours by symbol, all symbols at once (weight 80)."""
    with requests.Session() as session:
        session.trust_env = False
        session.max_redirects = 0
        answer = session.get(
            f"{url.rstrip('/')}{PATH}", params={"type": "MINI"}, timeout=(CONNECT_SECONDS, ANSWER_SECONDS), stream=True
        )
        answer.raise_for_status()
        body = b"".join(pieces(answer.iter_content(READ_BYTES), most_bytes=MOST_BYTES))
        return {str(row["symbol"]): int(row["count"]) for row in decode_json(body)}


def kept_counts(day: Day, kept: Day) -> Day:
    """The day with the counts that were kept before, where it has none: they cannot be had later."""
    rows = {
        name: {COUNT: kept.symbols[name][COUNT], **row} if COUNT in kept.symbols.get(name, {}) else row
        for name, row in day.symbols.items()
    }
    return replace(day, symbols=rows)
