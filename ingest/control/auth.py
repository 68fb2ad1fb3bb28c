"""Who may use the control API: the bearer token, compared in constant time, and a limit on guessing it."""

import hmac
import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum

from ingest.core.limiter import RollingWindow

FAILURES = 10
FAILURE_SECONDS = 60.0
"""A client with this many wrong tokens in this many seconds is not listened to until they have passed."""
MAX_CLIENTS = 1024
"""Clients remembered; the one that failed longest ago is forgotten first."""


class Verdict(Enum):
    """What to make of a request's Authorization header."""

    GRANTED = "granted"
    MISSING = "missing"
    WRONG = "wrong"


class Guard:
    """Judges Authorization headers. Thread-safe.

    Only wrong tokens count, not missing ones, and each client has its own count: a stranger can neither guess on nor
    lock the operator out. While a client must wait its right token is refused as well, else it could go on guessing.
    """

    def __init__(self, token: str, monotonic: Callable[[], float]) -> None:
        self._token = token.encode()
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, RollingWindow] = OrderedDict()

    def wait(self, client: str) -> float:
        """Seconds until this client is listened to again; 0.0 where it is."""
        with self._lock:
            window = self._failures.get(_key(client))
            return 0.0 if window is None else window.wait(self._monotonic())

    def judge(self, client: str, authorization: str) -> Verdict:
        """Judge a header as http.server gives it (Latin-1), and count a failure."""
        scheme, _, credentials = authorization.partition(" ")
        credentials = credentials.strip()
        if scheme.lower() != "bearer" or not credentials:
            return Verdict.MISSING
        # Encoding as Latin-1 gives the bytes back that were sent; anything else cannot have come from the wire.
        if hmac.compare_digest(credentials.encode("latin-1", "replace"), self._token):
            return Verdict.GRANTED
        with self._lock:
            key = _key(client)
            window = self._failures.setdefault(key, RollingWindow(limit=FAILURES, window=FAILURE_SECONDS))
            window.note(self._monotonic())
            self._failures.move_to_end(key)
            while len(self._failures) > MAX_CLIENTS:
                self._failures.popitem(last=False)
        return Verdict.WRONG


def _key(client: str) -> str:
    """One client: an IPv4 address, or an IPv6 network of 64 bits, as a host there has all of its addresses."""
    address = ipaddress.ip_address(client)
    if address.version == 4:
        return client
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
