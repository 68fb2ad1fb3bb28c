"""No secret of a refused or shown setting is in what is written about it, whatever the setting and its spelling."""

import pytest

from ingest.core.errors import BadSettings
from ingest.settings import declared, load, secrets, shown

CANARY = "CANARY"
SPELLINGS = (
    "http://u:CANARY@h:1",
    "wss://u:CANARY@h:1",
    "http://u:a/CANARY@h:1",
    "http://u:a CANARY@h:1",
    "http://u:CANARY a@h:1",
    "http://u:a,CANARY@h:1",
    "http://u:CANARY,a@h:1",
    "http://good,http://u:CANARY@h",
    "http://u:CANARY",
    "http:/u:CANARY@h",
    "u:CANARY@h:1",
    "http://h:1/?token=CANARY",
    "http://h:1/#CANARY",
    '"http://u:CANARY@h"',
    "http://u:CANARY@[h",
    "sasl.password=a,x=CANARY",
)
"""Values with a password or a token, as one writes them by mistake."""
SETTINGS = list(declared())
TEXTS = [one.name for one in SETTINGS if one.type not in (int, float, bool)]


def told(environment: dict[str, str]) -> str:
    try:
        settings = load(environment)
    except BadSettings as error:
        return "\n".join(error.problems)
    return "\n".join(f"{name}={value}" for name, value, _ in shown(settings))


@pytest.mark.parametrize("value", SPELLINGS)
@pytest.mark.parametrize("suffix", ["", "_FILE"])
def test_no_setting_shows_the_secret_of_a_value_that_cannot_be_read(value: str, suffix: str) -> None:
    """All at once: what is reported while the environment is read."""
    text = told({one.name + suffix: value for one in SETTINGS})
    assert CANARY not in text
    assert len(text.splitlines()) > 10


@pytest.mark.parametrize("name", TEXTS)
def test_no_setting_alone_shows_the_secret_of_a_refused_value(name: str) -> None:
    """One at a time: what is reported when the values are held against each other."""
    for value in SPELLINGS[::2]:
        assert CANARY not in told({name: value}), value


def test_an_option_s_address_is_shown_and_logged_without_its_secrets() -> None:
    option = "K2_KAFKA_OPTION_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL"
    settings = load({option: "https://u:CANARY@h/t?key=CANARY-TOO"})
    assert {name: value for name, value, _ in shown(settings)}[option] == "https://********@h/t?********"
    assert secrets(settings) == {"CANARY", "key=CANARY-TOO"}
