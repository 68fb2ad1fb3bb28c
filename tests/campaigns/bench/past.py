"""What was traded while nobody listened, as the exchange's REST history tells it; and what was asked of that."""

import threading
from collections import defaultdict

PAGE = 1000


class Past:
    """History of the trades that were skipped last. Ids behind or before those are not in it, as in a lagging one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[int, tuple[int, list[bytes]]] = {}
        self.pages = 0
        self.trades = 0

    def keep(self, skipped: list[tuple[int, int, bytes]]) -> None:
        """Forget everything and keep these: (index of the symbol, id, element), ids of a symbol without a hole."""
        kept: dict[int, list[bytes]] = defaultdict(list)
        first: dict[int, int] = {}
        for index, trade_id, element in skipped:
            first.setdefault(index, trade_id)
            kept[index].append(element)
        with self._lock:
            self._kept = {index: (first[index], elements) for index, elements in kept.items()}
            self.pages = self.trades = 0

    def page(self, index: int, from_id: int, limit: int) -> bytes:
        """The answer of ``historicalTrades``; counted."""
        first, elements = self._kept.get(index, (0, []))
        start = max(0, from_id - first)
        found = elements[start : start + min(limit, PAGE)]
        with self._lock:
            self.pages += 1
            self.trades += len(found)
        return b"[" + b",".join(found) + b"]"
