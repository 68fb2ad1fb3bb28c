"""What must hold whatever the environment holds: settings, or a list of problems; and no secret in either."""

from collections.abc import Callable

from ingest.core.errors import BadSettings
from ingest.settings import declared, is_secret_option, load, secrets, shown
from ingest_ops.deployment.settings import load as load_operations

CANARY = "c4n4ry-7f3a9e"
_NAMES = sorted(setting.name for setting in declared())
_SECRET = {setting.name for setting in declared() if setting.secret}
_OPTION = "K2_KAFKA_OPTION_"


def check_settings(data: bytes) -> None:
    """Lines NAME=VALUE. A name that is only digits counts the settings. Addresses get a password, secrets a canary."""
    environment: dict[str, str] = {}
    for line in data.decode("utf-8", "surrogateescape").split("\n")[:60]:
        name, _, value = line.partition("=")
        if name.isascii() and name.isdigit() and len(name) < 5:
            name = _NAMES[int(name) % len(_NAMES)]
        if not name or name.endswith("_FILE") or "\0" in line:
            continue
        hidden = name in _SECRET or (name.startswith(_OPTION) and _is_secret(name))
        if name.endswith(("_URL", "_URLS")):
            value = value.replace("://", f"://user:{CANARY}@", 1)
        environment[name] = value + CANARY if hidden else value
    try:
        settings = load(environment)
    except BadSettings as error:
        without_canary(error)
    else:
        for name, value, _ in shown(settings):
            assert CANARY not in value, name
        assert all(secrets(settings))
    try:
        load_operations(environment)
    except BadSettings as error:
        without_canary(error)


def without_canary(error: BadSettings) -> None:
    """The problems are named, and show no secret."""
    assert error.problems
    assert CANARY not in str(error), error


def _is_secret(name: str) -> bool:
    return is_secret_option(name.removeprefix(_OPTION).lower().replace("_", "."))


ORACLES: dict[str, Callable[[bytes], None]] = {"settings": check_settings}
