"""The records of the trades in the models: texts that the judge can compare."""

from ingest.core.errors import Reject
from ingest.core.trade import Trade
from tests.campaigns.deterministic.exchange import UNREPRESENTABLE


class TextEncoder:
    """A record that states the trade's content, so that the judge can compare it."""

    def encode(self, trade: Trade, ingestion_us: int) -> bytes:
        del ingestion_us
        if trade.price == UNREPRESENTABLE:
            raise Reject("bad_decimal", trade.price)
        return content(trade)

    def received(self, receive_us: int) -> None:
        pass


def content(trade: Trade) -> bytes:
    """What the record of a trade must be."""
    return b"%d %s %s" % (trade.trade_id, trade.price.encode(), trade.quantity.encode())
