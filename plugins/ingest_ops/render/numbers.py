"""Numbers and times as people read them, and the ticks of an axis."""

import math
from datetime import UTC, datetime

_TIME_STEPS = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800,
    1_209_600, 2_592_000,
)  # fmt: skip
MOST_TICKS = 8
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def number(value: float) -> str:
    """Four significant figures at least, thousands apart, no trailing zeros: 1,440; 0.0123; 99.95."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("∞" if value > 0 else "-∞")
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    digits = 3 - math.floor(math.log10(abs(value))) if abs(value) < 100 else 1
    text = f"{value:,.{min(digits, 9)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def moment(seconds: float, *, precise: bool = True) -> str:
    """The time in UTC, as 2026-01-22 03:15:00, without the seconds where not ``precise``."""
    at = datetime.fromtimestamp(round(seconds), UTC)
    return at.strftime("%Y-%m-%d %H:%M:%S" if precise else "%Y-%m-%d %H:%M")


def duration(seconds: float) -> str:
    """A span of time in its two greatest units: 1 d 4 h, 3 min 5 s, 0.4 s."""
    if seconds < 10 and seconds != int(seconds):
        return f"{seconds:.2g} s"
    left, parts = round(seconds), []
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round values from at or below ``low`` to at or above ``high``: the axis ends on a tick."""
    if high - low <= 1e-9 * max(1.0, abs(low)):
        high = low + (abs(low) if abs(low) > 1e-9 else 1.0)
    raw = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def time_ticks(start: float, end: float) -> list[tuple[float, str]]:
    """Moments on whole units of UTC with their labels, at most eight."""
    step = next((one for one in _TIME_STEPS if (end - start) / one <= MOST_TICKS - 1), _TIME_STEPS[-1])
    first = math.ceil(start / step)
    return [(at * step, _tick_label(at * step, step)) for at in range(first, math.floor(end / step) + 1)]


def _tick_label(seconds: float, step: float) -> str:
    at = datetime.fromtimestamp(seconds, UTC)
    if step >= 86_400 or (at.hour, at.minute, at.second) == (0, 0, 0):
        return f"{at.day} {MONTHS[at.month - 1]}"
    return at.strftime("%H:%M:%S" if step < 60 else "%H:%M")
