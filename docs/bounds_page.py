"""The page reference/bounds.md, made of ``bounds.toml``: constants are read from the code."""

import importlib
import re
import tomllib
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("bounds.toml")
COLUMNS = ("what", "filled_by", "items", "bytes", "beyond")
HEAD = """# Bounds

Everything that something outside can fill: how far, and what happens beyond it. Values are those of the code and the
defaults of settings. The simulator is a tool of tests and not listed.

`tests/unit/docs/test_bounds.py` finds every container in the code that outlives a single call (attributes of objects,
names of modules, caches, labels of metrics) and fails for one that is neither in this table nor exempt with a reason
(`docs/bounds_exempt.toml`). `make attack` drives the bounds on the real processes within 512 MB.
"""
_CONSTANT = re.compile(r"\$\{([\w.]+)(?:\|(KiB|MiB|k))?\}")
_UNITS = {"KiB": 1024, "MiB": 1024 * 1024, "k": 1024, None: 1}


def rows() -> list[dict[str, Any]]:
    """The bounds as declared, constants filled in."""
    found: list[dict[str, Any]] = tomllib.loads(TABLE.read_text(encoding="utf-8"))["bound"]
    return [one | {name: _CONSTANT.sub(_value, one[name]) for name in COLUMNS} for one in found]


def _value(found: re.Match[str]) -> str:
    value = constant(found[1])
    unit = _UNITS[found[2]]
    if not isinstance(value, int | float) or value % unit:
        raise ValueError(f"{found[0]}: {value!r} is no number in whole units")
    return f"{value / unit:,.10g}"


def constant(name: str) -> Any:
    """A constant of a module, or the default of a field of a class in it, by its dotted name."""
    module, attributes = name, []
    while True:
        module, _, last = module.rpartition(".")
        attributes.insert(0, last)
        try:
            value: Any = importlib.import_module(module)
        except ModuleNotFoundError:
            continue
        break
    for attribute in attributes:
        value = getattr(value() if isinstance(value, type) else value, attribute)
    return value


def page() -> str:
    """The page."""
    lines, part = [HEAD], ""
    for one in rows():
        if one["part"] != part:
            part = one["part"]
            lines += [
                f"\n## {part}\n",
                "| what | filled by | items | bytes | beyond it | test |",
                "| --- | --- | --- | --- | --- | --- |",
            ]
        file, _, name = one["test"].partition("::")
        cells = [one[column] for column in COLUMNS] + [f"`{name}` in `{file.removeprefix('tests/')}`"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
