"""The verdict on one run, from the model's books alone: shares nothing with the code that it judges."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tests.campaigns.deterministic.broker import Broker
from tests.campaigns.deterministic.client import PARTITIONS
from tests.campaigns.deterministic.exchange import UNREPRESENTABLE, Books, Exchange
from tests.campaigns.deterministic.node import POSITIONS, TOPIC
from tests.campaigns.deterministic.records import content


def judge(exchange: Exchange, broker: Broker, aggregates: Mapping[str, Books] = MappingProxyType({})) -> list[str]:
    """What is wrong, one line each; empty if nothing is. ``aggregates``: judged as trades are, in their own topic."""
    problems: list[str] = []
    stored: dict[str, dict[str, Any]] = {}
    voids: dict[str, dict[int, str]] = {}
    for record in broker.read(POSITIONS, 0)[0]:
        kind, _, rest = (record.key or b"").decode().partition(":")
        value = json.loads(record.value)
        if kind == "position":
            stored[rest] = value
        elif kind == "void":
            for trade_id in range(value["first_id"], value["last_id"] + 1):
                voids.setdefault(value["symbol"], {})[trade_id] = value["reason"]
    found: dict[str, list[tuple[int, bytes]]] = {symbol: [] for symbol in exchange.books}
    places: dict[str, set[int]] = {}
    found |= {books.symbol: [] for books in aggregates.values()}
    for topic, partition in ((topic, partition) for topic in (TOPIC, "agg_trades") for partition in range(PARTITIONS)):
        for record in broker.read((topic, partition), 0)[0]:
            symbol = ("" if topic == TOPIC else "aggTrade:") + (record.key or b"?").decode()
            places.setdefault(symbol, set()).add(partition)
            found.setdefault(symbol, []).append((int(record.value.split()[0]), record.value))
    for symbol, books in [*exchange.books.items(), *((books.symbol, books) for books in aggregates.values())]:
        problems += _symbol(books, found[symbol], stored.get(symbol), voids.get(symbol, {}))
    problems += [f"{symbol}: in {len(where)} partitions" for symbol, where in places.items() if len(where) > 1]
    return problems


def _symbol(
    books: Books, found: list[tuple[int, bytes]], position: dict[str, Any] | None, voids: dict[int, str]
) -> list[str]:
    name, problems = books.symbol, []
    if position is None:
        return [f"{name}: no position"] if books.trades else []
    due = position["first_id"]
    seen: set[int] = set()
    for trade_id, value in found:
        if trade_id in seen:
            problems.append(f"{name}: {trade_id} duplicated")
        elif trade_id < due:
            problems.append(f"{name}: {trade_id} out of order")
        seen.add(trade_id)
        due = max(due, trade_id + 1)
        trade = books.trades.get(trade_id)
        if trade is None or content(trade) != value:
            problems.append(f"{name}: {trade_id} altered: {value!r}")
    if books.reset_from is not None and position["last_id"] >= books.reset_from:
        problems.append(f"{name}: position {position['last_id']} although ids began again at {books.reset_from}")
    last_id = max(books.trades, default=books.first_id - 1)
    for trade_id in range(position["first_id"], last_id + 1):
        trade = books.trades.get(trade_id)
        if trade is not None and trade.price == UNREPRESENTABLE:
            if voids.get(trade_id) != "unrepresentable":
                problems.append(f"{name}: {trade_id} is not representable and no void says so")
        elif trade is not None and trade_id not in seen:
            problems.append(f"{name}: {trade_id} missing")
        elif trade is not None and trade_id in voids:
            problems.append(f"{name}: {trade_id} is no void")
        elif trade is None and trade_id not in voids:
            problems.append(f"{name}: {trade_id} unaccounted")
    if seen and min(seen) < position["first_id"]:
        problems.append(f"{name}: {min(seen)} before the first id {position['first_id']}")
    if position["last_id"] != last_id and books.trades:
        problems.append(f"{name}: position {position['last_id']}, the exchange is at {last_id}")
    if position["count"] != len(seen):
        problems.append(f"{name}: position counts {position['count']} trades, the topic has {len(seen)}")
    return problems
