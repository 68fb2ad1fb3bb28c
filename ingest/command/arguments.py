"""Types of command-line options: each says what is allowed, and none passes on what would fail later."""

import argparse
import ipaddress
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ingest.command import terminal
from ingest.command.masking import refused

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")
"""The name of a run, a deployment or a report, and of its files: in the folder meant for them, and nowhere else."""
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\.?")
MOST_SECONDS = 10.0**9


class Parser(argparse.ArgumentParser):
    """A parser whose help and version are output like any other: argparse drops them where they cannot be written."""

    def _print_message(self, message: str, file: "SupportsWrite[str] | None" = None) -> None:
        if message:
            terminal.write(message, None if file is sys.stdout else sys.stderr)


def parse(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """Parse a command line. Ends the process with exit code 2 for one that is wrong.

    An unknown option is answered with the usage of the sub-command, which names itself by ``set_defaults(parser=...)``.
    ``--option=--`` is refused: argparse of Python 3.11 makes an empty list of its value.
    """
    for word in words:
        if word.startswith("-") and word.endswith("=--"):
            parser.error(f"argument {_shown(word.removesuffix('=--'))[1:-1]}: '--' is no value")
    namespace, unknown = parser.parse_known_args(words)
    if unknown:
        getattr(namespace, "parser", parser).error(f"unrecognized arguments: {' '.join(unknown)}")
    return namespace


def number(
    *, above: float | None = None, least: float | None = None, most: float = MOST_SECONDS
) -> Callable[[str], float]:
    """A finite number within bounds."""
    bounds = [f"above {above:g}"] if above is not None else []
    bounds += [f"at least {least:g}"] if least is not None else []
    allowed = " and ".join([*bounds, f"at most {most:g}"])

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        good = value <= most and (above is None or value > above) and (least is None or value >= least)
        if not good:
            raise argparse.ArgumentTypeError(f"{_shown(text)}: allowed is a number {allowed}")
        return value

    return convert


seconds = number(above=0)
"""A time that must pass."""


def whole(least: int, most: int = 2**31 - 1) -> Callable[[str], int]:
    """A whole number within bounds."""

    def convert(text: str) -> int:
        plain = re.fullmatch(r"[+-]?[0-9]{1,20}", text.strip())
        if not plain or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{_shown(text)}: allowed is a whole number from {least} to {most}")
        return int(text)

    return convert


port = whole(0, 65_535)
"""A TCP port; 0 lets the system choose."""


def path(text: str) -> Path:
    """The name of a file or a folder."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"{_shown(text)} is not the name of a file")
    return Path(text)


def topic(text: str) -> str:
    """The name of a topic of Kafka."""
    if not _TOPIC.fullmatch(text) or text in (".", ".."):
        raise argparse.ArgumentTypeError(f"{_shown(text)}: allowed is {_TOPIC.pattern}")
    return text


def run_id(text: str) -> str:
    """The name of a run, under which its files are written."""
    if not RUN_ID.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{_shown(text)}: allowed is {RUN_ID.pattern}")
    return text


def host(text: str) -> str:
    """A host name or an IP address."""
    if not is_host(text):
        raise argparse.ArgumentTypeError(f"{_shown(text)} is not a host name or an IP address")
    return text


def is_host(text: str) -> bool:
    """Whether this is a host name or an IP address, IPv6 without brackets."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        labels = text.rstrip(".").split(".")
        return text.isascii() and _HOST.fullmatch(text) is not None and all(0 < len(one) < 64 for one in labels)
    return True


def address(text: str) -> tuple[str, int]:
    """HOST:PORT, an IPv6 address in brackets."""
    name, _, digits = text.rpartition(":")
    name = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    good = is_host(name) and re.fullmatch("[0-9]{1,5}", digits, re.ASCII) and int(digits) <= 65_535
    if not good:
        raise argparse.ArgumentTypeError(f"{_shown(text)}: allowed is HOST:PORT with a port from 0 to 65535")
    return name, int(digits)


def url(text: str) -> str:
    """An address of an HTTP server; one with a password is not repeated in the error."""
    if not is_url(text, ("http", "https")):
        raise argparse.ArgumentTypeError(f"{_shown(refused(text))}: allowed is http(s)://host[:port][/path]")
    return text


def is_url(text: str, schemes: tuple[str, ...]) -> bool:
    """Whether this is ``scheme://host[:port][/path]`` without user, query and fragment."""
    if not re.fullmatch(rf"({'|'.join(schemes)})://[^/\s?#@\\]+(/[^\s?#]*)?", text):
        return False
    try:
        parts = urlsplit(text)
        return is_host(parts.hostname or "") and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is none
        return False


def _shown(text: str) -> str:
    return ascii(text) if len(text) <= 200 else ascii(text[:200]) + "..."
