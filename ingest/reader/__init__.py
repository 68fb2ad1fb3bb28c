"""Read the trades topic from Python: committed records alone, in order, from an id, a time or a stored position.

    from ingest.reader import Start, read

    for record in read("market.crypto.trades.binance", symbols=["BTCUSDT"], start=Start.at_time(yesterday)):
        match record:
            case Trade(): ...
            case Void(): ...   # ids that the exchange itself could not give back
            case Gap(): ...    # ids that are missing: never seen on a sound topic

It needs confluent-kafka and fastavro alone and shares no code with the service. Memory is bounded by librdkafka's
queues, whatever the topic holds.
"""

from ingest.reader.reader import Reader, read
from ingest.reader.records import EXACT, Gap, ReaderError, Record, Start, Trade, Void

__all__ = ["EXACT", "Gap", "Reader", "ReaderError", "Record", "Start", "Trade", "Void", "read"]
