"""The certificate of a day: its JSON form, its digest, its signature. Pure."""

import hashlib
from typing import Final, Literal

import msgspec

from ingest.decoding import Undecodable, decode_typed
from ingest_ops.archive.merkle import root_of
from ingest_ops.common.verdict import Verdict

FORMAT: Final = 1
Origin = Literal["topic", "exchange-files"]

Code = Literal[
    "missing", "duplicate", "trade_in_void", "joins_not", "only_theirs", "differing", "malformed",
    "start_not_shown", "end_not_shown", "comparison_absent", "comparison_checksum", "comparison_unusable",
    "only_ours", "other_day", "void",
]  # fmt: skip

FAILURES: Final = frozenset({
    "missing", "duplicate", "trade_in_void", "joins_not", "only_theirs", "differing", "malformed",
})  # fmt: skip
UNKNOWNS: Final = frozenset({
    "start_not_shown", "end_not_shown", "comparison_absent", "comparison_checksum", "comparison_unusable",
})  # fmt: skip


class CertificateError(Exception):
    """A certificate cannot be read, or is not what it claims to be; the text says which and why."""


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that was found about a symbol's day. ``count`` ids from ``first_id`` to ``last_id``."""

    code: Code
    first_id: int | None = None
    last_id: int | None = None
    count: int = 0
    detail: str = ""


class VoidEntry(msgspec.Struct, frozen=True):
    """Ids that the exchange itself could not give back, as the service recorded them."""

    first_id: int
    last_id: int
    reason: str


class Comparison(msgspec.Struct, frozen=True):
    """What the exchange's own daily file says about the symbol."""

    source: str
    result: Literal["equal", "differs", "their_hole", "absent", "checksum", "unusable", "not_compared"]
    sha256: str = ""
    rows: int = 0
    equal: int = 0
    only_theirs: int = 0
    only_ours: int = 0
    differing: int = 0
    examples: dict[str, list[int]] = {}
    """The first ids of each kind of difference."""


class SymbolEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One symbol's day. Ids are null for a day without a trade."""

    symbol: str
    exchange: str
    base_asset: str
    quote_asset: str
    first_id: int | None
    last_id: int | None
    trades: int
    quantity: str
    quote_quantity: str
    root: str
    """Merkle root over the rows, hexadecimal."""
    voids: list[VoidEntry] = []
    elsewhere: list[tuple[int, int]] = []
    """Ranges of ids between first and last whose trades belong to another day by their time."""
    previous_last_id: int | None = None
    """The last id accounted for before this day."""
    start: str = ""
    """How it is known that no earlier id belongs to the day; empty: it is not."""
    end: str = ""
    comparison: Comparison | None = None
    findings: list[Finding] = []
    verdict: Verdict = Verdict.INCONCLUSIVE

    def leaf(self) -> bytes:
        """What the root of the day hashes of this symbol: what the rows say, not how it was judged."""
        content = {
            "symbol": self.symbol, "exchange": self.exchange, "base_asset": self.base_asset,
            "quote_asset": self.quote_asset, "first_id": self.first_id, "last_id": self.last_id,
            "trades": self.trades, "quantity": self.quantity, "quote_quantity": self.quote_quantity, "root": self.root,
            "voids": self.voids, "elsewhere": self.elsewhere,
        }  # fmt: skip
        return canonical(content)


class DataFile(msgspec.Struct, frozen=True):
    """A file of the day's partition: path below the table's location."""

    path: str
    bytes: int
    sha256: str
    trades: int
    symbols: list[str]
    """In the order of their rows."""


class Previous(msgspec.Struct, frozen=True):
    """The certificate of the day before."""

    day: str
    root: str


class LocatorFile(msgspec.Struct, frozen=True):
    """The sums by which a changed row is found, a file beside the certificate."""

    path: str
    sha256: str


class Signature(msgspec.Struct, frozen=True):
    """Ed25519 over the digest. Key and value are hexadecimal."""

    key: str
    value: str
    algorithm: Literal["Ed25519"] = "Ed25519"


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about a day of a table."""

    format: int = FORMAT
    table: str
    day: str
    sequence: int
    """Counts the certificates of this day: a later one replaces those before."""
    origin: Origin
    verdict: Verdict
    root: str
    """Merkle root over the symbols, in the order of their names."""
    previous: Previous | None
    trades: int
    symbols: list[SymbolEntry]
    files: list[DataFile]
    locator: LocatorFile
    topic: str = ""
    offsets: dict[str, tuple[int, int]] = {}
    """Partition -> first offset read, and the one after the last."""
    versions: dict[str, str] = {}
    created_at_us: int = 0
    signature: Signature | None = None

    def digest(self) -> str:
        """SHA-256 over everything but the signature, hexadecimal."""
        return hashlib.sha256(canonical(msgspec.structs.replace(self, signature=None))).hexdigest()

    def entry(self, symbol: str) -> SymbolEntry | None:
        """The entry of a symbol."""
        return next((one for one in self.symbols if one.symbol == symbol), None)


def canonical(data: object) -> bytes:
    """JSON with sorted keys and without white space: equal data is equal bytes."""
    return msgspec.json.encode(data, order="sorted")


def day_root(symbols: list[SymbolEntry]) -> str:
    """Merkle root over the symbols, hexadecimal."""
    return root_of([one.leaf() for one in sorted(symbols, key=lambda one: one.symbol)]).hex()


def verdict_of(findings: list[Finding]) -> Verdict:
    """FAIL if anything is wrong, INCONCLUSIVE if anything is not known, else PASS."""
    codes = {one.code for one in findings}
    if codes & FAILURES:
        return Verdict.FAIL
    return Verdict.INCONCLUSIVE if codes & UNKNOWNS else Verdict.PASS


def worst(verdicts: list[Verdict]) -> Verdict:
    """The verdict of a day from those of its symbols; a day without a symbol shows nothing."""
    if not verdicts or Verdict.FAIL in verdicts:
        return Verdict.FAIL if verdicts else Verdict.INCONCLUSIVE
    return Verdict.INCONCLUSIVE if Verdict.INCONCLUSIVE in verdicts else Verdict.PASS


def encode(certificate: Certificate) -> bytes:
    """The file of a certificate."""
    return msgspec.json.format(msgspec.json.encode(certificate), indent=2) + b"\n"


def decode(data: bytes, name: str) -> Certificate:
    """Read a certificate and check that it agrees with itself. Raises ``CertificateError``."""
    try:
        found = decode_typed(data, Certificate)
    except Undecodable as error:
        raise CertificateError(f"{name}: no certificate: {error}") from error
    if found.format != FORMAT:
        raise CertificateError(f"{name}: format {found.format}, this version reads {FORMAT}")
    if encode(found) != data:
        raise CertificateError(f"{name}: was changed: it is not written as this version writes what it says")
    if day_root(found.symbols) != found.root:
        raise CertificateError(f"{name}: its root is not that of its symbols")
    if found.trades != sum(one.trades for one in found.symbols):
        raise CertificateError(f"{name}: its number of trades is not that of its symbols")
    if any(one.verdict != verdict_of(one.findings) for one in found.symbols):
        raise CertificateError(f"{name}: a symbol's verdict is not that of its findings")
    if found.verdict != worst([one.verdict for one in found.symbols]):
        raise CertificateError(f"{name}: its verdict is not that of its symbols")
    return found


def schema() -> dict[str, object]:
    """The JSON schema of a certificate."""
    return msgspec.json.schema(Certificate)
