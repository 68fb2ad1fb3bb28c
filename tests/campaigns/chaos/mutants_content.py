"""Planted faults of what a record says, and of where it goes.

The models' records are not Avro, so these show on the real topic only.
"""

import os
from collections.abc import Callable
from typing import Any

import msgspec

from ingest.binance import symbols
from ingest.core.errors import Reject
from ingest.core.sequence import Sequencer
from ingest.core.symbol_sequence import SymbolSequence
from ingest.core.trade import Trade, Void
from ingest.kafka import encoding
from ingest.kafka.producer import Message
from ingest.kafka.transactional_writer import TransactionalWriter
from ingest.service import parts, symbol_set
from ingest.service.backfill import Backfill, Page
from tests.campaigns.chaos.mutant_table import Patch, mutant, unguarded

# --- content: the model's records are not Avro, so these show on the real topic only ---


def _recoded(patch: Patch, change: Callable[[Trade], Trade]) -> None:
    original = encoding.TradeEncoder.encode

    def encode(self: encoding.TradeEncoder, trade: Trade, ingestion_us: int) -> bytes:
        return original(self, change(trade), ingestion_us)

    patch(encoding.TradeEncoder, "encode", encode)


@mutant("times lose their microseconds", seeds=0, plan="few")
def time_in_milliseconds(patch: Patch) -> None:
    _recoded(patch, lambda one: msgspec.structs.replace(one, trade_time_us=one.trade_time_us // 1000 * 1000))


@mutant("buyer and seller are confused", seeds=0, plan="few")
def sides_swapped(patch: Patch) -> None:
    _recoded(patch, lambda one: msgspec.structs.replace(one, buyer_is_maker=not one.buyer_is_maker))


@mutant("quantities are rounded to six decimal places by way of a float", seeds=0, plan="few")
def quantity_through_a_float(patch: Patch) -> None:
    _recoded(patch, lambda one: msgspec.structs.replace(one, quantity=f"{float(one.quantity) * 1.0000001:.6f}"))


# --- what the encoder keeps from one trade to the next ---


@mutant("numbers beyond 2**53 pass through a float", seeds=0, plan="edges")
def float_beyond_its_digits(patch: Patch) -> None:
    original = encoding.avro_decimal

    def decimal(text: str, what: str) -> bytes:
        value = encoding.unscaled(text, what)
        if value <= 2**53:
            return original(text, what)
        inexact = int(float(value))
        return original(f"{inexact // 10**8}.{inexact % 10**8:08d}", what)

    patch(encoding, "avro_decimal", decimal)


@mutant("a cached block of ids is shared by all symbols", seeds=0, plan="edges")
def id_blocks_shared_by_symbols(patch: Patch) -> None:
    shared: dict[int, bytes] = {}
    original = encoding._Symbol.enter

    def enter(self: encoding._Symbol, trade_id: int) -> int:
        place = original(self, trade_id)
        self.before_id = shared.setdefault(trade_id // 10_000, self.before_id)
        return place

    patch(encoding._Symbol, "enter", enter)


@mutant("bytes of the id before 2**23 are still there behind it", seeds=0, plan="edges")
def stale_bytes_behind_a_bound(patch: Patch) -> None:
    original = encoding._Symbol.enter

    def enter(self: encoding._Symbol, trade_id: int) -> int:
        stale = self.id_tail
        place = original(self, trade_id)
        if stale and trade_id // 2**23 != (trade_id - 2**13) // 2**23:
            self.id_tail = stale
        return place

    patch(encoding._Symbol, "enter", enter)


@mutant("a time just before the cached block is looked up below zero", seeds=0, plan="edges")
def table_indexed_below_zero(patch: Patch) -> None:
    original = encoding.TradeEncoder.encode

    def encode(self: encoding.TradeEncoder, trade: Trade, ingestion_us: int) -> bytes:
        place = trade.trade_time_us - self._time_first
        if -encoding._VARINT_BLOCK <= place < 0:
            trade = msgspec.structs.replace(trade, trade_time_us=trade.trade_time_us + encoding._VARINT_BLOCK)
        return original(self, trade, ingestion_us)

    patch(encoding.TradeEncoder, "encode", encode)


@mutant("the length of a decimal has no room for its sign", seeds=0, plan="edges")
def decimals_without_room_for_the_sign(patch: Patch) -> None:
    def decimal(text: str, what: str) -> bytes:
        value = encoding.unscaled(text, what)
        length = max(1, (value.bit_length() + 7) >> 3)
        return encoding.zigzag(length) + value.to_bytes(length, "big")

    patch(encoding, "avro_decimal", decimal)


@mutant("two prices that are equal as floats share their bytes", seeds=0, plan="edges")
def prices_compared_as_floats(patch: Patch) -> None:
    last: dict[str, str] = {}

    def change(one: Trade) -> Trade:
        before = last.setdefault(one.symbol, one.price)
        if float(before) == float(one.price):
            return msgspec.structs.replace(one, price=before)
        last[one.symbol] = one.price
        return one

    _recoded(patch, change)


@mutant("ids are cut to 32 bits", seeds=0, plan="edges")
def ids_cut_to_32_bits(patch: Patch) -> None:
    original = encoding._unsigned
    bits = 32 - 13
    patch(encoding, "_unsigned", lambda number: original(number % 2**bits if number < 2**36 else number))


@mutant("the last four digits of an id lose their leading zeros", seeds=0, plan="edges")
def leading_zeros_lost(patch: Patch) -> None:
    patch(encoding, "_FOUR_DIGITS", [b"%4d" % low for low in range(10_000)])


# --- what no trade of the exchange says ---


def _stamped(patch: Patch, change: Callable[[Trade, int], int]) -> None:
    original = encoding.TradeEncoder.encode

    def encode(self: encoding.TradeEncoder, trade: Trade, ingestion_us: int) -> bytes:
        return original(self, trade, change(trade, ingestion_us))

    patch(encoding.TradeEncoder, "encode", encode)


@mutant("the time of ingestion is that of 1970", seeds=0, plan="few")
def ingested_in_1970(patch: Patch) -> None:
    _stamped(patch, lambda _trade, now_us: now_us // 1_000_000)


@mutant("the time of ingestion is an hour before the trade", seeds=0, plan="few")
def ingested_before_the_trade(patch: Patch) -> None:
    _stamped(patch, lambda trade, _: trade.trade_time_us - 3_600_000_000)


@mutant("the time of ingestion is an hour ahead", seeds=0, plan="few")
def ingested_in_the_future(patch: Patch) -> None:
    _stamped(patch, lambda _, now_us: now_us + 3_600_000_000)


@mutant("the currency is guessed by the symbol's suffix", seeds=0, plan="edges")
def currency_by_suffix(patch: Patch) -> None:
    original = encoding._Symbol.__init__
    suffixes = ("USDT", "USDC", "TUSD", "BUSD", "FDUSD", "BTC", "ETH", "BNB", "TRY", "EUR", "BRL", "JPY")

    def init(self: encoding._Symbol, magic: bytes, symbol: str, base: str, quote: str) -> None:
        found = next((one for one in suffixes if symbol.endswith(one) and symbol != one), quote)
        original(self, magic, symbol, symbol.removesuffix(found), found)

    patch(encoding._Symbol, "__init__", init)


@mutant("a trade of no quantity is passed over as void", seeds=0, plan="odd")
def zero_quantity_passed_over(patch: Patch) -> None:
    original = encoding.TradeEncoder.encode

    def encode(self: encoding.TradeEncoder, trade: Trade, ingestion_us: int) -> bytes:
        if not float(trade.quantity):
            raise Reject("bad_decimal", "no quantity")
        return original(self, trade, ingestion_us)

    patch(encoding.TradeEncoder, "encode", encode)


# --- where it goes ---


@mutant("the positions of every shard are written to partition 0", seeds=0, plan="shards")
def positions_in_one_partition(patch: Patch) -> None:
    original = TransactionalWriter._internal

    def internal(self: TransactionalWriter, record: tuple[bytes, bytes]) -> Message:
        topic, key, value, _ = original(self, record)
        return topic, key, value, 0

    patch(TransactionalWriter, "_internal", internal)


@mutant("every shard records every symbol", seeds=0, plan="shards")
def symbols_of_other_shards(patch: Patch) -> None:
    def index(_symbol: str, _count: int) -> int:
        return int(os.environ.get("K2_SHARD_INDEX", "0"))

    patch(symbols, "shard_of", index)
    patch(parts, "shard_of", index)
    patch(symbol_set, "shard_of", index)


@mutant("the last trade of a full page of history is lost as a void", seeds=0, plan="history")
def last_of_a_full_page_void(patch: Patch) -> None:
    unguarded(patch)
    patch(Sequencer, "check_void", lambda _self, _void: None)
    original, size = Backfill._use, 25

    def use(self: Backfill, sequence: SymbolSequence, asked: int, page: Page) -> float:
        class Rest(msgspec.Struct):
            trades: list[Trade]
            rejected: Any

        self._page = size
        if len(page.trades) < size:
            return original(self, sequence, asked, page)
        last = page.trades[size - 1]
        seconds = original(self, sequence, asked, Rest(page.trades[: size - 1], page.rejected))
        if sequence.next_id == last.trade_id:
            self._pipeline.void(Void(sequence.symbol, last.trade_id, last.trade_id, "exchange_hole", {}))
            return 0.0
        return seconds

    patch(Backfill, "_use", use)
