"""cryptofeed's Binance trades into its Kafka back end (JSON), as it is shipped: run by a Python that has cryptofeed.

What is set besides addresses: one topic in place of one for each symbol; no TLS (it accepts only ``wss://``; the
connection is made to ``ws://``); and a full queue of its release 3 waits, where it would lose the oldest trades. Cost
is compared here, and none of this adds to it.
"""

import argparse
import asyncio
import json
import os
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any


def feed(options: argparse.Namespace) -> Any:
    """Its Binance feed for every symbol that the source lists."""
    binance = import_module("cryptofeed.exchanges").Binance
    channel = import_module("cryptofeed.defines").TRADES
    [rest], [websocket] = binance.rest_endpoints, binance.websocket_endpoints
    rest.address = options.rest_url
    websocket.address = options.ws_url.replace("ws://", "wss://")
    callback = import_module("cryptofeed.backends.kafka").TradeKafka(bootstrap_servers=options.bootstrap_servers)
    if hasattr(callback, "overflow"):
        callback.overflow = "block"
    callback.topic = lambda _data: options.topic
    found = binance(symbols=binance.symbols(), channels=[channel], callbacks={channel: callback})
    connect = found.connect

    def without_tls() -> Any:
        connections = connect()
        for connection, *_ in connections:
            connection.address = connection.address.replace("wss://", "ws://")
        return connections

    found.connect = without_tls
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("ws-url", "rest-url", "bootstrap-servers", "topic"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--ready-file", type=Path, required=True)
    options = parser.parse_args()
    handler_type = import_module("cryptofeed").FeedHandler
    handler = handler_type(config={"uvloop": True, "log": {"disabled": True}})
    asyncio.set_event_loop(asyncio.new_event_loop())  # it asks for the current one, which newer Pythons no longer make
    handler.add_feed(feed(options))
    partial = options.ready_file.with_suffix(".partial")
    partial.write_text(json.dumps({"pid": os.getpid(), "version": version("cryptofeed")}))
    partial.replace(options.ready_file)
    handler.run()


if __name__ == "__main__":
    main()
