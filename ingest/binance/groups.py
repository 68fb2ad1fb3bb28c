"""Which symbols share a connection: groups of bounded size, filled from the lowest number. Pure."""

from collections.abc import Iterable


class Groups:
    """Symbols in numbered groups. A symbol never moves while it stays; an empty group's number is used again."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._groups: dict[int, dict[str, None]] = {}
        self._of: dict[str, int] = {}

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._of

    def __len__(self) -> int:
        return len(self._of)

    def numbers(self) -> list[int]:
        """The numbers of the groups that hold a symbol."""
        return sorted(self._groups)

    def members(self, number: int) -> list[str]:
        """The symbols of a group in the order they came; none for a number that is not in use."""
        return list(self._groups.get(number, ()))

    def of(self, symbol: str) -> int | None:
        """The group of a symbol."""
        return self._of.get(symbol)

    def add(self, symbols: Iterable[str]) -> set[int]:
        """Place symbols that are not placed yet; returns the numbers of the groups that changed."""
        changed = set()
        for symbol in symbols:
            if symbol in self._of:
                continue
            number = 0
            while len(self._groups.get(number, ())) >= self._size:
                number += 1
            self._groups.setdefault(number, {})[symbol] = None
            self._of[symbol] = number
            changed.add(number)
        return changed

    def remove(self, symbols: Iterable[str]) -> set[int]:
        """Take symbols out; returns the numbers of the groups that changed, those that are empty now included."""
        changed = set()
        for symbol in symbols:
            number = self._of.pop(symbol, None)
            if number is None:
                continue
            del self._groups[number][symbol]
            if not self._groups[number]:
                del self._groups[number]
            changed.add(number)
        return changed
