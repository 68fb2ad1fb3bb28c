"""A stand-in for librdkafka's transactional producer on the broker in memory: what it does with requests that go wrong.

Requests may be slow, be lost with their connection, be answered into the void, or arrive long after the connection
they were sent on has gone; the client sends again on a new connection, half a second later at the earliest.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from tests.campaigns.deterministic.broker import Broker, Code, Place
from tests.campaigns.deterministic.scheduler import Actor, Thread, VirtualTime

RECONNECT_SECONDS = (0.5, 1.0)
"""After an attempt that failed. The first one after a connection that had lived for a while comes at once."""
INIT_AGAIN_SECONDS = 0.5
"""After "concurrent transactions": the library's own timer."""
PARTITIONS = 2


class Network:
    """The way between the producers and the broker, and what goes wrong on it. Rates are per request."""

    def __init__(self, world: VirtualTime, broker: Broker, dice: random.Random) -> None:
        self.world = world
        self.broker = broker
        self.dice = dice
        self.latency = (0.001, 0.02)
        self.lost = 0.0
        """Requests lost together with the connection."""
        self.unanswered = 0.0
        """Requests that arrive, but whose answer is lost together with the connection."""
        self.late = 0.0
        """Requests that arrive long after their connection has gone."""
        self.late_ends = 0.0
        """The same for EndTxn alone."""
        self.slow = 0.0
        """Requests that take long, on a connection that lives."""
        self.refused = 0.0
        """Produced messages whose delivery fails."""
        self.injected = 0

    def heal(self) -> None:
        """From now on all is well."""
        self.lost = self.unanswered = self.late = self.late_ends = self.slow = self.refused = 0.0
        self.broker.up = True

    def fate(self, end: bool) -> str:
        """What happens to the next request."""
        roll = self.dice.random()
        for name, rate in (
            ("lost", self.lost),
            ("unanswered", self.unanswered),
            ("late", self.late_ends if end and self.late_ends else self.late),
            ("slow", self.slow),
        ):
            if roll < rate:
                self.injected += 1
                return name
            roll -= rate
        return "well"


class Request:
    """One request until it is answered; sent again whenever its connection goes."""

    def __init__(self, producer: "ModelProducer", apply: Callable[[], Any], *, end: bool = False) -> None:
        self._producer = producer
        self._apply = apply
        self._end = end
        self._attempt = 0
        self.answered = False
        self.answer: Any = None
        self._send()

    def _send(self) -> None:
        producer = self._producer
        if producer.closed:
            return
        network, world = producer.network, producer.network.world
        self._attempt += 1
        attempt = self._attempt
        dice = network.dice
        way = dice.uniform(*network.latency)
        if not network.broker.up:
            self._disconnected(attempt)
            return
        match network.fate(self._end):
            case "lost":
                world.after(way, producer.actor, self._disconnected, attempt)
            case "unanswered":
                world.after(way, None, self._arrive, attempt, False)
                world.after(way, producer.actor, self._disconnected, attempt)
            case "late":
                world.after(
                    dice.choice((0.2, 0.3, 0.4, 0.7, 1.5, 4.0)) * dice.uniform(0.7, 1.5),
                    None,
                    self._arrive,
                    attempt,
                    False,
                )
                world.after(way, producer.actor, self._disconnected, attempt)
            case "slow":
                world.after(dice.choice((0.1, 0.35, 1.0, 3.0)), None, self._arrive, attempt, True)
            case _:
                world.after(way, None, self._arrive, attempt, True)

    def _arrive(self, attempt: int, answer: bool) -> None:
        broker, world = self._producer.network.broker, self._producer.network.world
        if world.now < broker.frozen_until:
            world.at(broker.frozen_until, None, self._arrive, attempt, answer)
            return
        if not broker.up:
            world.after(0.001, self._producer.actor, self._disconnected, attempt)
            return
        reply = self._apply()
        if answer:
            back = self._producer.network.dice.uniform(*self._producer.network.latency)
            world.after(back, self._producer.actor, self._take, attempt, reply)

    def _take(self, attempt: int, reply: Any) -> None:
        if attempt == self._attempt and not self.answered and not self._producer.closed:
            self.answered, self.answer = True, reply
            self._producer.stir()

    def _disconnected(self, attempt: int) -> None:
        if attempt != self._attempt or self.answered or self._producer.closed:
            return
        self._producer.disconnected()
        network = self._producer.network
        dice = network.dice
        backoff = self._producer.retry_backoff * dice.uniform(0.8, 1.2)  # before the request is sent again
        pause = (
            dice.uniform(0.001, 0.02)
            if self._attempt == 1 and dice.random() < 0.7
            else dice.uniform(*RECONNECT_SECONDS)
        )
        network.world.after(max(pause, backoff), self._producer.actor, self._send)


def failure(code: int, *, retriable: bool = False, fatal: bool = False, abort: bool = False) -> KafkaException:
    return KafkaException(KafkaError(code, "model", fatal, retriable, abort))


_FATE = {Code.FENCED: KafkaError._FENCED, Code.INVALID_STATE: KafkaError.INVALID_TXN_STATE}


class Undelivered:
    """The message of a delivery report: which one it is of makes no difference here."""

    def topic(self) -> str:
        return ""

    def value(self) -> bytes:
        return b""


class ModelProducer:
    """``confluent_kafka.Producer``, as far as an ``TransactionalProducer`` uses it."""

    network: Network
    """Set for each run: the code under test makes its producers itself."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.network = type(self).network
        self._thread = Thread.current()
        self.actor: Actor = self._thread.actor
        self._id = str(config.get("transactional.id"))
        self._on_error: Callable[[KafkaError], None] = config["error_cb"]
        self._on_delivery: Callable[[KafkaError | None, object], None] = config["on_delivery"]
        self._timeout = float(config["message.timeout.ms"]) / 1000
        self.retry_backoff = float(config.get("retry.backoff.ms", 100)) / 1000
        self._errors: list[KafkaError] = []
        self._reports: list[KafkaError] = []
        self._epoch = -1
        self._dead: int | None = None
        """The error that this producer has died of."""
        self._aborting = False
        self._init: Request | None = None
        self._init_again = 0.0
        self._concurrent = False
        """The last answer was that the predecessor's transaction is being aborted."""
        self._ending: Request | None = None
        self._sending: Request | None = None
        self._sent_at = 0.0
        self._queue: list[tuple[Place, bytes | None, bytes]] = []
        self._part: list[tuple[Place, bytes | None, bytes]] = []
        self._added: set[Place] = set()
        self._number = 0
        self.closed = False

    # --- the network's side ---

    def stir(self) -> None:
        """Something has happened that a blocked call waits for."""
        self._thread.wake()

    def disconnected(self) -> None:
        self._errors.append(KafkaError(KafkaError._TRANSPORT, "model"))

    # --- the library's side ---

    def _serve(self) -> None:
        errors, self._errors = self._errors, []
        for error in errors:
            self._on_error(error)
        reports, self._reports = self._reports, []
        for error in reports:
            self._on_delivery(error, Undelivered())

    def _raise_dead(self) -> None:
        if self._dead is not None:
            raise failure(self._dead, fatal=True)

    def _wait(self, request: Request, seconds: float) -> bool:
        until = self.network.world.now + seconds
        while not request.answered and self.network.world.now < until:
            self._thread.park(until - self.network.world.now)
        return request.answered

    def init_transactions(self, timeout: float) -> None:
        self._serve()
        world, broker, name = self.network.world, self.network.broker, self._id
        until = world.now + timeout
        while world.now < until:
            if self._init is None and world.now < self._init_again:
                self._thread.park(min(until, self._init_again) - world.now)
                continue
            if self._init is None:
                self._init = Request(self, lambda: broker.init(name))
            if not self._wait(self._init, until - world.now):
                break
            answer, self._init = self._init.answer, None
            if answer is not None:
                self._epoch = answer
                return
            self._concurrent, self._init_again = True, world.now + INIT_AGAIN_SECONDS
        code = KafkaError.CONCURRENT_TRANSACTIONS if self._concurrent else KafkaError._TIMED_OUT
        raise failure(code, retriable=True)

    def begin_transaction(self) -> None:
        self._raise_dead()
        if self._ending is not None or self._sending is not None:
            raise failure(KafkaError._STATE)
        self._added = set()
        self._aborting = False

    def produce(
        self,
        topic: str,
        value: bytes,
        key: bytes | None,
        partition: int,
        headers: Sequence[tuple[str, bytes]] | None = None,
    ) -> None:
        del headers
        if self._dead is not None:
            raise failure(KafkaError._FATAL)  # without flags, and without saying what it died of
        if partition < 0:
            partition = sum(key) % PARTITIONS if key else self.network.dice.randrange(PARTITIONS)
        self._queue.append(((topic, partition), key, value))
        if self._sending is None and self.network.dice.random() < 0.1:
            self._ship()  # the linger is over before the flush

    def _ship(self) -> None:
        """Send a part of what waits: a request holds what happens to be there, not a transaction."""
        dice = self.network.dice
        size = len(self._queue) if dice.random() < 0.4 else dice.randint(1, len(self._queue))
        part, self._queue = self._queue[:size], self._queue[size:]
        self._part = part
        broker, name, epoch, added = self.network.broker, self._id, self._epoch, set(self._added)
        self._number += 1
        number = self._number
        self._sent_at = self.network.world.now
        self._sending = Request(self, lambda: broker.produce(name, epoch, number, part, added))

    def poll(self, timeout: float) -> int:
        del timeout
        self._collect()
        self._serve()
        return 0

    def _collect(self) -> None:
        if self._sending is None:
            return
        if self._sending.answered:
            code, self._sending = self._sending.answer, None
            self._added.update(place for place, _, _ in self._part)
            if code is not Code.OK:
                self._fail(_FATE[code])
            elif self.network.refused and self.network.dice.random() < self.network.refused:
                self.network.injected += 1
                self._aborting = True
                self._reports.append(KafkaError(KafkaError._MSG_TIMED_OUT, "model"))
        elif self.network.world.now - self._sent_at > self._timeout:
            self._sending = None
            self._queue.clear()
            self._aborting = True
            self._reports.append(KafkaError(KafkaError._MSG_TIMED_OUT, "model"))

    def _fail(self, code: int) -> None:
        self._queue.clear()
        self._aborting = True
        self._reports.append(KafkaError(code, "model"))
        if code == KafkaError._FENCED:
            self._dead = code

    def flush(self, timeout: float) -> int:
        until = self.network.world.now + timeout
        while True:
            self._collect()
            if self._sending is None and self._queue:
                self._ship()
            if self._sending is None or self.network.world.now >= until:
                break
            self._wait(self._sending, min(until, self._sent_at + self._timeout + 0.01) - self.network.world.now)
        self._serve()
        return len(self._queue) + (self._sending is not None)

    def commit_transaction(self, timeout: float) -> None:
        self._raise_dead()
        if self._ending is None:
            self.flush(timeout)
            if self._aborting:
                raise failure(KafkaError._INCONSISTENT, abort=True)
            broker, name, epoch = self.network.broker, self._id, self._epoch
            meant = broker.present(name)
            self._ending = Request(self, lambda: broker.end(name, epoch, meant), end=True)
        # Nothing is served here: the library tells of broken connections in poll and flush alone.
        if not self._wait(self._ending, timeout):
            raise failure(KafkaError._TIMED_OUT, retriable=True)
        code, self._ending = self._ending.answer, None
        if code is not Code.OK:
            self._dead = _FATE[code]
            self._raise_dead()

    def purge(self) -> None:
        self._queue.clear()
        self.closed = True
