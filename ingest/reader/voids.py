"""The voids that the service has recorded, read when a gap asks for them."""

import json
import logging
from collections.abc import Mapping

from ingest.reader.consumer import TopicConsumer
from ingest.reader.records import Void
from ingest.reader.schemas import MALFORMED

log = logging.getLogger(__name__)

PREFIX = b"void:"
JUNK_LOGGED = 20
"""Lines; all of it is counted."""


class Voids:
    """Voids by symbol and first id. The positions topic is read only if ids are missing, and then only what is new."""

    def __init__(self, bootstrap_servers: str, topic: str, options: Mapping[str, str], *, timeout: float) -> None:
        self._connect = (bootstrap_servers, topic, options)
        self._timeout = timeout
        self._offsets: dict[int, int] = {}
        self._known: dict[tuple[str, int], Void] = {}
        self.junk = 0
        """Records under the key of a void that are none: skipped. Any client with access can have written them."""

    def find(self, symbol: str, first_id: int) -> Void | None:
        """The void that begins at or covers this id; None if none is recorded."""
        return self._covering(symbol, first_id) or (self._read() and self._covering(symbol, first_id)) or None

    def _covering(self, symbol: str, trade_id: int) -> Void | None:
        exact = self._known.get((symbol, trade_id))
        if exact is not None:
            return exact
        for void in self._known.values():
            if void.symbol == symbol and void.first_id <= trade_id <= void.last_id:
                return Void(symbol, trade_id, void.last_id, void.reason, void.evidence)
        return None

    def _read(self) -> bool:
        servers, topic, options = self._connect
        consumer = TopicConsumer(servers, topic, options, timeout=self._timeout)
        try:
            offsets = {
                partition: max(self._offsets.get(partition, 0), consumer.bounds(partition)[0])
                for partition in consumer.partitions()
            }
            for message in consumer.read(offsets, follow=False):
                self._offsets[message.partition] = message.offset + 1
                if message.key.startswith(PREFIX) and message.value:
                    self._keep(message.value, f"{topic}, {message.where}")
        finally:
            consumer.close()
        return True

    def _keep(self, value: bytes, where: str) -> None:
        try:
            entry = json.loads(value)
            void = Void(
                str(entry["symbol"]), int(entry["first_id"]), int(entry["last_id"]),
                str(entry.get("reason", "")), entry.get("evidence"),
            )  # fmt: skip
        except MALFORMED as error:
            self.junk += 1
            if self.junk <= JUNK_LOGGED:
                log.warning("%s: skipped what is not a void: %.200s", where, error)
            return
        if void.last_id >= void.first_id:
            self._known[void.symbol, void.first_id] = void
