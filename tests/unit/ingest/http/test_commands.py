"""Ids of commands are remembered within a bound."""

from http import HTTPStatus

import pytest

from ingest.http.commands import ID_HEADER, MAX_AGE_SECONDS, MAX_IDS, TIME_HEADER, CommandLog
from ingest.http.messages import HttpError, Request


def command(number: int, now: float) -> Request:
    headers = {ID_HEADER.lower(): f"command-{number}", TIME_HEADER.lower(): f"{now:.3f}"}
    return Request("POST", "/control/drain", headers, "127.0.0.1", lambda: b"")


def test_ids_are_bounded_and_forgotten_with_their_time() -> None:
    now = [1000.0]
    log = CommandLog(lambda: now[0])
    for number in range(MAX_IDS):
        log.accept(command(number, now[0]))
    with pytest.raises(HttpError) as full:
        log.accept(command(MAX_IDS, now[0]))
    assert full.value.status is HTTPStatus.SERVICE_UNAVAILABLE
    with pytest.raises(HttpError) as repeated:
        log.accept(command(0, now[0]))
    assert repeated.value.status is HTTPStatus.CONFLICT
    now[0] += 2 * MAX_AGE_SECONDS + 1
    log.accept(command(MAX_IDS, now[0]))
    assert len(log._seen) == 1
