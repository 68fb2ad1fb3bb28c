"""Which Host and Origin are served, for any text that a client can send."""

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.http.host import check_host
from ingest.http.messages import HttpError, Request


def asked(host: str, origin: str = "", allowed: tuple[str, ...] = ()) -> int:
    headers = {"host": host} | ({"origin": origin} if origin else {})
    try:
        check_host(Request("GET", "/", headers, "127.0.0.1", lambda: b""), allowed)
    except HttpError as error:
        return int(error.status)
    return 200


@pytest.mark.parametrize("host", ["", "127.0.0.1:9095", "[::1]:9095", "localhost", "ingest-blue:9095", "a.localhost"])
def test_addresses_and_names_without_a_dot_are_ours(host: str) -> None:
    assert asked(host) == 200


def test_a_name_with_a_dot_must_be_allowed() -> None:
    assert asked("evil.example") == 421
    assert asked("k2.example:9095", allowed=("k2.example",)) == 200
    assert asked("any.example", allowed=("*",)) == 200


def test_only_our_own_origin_is_served() -> None:
    assert asked("localhost:9095", "http://localhost:9095") == 200
    for origin in ("http://localhost:9096", "https://evil.example", "null", "http://[", "http://", "//", "x"):
        assert asked("localhost:9095", origin) == 403
    assert asked("", "http://") == 403


@given(host=st.text(st.characters(max_codepoint=255), max_size=12), origin=st.text("htp:/[]@#?.x%0", max_size=12))
@example(host="[", origin="http://[")
def test_any_text_is_served_or_refused(host: str, origin: str) -> None:
    assert asked(host, origin) in (200, 403, 421)
    with contextlib.suppress(HttpError):
        check_host(Request("GET", "/", {"host": host, "origin": origin}, "", lambda: b""), ("*",))
