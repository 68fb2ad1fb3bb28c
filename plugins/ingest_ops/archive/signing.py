"""Ed25519 signatures of certificates. The key is a PEM file; without one certificates are not signed."""

from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ingest_ops.archive.certificate import Certificate, CertificateError, Signature


def load_key(path: Path) -> Ed25519PrivateKey:
    """A private key in PEM (PKCS #8) without a pass phrase. Raises ``CertificateError``."""
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise CertificateError(f"the signing key {path} cannot be used: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise CertificateError(f"the signing key {path} is no Ed25519 key")
    return key


def sign(certificate: Certificate, key: Ed25519PrivateKey) -> Certificate:
    """The certificate with a signature over its digest."""
    value = key.sign(bytes.fromhex(certificate.digest()))
    return msgspec.structs.replace(certificate, signature=Signature(public_hex(key), value.hex()))


def public_hex(key: Ed25519PrivateKey) -> str:
    """The public key, hexadecimal."""
    return key.public_key().public_bytes_raw().hex()


def signature_fault(certificate: Certificate, trusted: str | None) -> str | None:
    """Why the signature is not good; None if it is, or if there is none and none is demanded.

    ``trusted``: the public key that must have signed, hexadecimal.
    """
    signature = certificate.signature
    if signature is None:
        return "it is not signed" if trusted else None
    if trusted and signature.key != trusted:
        return f"it is signed with another key ({signature.key})"
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature.key))
        key.verify(bytes.fromhex(signature.value), bytes.fromhex(certificate.digest()))
    except (ValueError, InvalidSignature):
        return "its signature is not that of its content"
    return None
