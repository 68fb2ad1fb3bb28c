"""Every target of ``make fuzz`` with its corpus: a small file, one input a line as Python writes bytes."""

import ast
import json
from collections.abc import Callable
from pathlib import Path

from tests.campaigns.fuzz import oracles, oracles_http, oracles_kafka, oracles_ops, oracles_settings

CORPUS = Path(__file__).with_name("corpus")
ORACLES: dict[str, Callable[[bytes], None]] = {
    **oracles.ORACLES,
    **oracles_kafka.ORACLES,
    **oracles_http.ORACLES,
    **oracles_ops.ORACLES,
    **oracles_settings.ORACLES,
}


def corpus(name: str) -> list[bytes]:
    """The inputs that fuzzing a target begins with."""
    lines = (CORPUS / f"{name}.txt").read_text(encoding="ascii").splitlines()
    return [bytes(ast.literal_eval(line)) for line in lines if line]


def as_json(name: str) -> list[bytes]:
    """Those that are a JSON object or array as a whole."""
    return [one for one in corpus(name) if one[:1] in (b"{", b"[") and _is_json(one)]


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
