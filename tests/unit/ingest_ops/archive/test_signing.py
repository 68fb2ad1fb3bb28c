from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ingest_ops.archive.certificate import Certificate, CertificateError, LocatorFile, day_root
from ingest_ops.archive.signing import load_key, public_hex, sign, signature_fault
from ingest_ops.common.verdict import Verdict


def certificate() -> Certificate:
    return Certificate(
        table="market.trades", day="2026-01-15", sequence=1, origin="topic", verdict=Verdict.INCONCLUSIVE,
        root=day_root([]), previous=None, trades=0, symbols=[], files=[], locator=LocatorFile("x", "00"),
    )  # fmt: skip


def stored(key: Ed25519PrivateKey | X25519PrivateKey, path: Path) -> Path:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


def test_a_signature_holds(tmp_path: Path) -> None:
    key = load_key(stored(Ed25519PrivateKey.generate(), tmp_path / "key.pem"))
    signed = sign(certificate(), key)
    assert signature_fault(signed, public_hex(key)) is None
    assert signature_fault(signed, None) is None


def test_a_changed_certificate_is_found() -> None:
    key = Ed25519PrivateKey.generate()
    changed = msgspec.structs.replace(sign(certificate(), key), trades=1)
    assert signature_fault(changed, None) == "its signature is not that of its content"


def test_another_key_and_no_signature() -> None:
    one, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    assert "another key" in (signature_fault(sign(certificate(), one), public_hex(other)) or "")
    assert signature_fault(certificate(), public_hex(one)) == "it is not signed"
    assert signature_fault(certificate(), None) is None


def test_keys_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("no key")
    other = stored(X25519PrivateKey.generate(), tmp_path / "x.pem")
    for path in (tmp_path / "absent.pem", tmp_path / "text.pem", other):
        with pytest.raises(CertificateError):
            load_key(path)
