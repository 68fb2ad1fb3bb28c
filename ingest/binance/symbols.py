"""Which symbols this process records, and what the exchange says about each.

Base and quote asset come from ``exchangeInfo`` only: guessing them by suffix mis-splits 87 of 1,695 symbols [rec]. The
stream server accepts any name and stays silent [obs Binance.Net#620], so a wrong one must be found here.
"""

import asyncio
import difflib
import logging
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from ingest.core.errors import Retry, Stop
from ingest.settings import BinanceSettings

log = logging.getLogger(__name__)

_PLAIN = re.compile(r"[A-Z0-9]{2,20}")
_ANY = re.compile(r"[\w.\-]{1,50}")
"""Beyond A-Z and 0-9 only letters and digits of other scripts: nothing that means something in a URL."""
TRADING = "TRADING"


class SymbolInfo(msgspec.Struct, frozen=True):
    """A symbol as ``exchangeInfo`` has it; the sizes are the exchange's own strings, None where unstated."""

    symbol: str
    status: str
    base_asset: str
    quote_asset: str
    tick_size: str | None = None
    step_size: str | None = None


class Source(Protocol):
    """Where ``exchangeInfo`` can be had."""

    async def exchange_info(self, symbols: Sequence[str] | None = None) -> dict[str, SymbolInfo]:
        """Return what is known about the symbols; raises ``Retry``."""


class Changes(msgspec.Struct, frozen=True):
    """What a refresh found: symbols to record from now on, and those of ours whose entry changed (old, new or None)."""

    listed: list[SymbolInfo]
    changed: list[tuple[SymbolInfo, SymbolInfo | None]]

    def __bool__(self) -> bool:
        return bool(self.listed or self.changed)


def shard_of(symbol: str, shard_count: int) -> int:
    """The shard that records a symbol: the same on every machine and in every version."""
    return zlib.crc32(symbol.encode()) % shard_count


def choose(
    infos: Mapping[str, SymbolInfo], settings: BinanceSettings, *, shard_index: int = 0, shard_count: int = 1
) -> dict[str, SymbolInfo]:
    """The symbols of this shard out of all that exist.

    ``*`` means every symbol that trades now. Raises ``Stop`` with the name (and names like it) of a symbol that does
    not exist.
    """
    if "*" in settings.symbols:
        pattern = _ANY if settings.allow_non_ascii_symbols else _PLAIN
        wanted: Iterable[str] = (
            name for name, info in infos.items() if info.status == TRADING and pattern.fullmatch(name)
        )
    else:
        unknown = [name for name in settings.symbols if name not in infos]
        if unknown:
            raise Stop("\n".join(_unknown(name, infos) for name in unknown))
        wanted = settings.symbols
    return {name: infos[name] for name in sorted(wanted) if shard_of(name, shard_count) == shard_index}


def _unknown(name: str, infos: Mapping[str, SymbolInfo]) -> str:
    close = difflib.get_close_matches(name, infos, n=3, cutoff=0.7)
    hint = f"; the exchange has {', '.join(close)}" if close else ""
    return f"K2_BINANCE_SYMBOLS: the exchange has no symbol {name!r}{hint}"


async def resolve(
    source: Source, settings: BinanceSettings, *, shard_index: int = 0, shard_count: int = 1
) -> dict[str, SymbolInfo]:
    """Find this shard's symbols; waits as long as the exchange does not answer.

    Raises ``Stop`` for a symbol that does not exist, and where nothing at all is left to record.
    """
    everything = "*" in settings.symbols
    while True:
        try:
            infos = await source.exchange_info(None if everything else settings.symbols)
            if not everything and any(name not in infos for name in settings.symbols):
                infos = await source.exchange_info()  # for names like it
        except Retry as error:
            log.warning("exchangeInfo: %s; again in %.1f s", error, error.after)
            await asyncio.sleep(max(0.1, error.after))
            continue
        chosen = choose(infos, settings, shard_index=shard_index, shard_count=shard_count)
        if not chosen:
            raise Stop(f"nothing to record: no symbol of {','.join(settings.symbols)} is in shard {shard_index}")
        for info in chosen.values():
            if info.status != TRADING:
                log.warning("%s has status %s: it may stay silent", info.symbol, info.status)
        return chosen


def compare(
    known: Mapping[str, SymbolInfo],
    infos: Mapping[str, SymbolInfo],
    settings: BinanceSettings,
    *,
    shard_index: int = 0,
    shard_count: int = 1,
) -> Changes:
    """What differs between the symbols we record and the exchange's present list.

    A symbol that left the list is reported as changed to None; it is not dropped here.
    """
    listed = []
    if "*" in settings.symbols:
        now = choose(infos, settings, shard_index=shard_index, shard_count=shard_count)
        listed = [info for name, info in now.items() if name not in known]
    changed = [(old, infos.get(name)) for name, old in known.items() if infos.get(name) != old]
    return Changes(listed, changed)


async def refresh(
    source: Source,
    settings: BinanceSettings,
    known: Callable[[], Mapping[str, SymbolInfo]],
    on_changes: Callable[[Changes], None],
    *,
    shard_index: int = 0,
    shard_count: int = 1,
) -> None:
    """Read ``exchangeInfo`` again and again and report new listings and changes, until cancelled.

    ``known`` gives the symbols recorded now; ``on_changes`` is called on the loop and must not block.
    """
    delay = settings.symbol_refresh_seconds
    while True:
        await asyncio.sleep(delay)
        current = known()
        try:
            infos = await source.exchange_info(None if "*" in settings.symbols else list(current))
        except Retry as error:
            log.warning("exchangeInfo: %s; again in %.1f s", error, error.after)
            delay = max(0.1, min(error.after, settings.symbol_refresh_seconds))
            continue
        delay = settings.symbol_refresh_seconds
        changes = compare(current, infos, settings, shard_index=shard_index, shard_count=shard_count)
        if changes:
            on_changes(changes)
