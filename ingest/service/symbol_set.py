"""The symbols that this instance records, and every way in which they change: listings, commands, stored changes.

One change at a time, and one rule for all of them: a symbol belongs to exactly one shard. Changes by command are stored
in the positions topic with the next transaction, so that a restart and a standby follow them.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from ingest.binance.symbols import (
    LEFT_OUT_REASONS,
    NOT_LISTED,
    Changes,
    Choice,
    LeftOutReason,
    SymbolInfo,
    report_left_out,
    shard_of,
)
from ingest.core.batch import SymbolChanges
from ingest.core.errors import Retry, Stop
from ingest.metrics import Metrics
from ingest.service.pipeline import Pipeline
from ingest.settings import Settings

log = logging.getLogger(__name__)

STORED_SECONDS = 10.0
"""How long a command waits until its change is committed."""
RETRY_SECONDS = 5.0


class ExchangeInfo(Protocol):
    """Where the exchange's list of symbols can be had."""

    async def exchange_info(self, symbols: Sequence[str] | None = None) -> dict[str, SymbolInfo]:
        """Return what is known about the symbols; unknown ones are absent. Raises ``Retry``."""


class Subscriptions(Protocol):
    """The feed, as far as its symbols change."""

    async def add_symbols(self, symbols: Iterable[str]) -> None:
        """Receive these, too."""

    async def remove_symbols(self, symbols: Iterable[str]) -> None:
        """Receive these no longer."""


class Assets(Protocol):
    """The encoder, as far as it must know the symbols."""

    def add_symbol(self, symbol: str, base_asset: str, quote_asset: str) -> None:
        """Encode this one's trades, too."""


class SymbolSet:
    """The recorded symbols of one instance. All calls on the loop."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        pipeline: Pipeline,
        exchange: ExchangeInfo,
        feed: Subscriptions,
        *,
        last_ids: Callable[[], Mapping[str, int]],
    ) -> None:
        """``last_ids`` returns symbol -> its last id in Kafka, for those that have a position."""
        self._configured = settings.binance.symbols
        self._shard, self._shards = settings.shard, settings.service.shard_count
        self._metrics = metrics
        self._pipeline = pipeline
        self._exchange = exchange
        self._feed = feed
        self._last_ids = last_ids
        self._assets: Assets | None = None
        self._one_change = asyncio.Lock()
        self._due = asyncio.Event()
        self._news = asyncio.Event()
        self._unstored = False
        """A command's changes are on their way to the topic: older ones that arrive meanwhile do not undo them."""
        self.infos: dict[str, SymbolInfo] = {}
        self.left_out: dict[str, LeftOutReason] = {}
        """Symbols that the settings or the records promise and that are not recorded, with the reason."""
        self._forgotten: frozenset[str] = frozenset()
        """Symbols of this shard with recent records and without a position of a writer, as of the last take-over."""
        self.changes = SymbolChanges()
        """What commands have changed about the settings' list."""
        self._stored = SymbolChanges()

    def _ours(self, symbol: str) -> bool:
        return shard_of(symbol, self._shards) == self._shard

    async def begin(self, choice: Choice, assets: Assets) -> None:
        """Record the symbols of the settings, with the stored changes. ``assets`` knows the chosen ones already."""
        async with self._one_change:
            removed = set(self.changes.removed)
            self._assets = assets
            self.infos = {symbol: info for symbol, info in choice.symbols.items() if symbol not in removed}
            for symbol in self.infos:
                self._metrics.symbol_label(symbol)
                self._pipeline.sequencer.add(symbol)
            self._show_left_out(choice.left_out)
            await self._forget({*removed, *choice.left_out})
            await self._feed.add_symbols(self.infos)

    def recorded_before(self, symbols: Iterable[str]) -> None:
        """Take what a take-over found: symbols with recent records that have no position, or a rebuilt one.

        A command had added those that are not in the settings, and was lost together with the positions.
        """
        self._forgotten = frozenset(symbol for symbol in symbols if self._ours(symbol))
        self._show_left_out({name: reason for name, reason in self.left_out.items() if reason != "forgotten"})
        found = sorted(name for name, reason in self.left_out.items() if reason == "forgotten")
        if found:
            log.error(
                "the topic has recent records of symbols that nothing names any more: %s. Their positions and the "
                "commands that added them are lost: run `ingest positions rebuild`, then record them with "
                "`POST /control/symbols`, or name them in K2_BINANCE_SYMBOLS",
                ", ".join(found[:20]), extra={"symbols": found[:20], "count": len(found)},
            )  # fmt: skip

    def _show_left_out(self, left_out: Mapping[str, LeftOutReason]) -> None:
        self.left_out = dict(left_out)
        if self._assets is not None:
            gone = self._forgotten - self.infos.keys() - set(self.changes.removed) - left_out.keys()
            self.left_out |= dict.fromkeys(sorted(gone), "forgotten")
        for reason in LEFT_OUT_REASONS:
            self._metrics.symbols_left_out.labels(reason).set(sum(each == reason for each in self.left_out.values()))

    async def _forget(self, symbols: Iterable[str]) -> None:
        """Stop expecting symbols that were subscribed by their names alone."""
        gone = sorted(name for name in symbols if name not in self.infos)
        if gone:
            await self._feed.remove_symbols(gone)
            for name in gone:
                self._pipeline.remove(name)

    async def run(self) -> None:
        """Apply changes that another instance, or an earlier start, has stored; until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                async with self._one_change:
                    await self._follow()
            except Retry as error:
                log.warning("exchangeInfo: %s", error)
                self._due.set()
                await asyncio.sleep(max(RETRY_SECONDS, error.after))

    def stored(self, changes: SymbolChanges) -> None:
        """Take the changes that the positions topic has."""
        self._stored = changes
        if self._assets is None:
            self.changes = changes
        if changes == self.changes:
            self._unstored = False
        self._news.set()
        self._due.set()

    async def _follow(self) -> None:
        if self._assets is None or self._unstored:
            return
        wanted, known = self._stored, set(self.infos)
        self.changes = wanted
        gone = [symbol for symbol in wanted.removed if symbol in known]
        new = [symbol for symbol in wanted.added if symbol not in known and self._ours(symbol)]
        if new:
            infos = await self._usable(new)
            for symbol in sorted(set(new) - set(infos)):
                log.warning("a symbol that a command had added is not on the exchange", extra={"symbol": symbol})
            await self._add([infos[symbol] for symbol in new if symbol in infos])
        await self._remove(gone)

    async def _usable(self, symbols: Sequence[str]) -> dict[str, SymbolInfo]:
        """What the exchange has of these symbols, as far as records can be made of it. Raises ``Retry``."""
        infos = await self._exchange.exchange_info(symbols)
        return {symbol: info for symbol, info in infos.items() if info.complete}

    async def change(self, add: Sequence[str], remove: Sequence[str], *, writing: bool) -> dict[str, Any]:
        """Carry out a command; returns once the change is stored, or says that it is not yet.

        Raises ``Stop`` for symbols that the exchange does not have or another shard records: nothing is changed then.
        """
        if not writing:
            raise Stop("this instance does not write: send the command to the writer, the standby follows it")
        foreign = sorted(symbol for symbol in add if not self._ours(symbol))
        if foreign:
            shards = ", ".join(f"{symbol} (shard {shard_of(symbol, self._shards)})" for symbol in foreign)
            raise Stop(f"this is shard {self._shard} and does not record {shards}: nothing was changed")
        async with self._one_change:
            if self._assets is None:
                raise Stop("this instance is starting: ask again in a moment")
            new = [symbol for symbol in add if symbol not in self.infos]
            infos = await self._usable(new) if new else {}
            unknown = sorted(set(new) - set(infos))
            if unknown:
                raise Stop(f"the exchange has no symbol {', '.join(unknown)}: nothing was changed")
            gone = [symbol for symbol in remove if symbol in self.infos]
            await self._add([infos[symbol] for symbol in new])
            await self._remove(gone)
            self._record(add, remove)
        answer = {"added": new, "removed": gone, "symbols": len(self.infos)}
        return {**answer, "stored": await self._is_stored()}

    def _record(self, add: Sequence[str], remove: Sequence[str]) -> None:
        everything = "*" in self._configured
        listed = set(self._configured)
        added = (set(self.changes.added) | set(add)) - set(remove)
        removed = (set(self.changes.removed) | set(remove)) - set(add)
        changes = SymbolChanges(
            tuple(sorted(symbol for symbol in added if everything or symbol not in listed)),
            tuple(sorted(symbol for symbol in removed if everything or symbol in listed)),
        )
        if changes != self.changes:
            self.changes = changes
            self._unstored = True
            self._pipeline.outbox.set_symbols(changes)
            self._pipeline.on_ready()

    async def _is_stored(self) -> bool:
        """Wait until the changes are committed. A writer that could not commit them follows what is stored again."""
        try:
            async with asyncio.timeout(STORED_SECONDS):
                while self._stored != self.changes:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            self._unstored = False
        return self._stored == self.changes

    async def listed(self, changes: Changes) -> None:
        """Take what a refresh of the exchange's list found."""
        async with self._one_change:
            for old, new in changes.changed:
                self._update(old, new if new is not None else msgspec.structs.replace(old, status=NOT_LISTED))
            news = {name: reason for name, reason in changes.left_out.items() if self.left_out.get(name) != reason}
            report_left_out(news, self.infos)
            self._show_left_out(changes.left_out)
            await self._forget(changes.left_out)
            removed = set(self.changes.removed)
            await self._add([info for info in changes.listed if info.symbol not in removed])

    def _update(self, old: SymbolInfo, new: SymbolInfo) -> None:
        if old.symbol not in self.infos:
            return
        self.infos[old.symbol] = new
        if new.status != old.status:
            log.warning(
                "%s: %s -> %s", old.symbol, old.status, new.status,
                extra={"symbol": old.symbol, "status": new.status, "before": old.status},
            )  # fmt: skip

    async def _add(self, infos: Sequence[SymbolInfo]) -> None:
        new = [info for info in infos if info.symbol not in self.infos]
        if not new or self._assets is None:
            return
        last_ids = self._last_ids()
        for info in new:
            self.infos[info.symbol] = info
            self._assets.add_symbol(info.symbol, info.base_asset, info.quote_asset)
            self._metrics.symbol_label(info.symbol)
            self._pipeline.add(info.symbol, last_ids.get(info.symbol))
        names = [info.symbol for info in new]
        await self._feed.add_symbols(names)
        self._show_left_out({name: why for name, why in self.left_out.items() if why != "forgotten"})
        log.info("recording more symbols", extra={"count": len(names), "symbols": names[:20]})

    async def _remove(self, symbols: Sequence[str]) -> None:
        if not symbols:
            return
        await self._feed.remove_symbols(symbols)
        for symbol in symbols:
            del self.infos[symbol]
            self._pipeline.remove(symbol)
        log.info("recording fewer symbols", extra={"count": len(symbols), "symbols": list(symbols)[:20]})
