"""Read the topics of the market from Python: committed records, in order, from an id, a time or a stored position.

    from ingest.reader import Start, read

    for record in read("market.crypto.trades.binance", symbols=["BTCUSDT"], start=Start.at_time(yesterday)):
        match record:
            case Trade(): ...
            case Void(): ...   # ids that the exchange itself could not give back
            case Gap(): ...    # ids that are missing: never seen on a sound topic
            case Deleted(): ...  # offsets that retention deleted before they were read

``agg_trades``, ``block_trades``, ``bars``, ``quotes`` and ``books`` in the place of the topic read the other streams:
``AggTrade``, ``Trade``, ``Bar``, ``Quote``, ``BookUpdate`` and ``BookSnapshot``, and ``Break`` where quotes or updates
are declared to be missing.

It needs confluent-kafka and fastavro alone and shares no code with the service. Memory is bounded by librdkafka's
queues, whatever the topic holds.
"""

from ingest.reader.market_records import AggTrade, Bar, BookSnapshot, BookUpdate, Break, Level, Quote
from ingest.reader.reader import KINDS, Reader, Record, read, sibling
from ingest.reader.records import EXACT, Deleted, Gap, ReaderError, RecordError, Start, Trade, Undecodable, Void

__all__ = [
    "EXACT", "KINDS", "AggTrade", "Bar", "BookSnapshot", "BookUpdate", "Break", "Deleted", "Gap", "Level", "Quote",
    "Reader", "ReaderError", "Record", "RecordError", "Start", "Trade", "Undecodable", "Void", "read", "sibling",
]  # fmt: skip
