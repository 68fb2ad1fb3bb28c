"""How refused values and addresses are shown."""

import pytest

from ingest.command.masking import masked, refused


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://h:1/x", "http://h:1/x"),
        ("wss:/stream.binance.com", "wss:/stream.binance.com"),
        ("http://[::1]:8081", "http://[::1]:8081"),
        ("kafka:9092", "kafka:9092"),
        ("kafka:700000", "kafka:700000"),
        ("http://u:CANARY@h:1/x", "http://********@h:1/x"),
        ("u:CANARY@h", "********@h"),
        ("http://u:CAN/ARY@h", "http://********@h"),
        ("http://u:CAN ARY@h", "http://********@h"),
        ("http://u:CAN@ARY@h", "http://********@h"),
        ("http://u:CAN?ARY@h", "http://********"),
        ("http://u:CAN#ARY@h", "http://********"),
        ("http:/u:CANARY@h", "********@h"),
        ("http://u:CANARY", "http://********"),
        ("http://h:1/x?token=CANARY", "http://h:1/x?********"),
        ("http://h/?mail=a@b&token=CANARY", "http://********"),
        ("http://h/;token=CANARY", "http://h/;********"),
        ("http://u:p@h?token=CANARY", "http://********@h?********"),
    ],
)
def test_what_may_be_a_secret_is_masked_in_a_refused_value(text: str, shown: str) -> None:
    assert refused(text) == shown


def test_an_item_of_a_list_is_masked_if_the_list_has_a_secret() -> None:
    """A password with a comma is divided, and its parts look like no secret."""
    whole = "http://u:CAN,ARY@h:1,http://other"
    assert [refused(item, whole) for item in whole.split(",")] == ["********"] * 3
    assert refused("b:x", "http://a,b:x") == "********"
    assert refused("ftp://b", "http://a,ftp://b") == "ftp://b"


def test_a_text_with_an_address_keeps_what_is_no_secret() -> None:
    assert masked("401: parse error: unexpected '='") == "401: parse error: unexpected '='"
    assert masked("no answer from http://u:CANARY@h: 401") == "********@h: 401"
    assert masked("https://u:CANARY@h/t?x=CANARY") == "https://********@h/t?********"
