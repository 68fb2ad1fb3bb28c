import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from ingest.metrics import Metrics
from ingest.service.inbox import REPORTS
from ingest.service.parts import Parts, build
from ingest.settings import load


@pytest.fixture
async def parts() -> AsyncIterator[Parts]:
    settings = load(
        {
            "K2_BINANCE_SYMBOLS": "BTCUSDT",
            "K2_METRICS_HOST": "127.0.0.1",
            "K2_METRICS_PORT": "0",
        }
    )
    async with AsyncExitStack() as stack:
        yield await build(settings, Metrics(process=False), stack, asyncio.Event())


async def test_every_report_of_the_threads_has_a_handler(parts: Parts) -> None:
    assert set(parts.handlers()) == set(REPORTS)


async def test_what_was_built_stays_as_it_was_built(parts: Parts) -> None:
    for record, name in ((parts, "inbox"), (parts.writing, "leadership"), (parts.receiving, "feed")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, name, None)


async def test_nothing_runs_before_it_is_started(parts: Parts) -> None:
    threads = parts.writing.threads
    assert not any(thread.is_alive() for thread in (threads.writer, threads.follower, threads.topics, threads.stable))
