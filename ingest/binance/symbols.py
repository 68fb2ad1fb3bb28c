"""Which symbols this process records, and what the exchange states about each.

Base and quote asset come from ``exchangeInfo`` only: guessing them by suffix mis-splits 87 of 1,695 symbols [rec]. The
stream server accepts any name and stays silent [obs Binance.Net#620], so a wrong one must be found here.

The exchange's state of today is not configuration: a symbol is recorded whatever its status, so that it is subscribed
before it opens and while it is halted, and a name that the exchange does not have is left out and looked for again.
"""

import asyncio
import difflib
import logging
import re
import zlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from ingest.core.errors import Retry, Stop
from ingest.settings import BinanceSettings

log = logging.getLogger(__name__)

_PLAIN = re.compile(r"[A-Z0-9]{1,50}")
_ANY = re.compile(r"[\w.\-]{1,50}")
"""Beyond A-Z and 0-9 only letters and digits of other scripts: nothing that means something in a URL."""
TRADING = "TRADING"
NOT_LISTED = "NOT_LISTED"
"""Our own status of a recorded symbol that has left ``exchangeInfo``."""
UNSTATED = "UNSTATED"
"""Our own status of a symbol whose entry does not state a usable one."""
RETRY_SECONDS = 60.0
"""First wait before names that the exchange does not have are looked for again; doubled up to the refresh interval."""

LeftOutReason = Literal["not_listed", "non_ascii", "unusable_name", "unusable_entry", "forgotten"]
LEFT_OUT_REASONS: tuple[LeftOutReason, ...] = (
    "not_listed",
    "non_ascii",
    "unusable_name",
    "unusable_entry",
    "forgotten",
)
"""``unusable_entry``: its base or quote asset cannot be read, which each record states; it is looked for again.
``forgotten``: the topic has recent records of it, and neither a position nor the settings name it."""


class SymbolInfo(msgspec.Struct, frozen=True):
    """A symbol as ``exchangeInfo`` has it; the sizes are the exchange's own strings, None where unstated."""

    symbol: str
    status: str
    base_asset: str
    quote_asset: str
    tick_size: str | None = None
    step_size: str | None = None

    @property
    def complete(self) -> bool:
        """Whether all is known that a record states."""
        return bool(self.base_asset and self.quote_asset)


class Source(Protocol):
    """Where ``exchangeInfo`` can be had."""

    async def exchange_info(self, symbols: Sequence[str] | None = None) -> dict[str, SymbolInfo]:
        """Return what is known about the symbols; raises ``Retry``."""


class Choice(msgspec.Struct, frozen=True):
    """The symbols of a shard, and those that it should record and cannot, with the reason."""

    symbols: dict[str, SymbolInfo]
    left_out: dict[str, LeftOutReason]


class Changes(msgspec.Struct, frozen=True):
    """What a refresh found: symbols to record from now on, and those of ours whose entry changed (old, new or None)."""

    listed: list[SymbolInfo]
    changed: list[tuple[SymbolInfo, SymbolInfo | None]]
    left_out: dict[str, LeftOutReason] = {}


def shard_of(symbol: str, shard_count: int) -> int:
    """Return the shard that records a symbol: the same on every machine and in every version."""
    return zlib.crc32(symbol.encode()) % shard_count


def unusable(name: str, settings: BinanceSettings) -> LeftOutReason | None:
    """Return why a name of the exchange cannot be recorded, None where it can."""
    # A stream is named in lower case and its trades in upper case: a name must survive both.
    if not _ANY.fullmatch(name) or name.lower().upper() != name:
        return "unusable_name"
    if not settings.allow_non_ascii_symbols and not _PLAIN.fullmatch(name):
        return "non_ascii"
    return None


def choose(
    infos: Mapping[str, SymbolInfo], settings: BinanceSettings, *, shard_index: int = 0, shard_count: int = 1
) -> Choice:
    """Return the symbols of this shard out of all that exist; ``*`` means every one of them, whatever its status."""
    names = infos if "*" in settings.symbols else settings.symbols
    symbols: dict[str, SymbolInfo] = {}
    left_out: dict[str, LeftOutReason] = {}
    for name in sorted(names):
        if shard_of(name, shard_count) != shard_index:
            continue
        reason = unusable(name, settings) if name in infos else "not_listed"
        if reason is None and not infos[name].complete:
            reason = "unusable_entry"
        if reason is None:
            symbols[name] = infos[name]
        else:
            left_out[name] = reason
    return Choice(symbols, left_out)


def _unknown(name: str, infos: Mapping[str, SymbolInfo]) -> str:
    close = difflib.get_close_matches(name, infos, n=3, cutoff=0.7)
    hint = f"; the exchange has {', '.join(close)}" if close else ""
    return f"K2_BINANCE_SYMBOLS: the exchange has no symbol {name!r}{hint}"


async def resolve(
    source: Source,
    settings: BinanceSettings,
    *,
    shard_index: int = 0,
    shard_count: int = 1,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Choice:
    """Find this shard's symbols; waits as long as the exchange does not answer or lists none of them.

    Raises ``Stop`` where none of the names in the settings exists: then they are wrong.
    """
    everything = "*" in settings.symbols
    wait = RETRY_SECONDS
    while True:
        try:
            infos = await source.exchange_info(None if everything else settings.symbols)
            if not everything and any(name not in infos for name in settings.symbols):
                infos = {**await source.exchange_info(), **infos}  # for names like it
        except Retry as error:
            log.warning("exchangeInfo: %s; again in %.1f s", error, error.after, extra={"seconds": error.after})
            await sleep(max(0.1, error.after))
            continue
        choice = choose(infos, settings, shard_index=shard_index, shard_count=shard_count)
        if choice.symbols:
            _report_idle(choice)
            report_left_out(choice.left_out, infos)
            return choice
        _check_possible(infos, settings, shard_index, shard_count)
        log.warning("nothing to record yet; asking again in %.0f s", wait, extra={"seconds": wait})
        await sleep(wait)
        wait = min(2 * wait, settings.symbol_refresh_seconds)


def _check_possible(
    infos: Mapping[str, SymbolInfo], settings: BinanceSettings, shard_index: int, shard_count: int
) -> None:
    """Raise ``Stop`` where the settings can never give this shard a symbol."""
    if "*" in settings.symbols:
        return
    # A list without any symbol says nothing about the names: the exchange is in maintenance.
    if infos and not any(name in infos for name in settings.symbols):
        raise Stop("\n".join(_unknown(name, infos) for name in settings.symbols))
    if not any(shard_of(name, shard_count) == shard_index for name in settings.symbols):
        raise Stop(f"nothing to record: no symbol of {','.join(settings.symbols)} is in shard {shard_index}")


def _report_idle(choice: Choice) -> None:
    idle = sorted(name for name, info in choice.symbols.items() if info.status != TRADING)
    if idle:
        log.info(
            "%d symbols are not in TRADING and may stay silent: %s", len(idle), ", ".join(idle[:20]),
            extra={"count": len(idle)},
        )  # fmt: skip


def report_left_out(left_out: Mapping[str, LeftOutReason], infos: Mapping[str, SymbolInfo]) -> None:
    """Log which symbols are not recorded, and why."""
    for name, reason in list(left_out.items())[:20]:
        detail = _unknown(name, infos) if reason == "not_listed" else f"{name!r}: {reason}"
        log.warning("not recorded: %s", detail, extra={"symbol": name, "reason": reason})
    if len(left_out) > 20:
        log.warning("not recorded: %d more symbols, see /status", len(left_out) - 20, extra={"count": len(left_out)})


def compare(
    known: Mapping[str, SymbolInfo],
    infos: Mapping[str, SymbolInfo],
    settings: BinanceSettings,
    *,
    shard_index: int = 0,
    shard_count: int = 1,
    missing: Collection[str] = (),
) -> Changes:
    """Return what differs between the symbols we record and the exchange's present list.

    A symbol that left the list is reported once, as changed to None; it is not dropped here. A name in the settings
    counts as listed where it was ``missing`` before: an operator may have removed it meanwhile.
    """
    choice = choose(infos, settings, shard_index=shard_index, shard_count=shard_count)
    everything = "*" in settings.symbols
    listed = [info for name, info in choice.symbols.items() if name not in known and (everything or name in missing)]
    changed = [
        (old, infos.get(name))
        for name, old in known.items()
        if infos.get(name) != old and not (name not in infos and old.status == NOT_LISTED)
    ]
    return Changes(listed, changed, choice.left_out)


async def refresh(
    source: Source,
    settings: BinanceSettings,
    known: Callable[[], Mapping[str, SymbolInfo]],
    on_changes: Callable[[Changes], None],
    *,
    shard_index: int = 0,
    shard_count: int = 1,
    left_out: Mapping[str, LeftOutReason] | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Read ``exchangeInfo`` again and again and report new listings and changes, until cancelled.

    ``known`` gives the symbols recorded now; ``on_changes`` is called on the loop and must not block. While symbols are
    left out (``left_out`` at the start) because the exchange does not have them it is read more often at first.
    """
    missing = dict(left_out or {})
    retry = RETRY_SECONDS
    delay = min(retry, settings.symbol_refresh_seconds) if _expected(missing) else settings.symbol_refresh_seconds
    while True:
        await sleep(delay)
        current = known()
        try:
            infos = await source.exchange_info(
                None if "*" in settings.symbols else sorted({*current, *settings.symbols})
            )
        except Retry as error:
            log.warning("exchangeInfo: %s; again in %.1f s", error, error.after, extra={"seconds": error.after})
            delay = max(0.1, min(error.after, settings.symbol_refresh_seconds))
            continue
        changes = compare(current, infos, settings, shard_index=shard_index, shard_count=shard_count, missing=missing)
        if changes.listed or changes.changed or changes.left_out != missing:
            on_changes(changes)
        missing = changes.left_out
        retry = min(2 * retry, settings.symbol_refresh_seconds)
        delay = retry if _expected(missing) else settings.symbol_refresh_seconds


def _expected(left_out: Mapping[str, LeftOutReason]) -> bool:
    return not {"not_listed", "unusable_entry"}.isdisjoint(left_out.values())
