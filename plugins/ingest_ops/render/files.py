"""Reports as files: whole or not at all, and with the few keys that every report has."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ingest.command import arguments
from ingest_ops.common.verdict import Verdict
from ingest_ops.render.html import to_html
from ingest_ops.render.markdown import to_markdown
from ingest_ops.render.model import Page

REPORT_KEYS = ("schema_version", "kind", "run_id", "generated_at", "title", "verdict", "summary")
"""What the index reads of every report. ``verdict`` is null where nothing is judged."""

RUN_ID = arguments.RUN_ID
"""A run's name is its files' name: nothing that a shell, a URL or a path would read as something else."""


def envelope(page: Page, *, run_id: str, schema_version: int) -> dict[str, Any]:
    """Return the keys that every report's JSON begins with, taken from its page. Add your own to them."""
    return {
        "schema_version": schema_version,
        "kind": page.kind,
        "run_id": run_id,
        "generated_at": page.generated_at,
        "title": page.title,
        "verdict": None if page.verdict is None else str(page.verdict),
        "summary": page.summary,
    }


def write_report(folder: Path, run_id: str, data: Mapping[str, Any], page: Page) -> dict[str, Path]:
    """Write ``<run_id>.html``, ``.md`` and at last ``.json`` (what the index lists is complete).

    Returns the paths by suffix without its dot. Raises ``ValueError`` for a name that no file should have, for data
    without the keys of ``REPORT_KEYS``, or whose verdict is not the page's; ``OSError`` where it cannot be written.
    """
    if not RUN_ID.fullmatch(run_id):
        raise ValueError(f"no name for a report: {run_id!r}; allowed is {RUN_ID.pattern}")
    if missing := [key for key in REPORT_KEYS if key not in data]:
        raise ValueError(f"the report's JSON lacks {', '.join(missing)}")
    if data["run_id"] != run_id or data["verdict"] != (page.verdict and str(page.verdict)):
        raise ValueError("the report's JSON and its page are not about the same")
    paths = {suffix: folder / f"{run_id}.{suffix}" for suffix in ("html", "md", "json")}
    write_atomically(paths["html"], to_html(page))
    write_atomically(paths["md"], to_markdown(page))
    write_json(paths["json"], data)
    return paths


def write_json(path: Path, data: Mapping[str, Any], *, indent: int | None = 2) -> None:
    """Write JSON that every reader takes (no NaN, no Infinity), keys in the order given.

    Raises ``ValueError`` for numbers that are not finite: use ``finite`` and say null.
    """
    text = json.dumps(data, indent=indent, ensure_ascii=False, allow_nan=False, default=_plain)
    write_atomically(path, text + "\n")


def finite(value: float | None, digits: int = 6) -> float | int | None:
    """A number as JSON has it: rounded, whole numbers without a decimal point, anything not finite as null."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if value == int(value) else round(value, digits)


def write_atomically(path: Path, text: str | bytes) -> None:
    """Write beside, sync, rename: a reader sees the old text or the new one, whenever the writer dies.

    A target that exists and is no plain file, such as a pipe or a device, is written to and never replaced.
    """
    data = text.encode() if isinstance(text, str) else text
    if path.exists() and not path.is_file():
        # Without a reader a pipe would block without end: an error instead.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC), "wb") as other:
            os.set_blocking(other.fileno(), True)
            other.write(data)
        return
    path = path.resolve()  # a link stays a link
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    if isinstance(value, Verdict | Path):
        return str(value)
    raise TypeError(f"no plain data: {value!r}")
