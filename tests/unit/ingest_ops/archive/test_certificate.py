import json

import jsonschema
import msgspec
import pytest

from ingest_ops.archive.certificate import (
    Certificate,
    CertificateError,
    Finding,
    LocatorFile,
    SymbolEntry,
    VoidEntry,
    canonical,
    day_root,
    decode,
    encode,
    schema,
    verdict_of,
    worst,
)  # fmt: skip
from ingest_ops.common.verdict import Verdict


def entry(symbol: str = "BTCUSDT", **others: object) -> SymbolEntry:
    return SymbolEntry(**{
        "symbol": symbol, "exchange": "BINANCE", "base_asset": "BTC", "quote_asset": "USDT", "first_id": 1,
        "last_id": 9, "trades": 9, "quantity": "1.00000000", "quote_quantity": "2.0", "root": "00",
        "verdict": Verdict.PASS, **others,
    })  # type: ignore[arg-type]  # fmt: skip


def certificate(*symbols: SymbolEntry) -> Certificate:
    found = list(symbols) or [entry()]
    return Certificate(
        table="market.trades", day="2026-01-15", sequence=1, origin="topic",
        verdict=worst([one.verdict for one in found]), root=day_root(found), previous=None,
        trades=sum(one.trades for one in found), symbols=found, files=[], locator=LocatorFile("x", "00"),
    )  # fmt: skip


def test_it_is_read_back_as_it_was() -> None:
    made = certificate(entry(voids=[VoidEntry(3, 4, "exchange_hole")], findings=[Finding("void", 3, 4, 2)]))
    assert decode(encode(made), "x") == made


def test_the_schema_describes_it() -> None:
    jsonschema.validate(json.loads(encode(certificate())), schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(encode(certificate()).replace(b'"PASS"', b'"YES"')), schema())


@pytest.mark.parametrize(
    ("field", "value"),
    [("first_id", 2), ("last_id", 10), ("trades", 8), ("quantity", "1.00000001"), ("root", "01"), ("symbol", "ETHUSDT"),
     ("voids", [VoidEntry(3, 4, "operator")]), ("elsewhere", [(3, 3)])],
)  # fmt: skip
def test_every_fact_counts_for_the_root(field: str, value: object) -> None:
    assert day_root([msgspec.structs.replace(entry(), **{field: value})]) != day_root([entry()])


def test_the_root_does_not_depend_on_the_order() -> None:
    assert day_root([entry("A"), entry("B")]) == day_root([entry("B"), entry("A")])


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"trades": 9', b'"trades": 8'), (b'"verdict": "PASS"', b'"verdict": "FAIL"'), (b'"last_id": 9', b'"last_id": 8'),
     (b'"format": 1', b'"format": 2'), (b"{", b"[")],
)  # fmt: skip
def test_one_that_contradicts_itself_is_refused(old: bytes, new: bytes) -> None:
    data = encode(certificate())
    assert old in data
    with pytest.raises(CertificateError):
        decode(data.replace(old, new, 1), "2026-01-15/1.json")


def test_a_changed_byte_of_its_text_is_found() -> None:
    data = encode(certificate())
    for place in range(0, len(data), 7):
        for bit in (1, 8, 32, 128):
            changed = data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]
            try:
                found = decode(changed, "x")
            except CertificateError:
                continue
            assert found.digest() != certificate().digest(), place


def test_verdicts() -> None:
    assert verdict_of([]) is Verdict.PASS
    assert verdict_of([Finding("void"), Finding("only_ours")]) is Verdict.PASS
    assert verdict_of([Finding("end_not_shown")]) is Verdict.INCONCLUSIVE
    assert verdict_of([Finding("end_not_shown"), Finding("missing")]) is Verdict.FAIL
    assert worst([]) is Verdict.INCONCLUSIVE
    assert worst([Verdict.PASS, Verdict.INCONCLUSIVE]) is Verdict.INCONCLUSIVE
    assert worst([Verdict.INCONCLUSIVE, Verdict.FAIL]) is Verdict.FAIL


def test_the_digest_covers_everything_but_the_signature() -> None:
    made = certificate()
    assert msgspec.structs.replace(made, created_at_us=5).digest() != made.digest()
    assert canonical({"b": 1, "a": [2]}) == b'{"a":[2],"b":1}'
