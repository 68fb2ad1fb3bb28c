"""Sets of ids as inclusive ranges: gaps are few and long, ids are many."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator

Range = tuple[int, int]


class IdRanges:
    """A set of ids, kept as sorted, disjoint, inclusive ranges."""

    def __init__(self) -> None:
        self._ranges: list[Range] = []

    def __iter__(self) -> Iterator[Range]:
        return iter(self._ranges)

    def __len__(self) -> int:
        return len(self._ranges)

    def add(self, first: int, last: int) -> None:
        """Add ids that are not in the set yet; an empty range is nothing."""
        if first <= last:
            self._ranges.insert(bisect_right(self._ranges, (first, last)), (first, last))

    def discard(self, number: int) -> bool:
        """Remove one id; returns whether it was there."""
        at = bisect_right(self._ranges, number, key=lambda one: one[0]) - 1
        if at < 0 or self._ranges[at][1] < number:
            return False
        first, last = self._ranges[at]
        self._ranges[at : at + 1] = [r for r in ((first, number - 1), (number + 1, last)) if r[0] <= r[1]]
        return True


def runs(numbers: Iterable[int]) -> Iterator[Range]:
    """Ascending ids as ranges of consecutive ones."""
    first: int | None = None
    last = 0
    for number in numbers:
        if first is None:
            first = number
        elif number != last + 1:
            yield first, last
            first = number
        last = number
    if first is not None:
        yield first, last


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same ids as sorted, disjoint ranges."""
    out: list[Range] = []
    for first, last in sorted(ranges):
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], last))
        elif first <= last:
            out.append((first, last))
    return out


def split(whole: Range, cover: list[Range]) -> Iterator[tuple[Range, bool]]:
    """Cut ``whole`` at the borders of ``cover`` (sorted, disjoint): each part, and whether it is covered."""
    due, last = whole
    start = max(0, bisect_right(cover, due, key=lambda one: one[0]) - 1)
    for at in range(start, len(cover)):
        first, end = cover[at]
        if first > last:
            break
        if end < due:
            continue
        if first > due:
            yield (due, first - 1), False
            due = first
        yield (due, min(end, last)), True
        due = end + 1
    if due <= last:
        yield (due, last), False


def length(ranges: Iterable[Range]) -> int:
    """How many ids disjoint ranges hold."""
    return sum(last - first + 1 for first, last in ranges)
