"""The demo's result as a picture, from what its last run measured: ``make demo-picture``."""

import json
import sys
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
SUMMARY = ROOT / "reports" / "demo" / "summary.json"
PICTURE = ROOT / "docs" / "images" / "demo.svg"

WIDTH, LEFT, RIGHT = 860, 70, 20
UPPER, LOWER = (70, 230), (262, 332)
"""Top and bottom of the two plots."""
INK, FAINT, SENT, COMMITTED, BEHIND = "#1f2933", "#9aa5b1", "#d64545", "#2f6fdb", "#e08a00"


class _Plot:
    def __init__(self, edges: tuple[int, int], seconds: float, highest: float) -> None:
        self._top, self._bottom = edges
        self._seconds, self._highest = max(seconds, 1.0), max(highest, 1.0)

    def x(self, at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * at / self._seconds

    def y(self, value: float) -> float:
        return self._bottom - (self._bottom - self._top) * value / self._highest

    def points(self, values: Iterable[tuple[float, float]]) -> str:
        return " ".join(f"{self.x(at):.1f},{self.y(value):.1f}" for at, value in values)

    def area(self, values: Sequence[tuple[float, float]], colour: str) -> str:
        ends = [(values[0][0], 0.0), *values, (values[-1][0], 0.0)]
        return f'<polygon points="{self.points(ends)}" fill="{colour}" fill-opacity="0.35"/>'

    def line(self, values: Sequence[tuple[float, float]], colour: str) -> str:
        return f'<polyline points="{self.points(values)}" fill="none" stroke="{colour}" stroke-width="1.6"/>'

    def frame(self, title: str) -> list[str]:
        return [
            _text(LEFT, self._top - 6, title, size=12),
            _rule(LEFT, self._bottom, WIDTH - RIGHT, self._bottom),
            _text(LEFT - 6, self._top + 10, f"{self._highest:,.0f}", anchor="end", colour=FAINT),
            _text(LEFT - 6, self._bottom, "0", anchor="end", colour=FAINT),
        ]


def _text(x: float, y: float, text: str, *, size: int = 11, anchor: str = "start", colour: str = INK) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
    )


def _rule(x1: float, y1: float, x2: float, y2: float, *, dashes: str = "") -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{FAINT}"{dashed}/>'


def draw(summary: dict[str, Any]) -> str:
    """The picture as SVG. Raises ``KeyError`` and ``ValueError`` for a summary without samples."""
    samples = [(float(at), float(sent), float(committed)) for at, sent, committed in summary["samples"]]
    if not samples:
        raise ValueError("no samples")
    seconds = samples[-1][0]
    behind = [(at, max(0.0, sent - committed)) for at, sent, committed in samples]
    upper = _Plot(UPPER, seconds, max(sent for _, sent, _ in samples))
    lower = _Plot(LOWER, seconds, max(value for _, value in behind))
    events: list[tuple[float, str]] = [(float(at), str(text)) for at, text in summary["events"]]
    height = LOWER[1] + 40 + 18 * len(events) + 10
    facts = ", ".join(f"{summary[name]:,} {name}" for name in ("missing", "duplicated", "reordered", "altered"))
    sent, committed = summary["trades_sent"], summary["trades_committed"]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" role="img">',
        f"<title>make demo: {escape(str(summary['verdict']))}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(LEFT, 26, f"make demo: {summary['verdict']}", size=18),
        _text(LEFT, 45, f"{sent:,} trades sent, {committed:,} in Kafka; {facts}", size=12),
        upper.area([(at, committed) for at, _, committed in samples], COMMITTED),
        upper.line([(at, sent) for at, sent, _ in samples], SENT),
        *upper.frame("Trades: sent by the exchange (line), in Kafka (area)"),
        lower.area(behind, BEHIND),
        lower.line(behind, BEHIND),
        *lower.frame("Sent, and not yet in Kafka by /status, which is made once a second"),
    ]
    for number, (at, text) in enumerate(events, 1):
        x = upper.x(at)
        parts += [
            _rule(x, UPPER[0], x, LOWER[1], dashes="3 3"),
            _text(x, LOWER[1] + 14, str(number), anchor="middle"),
            _text(LEFT, LOWER[1] + 40 + 18 * (number - 1), f"{number}: at {at:.0f} s, {text}", size=12),
        ]
    parts.append(_text(WIDTH - RIGHT, LOWER[1] + 14, f"{seconds:.0f} s", anchor="end", colour=FAINT))
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> int:
    """Draw the last run; returns the exit code."""
    try:
        picture = draw(json.loads(SUMMARY.read_text()))
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"{SUMMARY.relative_to(ROOT)}: {error!r}: run `make demo` first\n")
        return 1
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(picture)
    sys.stdout.write(f"{PICTURE.relative_to(ROOT)} written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
