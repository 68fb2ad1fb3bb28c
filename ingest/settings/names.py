"""Names in the environment: which are settings, which belong to others, and which are mistakes."""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping

KAFKA_OPTION_PREFIX = "K2_KAFKA_OPTION_"
FOREIGN_PREFIXES: dict[str, str] = {
    "K2_DEPLOY_": "deployments, `python -m ingest_ops deploy`",
    "K2_REPORT_": "the report of seven days, `python -m ingest_ops report`",
    "K2_ARCHIVE_": "the archive, `python -m ingest_ops archive`",
    "K2_AGENT_": "the deploy agent, `python -m ingest_ops agent`",
    "K2_NOTIFY_": "messages of Airflow, docs/how_to/own_airflow.md",
    "K2_TEST_": "the tests",
}
"""Prefixes of other programs that share the environment, and what they are for."""
FOREIGN_NAMES: dict[str, str] = {
    "K2_COMPILE": "the build of the image: whether the hot path is compiled",
    "K2_CONTROL_TOKEN_SOURCE": "docker-compose.yaml: the file of the control API's token",
    "K2_GREEN_START_MODE": "docker-compose.yaml: `K2_START_MODE` of the second slot",
    "K2_MEMORY_LIMIT": "docker-compose.yaml: memory limit of a slot",
    "K2_RECORDINGS_DIR": "the tests: folder of recorded market data",
    "K2_SECRETS": "docker-compose.yaml: folder of the secrets",
}

_SERVICE = re.compile(r"K2_([A-Z0-9_]+_)?SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)")
_LINK = re.compile(r"K2_([A-Z0-9_]+_)?PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?")
_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://\S+")


def is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes or Docker has set this for a service whose name begins with ``k2``.

    ``K2_METRICS_PORT=tcp://10.0.0.7:9095`` is one although a setting has the same name.
    """
    if _SERVICE.fullmatch(name) or _LINK.fullmatch(name):
        return True
    return name.endswith("_PORT") and _LINK_VALUE.fullmatch(value) is not None


def service_links(environment: Mapping[str, str]) -> list[str]:
    """The names that are ignored because they are links to services."""
    return sorted(name for name, value in environment.items() if _ours(name) and is_service_link(name, value))


def unknown(environment: Mapping[str, str], known: Collection[str]) -> Iterator[str]:
    """A line for each name that begins like a setting and is none, with the nearest setting."""
    for name in sorted(environment):
        if not _ours(name) or name in known or name in FOREIGN_NAMES or is_service_link(name, environment[name]):
            continue
        if name.startswith((*FOREIGN_PREFIXES, KAFKA_OPTION_PREFIX)):
            continue
        near = nearest(name, known)
        hint = f"did you mean {near}?" if near else "`ingest check --list` shows those that exist"
        yield f"{ascii(name)[1:-1]}: unknown setting; {hint}"


def nearest(name: str, known: Collection[str]) -> str | None:
    """The setting that is written most like this one, whatever the case and the underscores."""
    plain = {_plain(one): one for one in known if not one.endswith("_FILE") or name.upper().endswith("_FILE")}
    close = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=0.75)
    return plain[close[0]] if close else None


def _plain(name: str) -> str:
    return name.upper().removeprefix("K2_").replace("_", "")


def _ours(name: str) -> bool:
    return name.upper().startswith("K2_")
