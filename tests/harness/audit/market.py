"""What a flawless writer makes of the events of the streams besides trades: decoded records, in order."""

from collections.abc import Iterable
from typing import Any

from tests.harness.audit.books import QUOTE, SYMBOL, unscaled

Event = dict[str, Any]
Fields = dict[str, Any]


def common(symbol: str = SYMBOL) -> Fields:
    """What every record has."""
    return {
        "symbol": symbol,
        "exchange": "BINANCE",
        "asset_class": "crypto",
        "currency": QUOTE,
        "platform_sequence": None,
        "vendor_data": {"base_asset": symbol.removesuffix(QUOTE), "quote_asset": QUOTE},
        "event_timestamp": None,
        "receive_timestamp": None,
    }


def padded(text: str) -> str:
    """A decimal with eight places."""
    whole, _, places = text.partition(".")
    return f"{whole}.{places:0<8}"


def amount(text: str) -> bytes:
    """A decimal as Avro holds it."""
    return unscaled(padded(text))


def aggregate(event: Event) -> Fields:
    """``AggTradeV2`` of an event in microseconds."""
    return common(event["s"]) | {
        "message_id": f"BINANCE-{event['s']}-agg-{event['a']}",
        "timestamp": event["T"],
        "price": amount(event["p"]),
        "quantity": amount(event["q"]),
        "side": "SELL" if event["m"] else "BUY",
        "first_trade_id": event["f"],
        "last_trade_id": event["l"],
        "source_sequence": event["a"],
        "ingestion_timestamp": event["E"],
    }


def block(event: Event) -> Fields:
    """``TradeV2`` of a block trade in microseconds."""
    return common(event["s"]) | {
        "message_id": f"BINANCE-{event['s']}-block-{event['t']}",
        "trade_id": f"BINANCE-block-{event['t']}",
        "timestamp": event["T"],
        "price": amount(event["p"]),
        "quantity": amount(event["q"]),
        "side": "SELL" if event["m"] else "BUY",
        "trade_conditions": ["BLOCK_TRADE"],
        "source_sequence": event["t"],
        "ingestion_timestamp": event["E"],
    }


def bar(event: Event, length_us: int) -> Fields:
    """``BarV2`` of a closed bar's event in microseconds."""
    k = event["k"]
    names = ("open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume")
    figures = {name: amount(k[key]) for name, key in zip(names, "ohlcvqVQ", strict=True)}
    number = k["t"] // length_us
    ids = (k["f"], k["L"]) if k["n"] else (None, None)
    return (
        common(event["s"])
        | figures
        | {
            "message_id": f"BINANCE-{event['s']}-kline_{k['i']}-{number}",
            "interval": k["i"],
            "open_timestamp": k["t"],
            "close_timestamp": k["T"],
            "trade_count": k["n"],
            "first_trade_id": ids[0],
            "last_trade_id": ids[1],
            "source_sequence": number,
            "ingestion_timestamp": event["E"],
        }
    )


def quote(event: Event, now_us: int) -> Fields:
    """``QuoteV2`` of an event."""
    prices = {"bid_price": "b", "bid_quantity": "B", "ask_price": "a", "ask_quantity": "A"}
    return (
        common(event["s"])
        | {name: amount(event[key]) for name, key in prices.items()}
        | {
            "message_id": f"BINANCE-{event['s']}-quote-{event['u']}",
            "kind": "QUOTE",
            "quote_id": f"BINANCE-{event['u']}",
            "timestamp": None,
            "source_sequence": event["u"],
            "ingestion_timestamp": now_us,
            "break_detail": None,
        }
    )


def quote_break(last: int, first: int, now_us: int) -> Fields:
    """A declared interruption of quotes."""
    return common() | {
        "message_id": f"BINANCE-{SYMBOL}-quote-break-{first}",
        "kind": "BREAK",
        "quote_id": f"BINANCE-{first}",
        "timestamp": None,
        **dict.fromkeys(("bid_price", "bid_quantity", "ask_price", "ask_quantity")),
        "source_sequence": first,
        "ingestion_timestamp": now_us,
        "break_detail": detail(last, first, now_us),
    }


def detail(last: int, first: int, now_us: int) -> Fields:
    """What a BREAK says of itself."""
    return {
        "last_update_id": last, "first_update_id": first, "from_timestamp": now_us, "to_timestamp": now_us,
        "reason": "connection", "evidence": "{}",
    }  # fmt: skip


def levels(side: Iterable[Iterable[str]]) -> list[Fields]:
    """One side of a book."""
    return [{"price": amount(price), "quantity": amount(quantity)} for price, quantity in side]


def update(event: Event) -> Fields:
    """An UPDATE of a depth event in microseconds."""
    return _book("update", event["u"], event["E"]) | {
        "timestamp": event["E"],
        "first_update_id": event["U"],
        "final_update_id": event["u"],
        "bids": levels(event["b"]),
        "asks": levels(event["a"]),
    }


def snapshot(body: Event, now_us: int) -> Fields:
    """A SNAPSHOT of a reply of REST."""
    number = body["lastUpdateId"]
    return _book("snapshot", number, now_us) | {
        "first_update_id": number,
        "final_update_id": number,
        "bids": levels(body["bids"]),
        "asks": levels(body["asks"]),
    }


def book_break(last: int, first: int, now_us: int) -> Fields:
    """A BREAK between two update ids."""
    return _book("break", first, now_us) | {
        "first_update_id": last + 1,
        "final_update_id": first - 1,
        "bids": [],
        "asks": [],
        "break_detail": detail(last, first, now_us),
    }


def _book(kind: str, number: int, now_us: int) -> Fields:
    return common() | {
        "message_id": f"BINANCE-{SYMBOL}-book-{kind}-{number}",
        "kind": kind.upper(),
        "timestamp": None,
        "ingestion_timestamp": now_us,
        "break_detail": None,
    }
