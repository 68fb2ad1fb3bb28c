"""Who may do what: bearer tokens with roles, compared in constant time, and a limit on guessing them."""

import hmac
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from enum import Enum, IntEnum

import msgspec

from ingest.core.limiter import RollingWindow
from ingest.http.addresses import client_key

FAILURES = 10
FAILURE_SECONDS = 60.0
"""An address with this many wrong tokens in this many seconds is answered with 429 until they have passed."""
MAX_CLIENTS = 1024
"""Addresses remembered; the one that failed longest ago is forgotten first."""


class Role(IntEnum):
    """What the holder of a token may do; each role includes those before it."""

    READ = 1
    OPERATE = 2
    DEPLOY = 3


class Verdict(Enum):
    """What an Authorization header amounts to."""

    GRANTED = "granted"
    MISSING = "missing"
    WRONG = "wrong"
    WAIT = "too many wrong tokens"


class Judgement(msgspec.Struct, frozen=True):
    """A verdict, the role where it is GRANTED, and the seconds to wait where it is WAIT."""

    verdict: Verdict
    role: Role | None = None
    seconds: float = 0.0


class Guard:
    """Judges Authorization headers. Thread-safe.

    Only wrong tokens count, and each address has its own count. A right token is always granted, also from an address
    that has guessed: otherwise a client that shares the operator's address could lock the operator out. Tokens have at
    least 16 random characters, so that ten guesses a minute do not find one.
    """

    def __init__(self, tokens: Mapping[Role, str], monotonic: Callable[[], float]) -> None:
        self._tokens = [(role, token.encode()) for role, token in sorted(tokens.items(), reverse=True) if token]
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._failures: OrderedDict[str, RollingWindow] = OrderedDict()

    def role(self, authorization: str) -> Role | None:
        """The role of a right token, None for any other header. Counts nothing."""
        given = _token(authorization)
        if given is None:
            return None
        # Every token is compared, so that the time does not tell which one was close.
        found = [role for role, token in self._tokens if hmac.compare_digest(given, token)]
        return found[0] if found else None

    def judge(self, client: str, authorization: str) -> Judgement:
        """Judge a header as it was received (Latin-1), and count a wrong token."""
        role = self.role(authorization)
        if role is not None:
            return Judgement(Verdict.GRANTED, role)
        if _token(authorization) is None:
            return Judgement(Verdict.MISSING)
        with self._lock:
            key = client_key(client)
            window = self._failures.setdefault(key, RollingWindow(limit=FAILURES, window=FAILURE_SECONDS))
            now = self._monotonic()
            seconds = window.wait(now)
            if seconds > 0:
                return Judgement(Verdict.WAIT, seconds=seconds)
            window.note(now)
            self._failures.move_to_end(key)
            while len(self._failures) > MAX_CLIENTS:
                self._failures.popitem(last=False)
        return Judgement(Verdict.WRONG)


def _token(authorization: str) -> bytes | None:
    scheme, _, credentials = authorization.partition(" ")
    credentials = credentials.strip()
    # Encoding as Latin-1 gives the bytes back that were sent; anything else cannot have come from the wire.
    return credentials.encode("latin-1", "replace") if scheme.lower() == "bearer" and credentials else None
