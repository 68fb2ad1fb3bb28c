"""A certificate authority of the simulator's own, and a server certificate by it; needs the extra ``sim``.

The authority stays in its folder: clients that trust it go on to do so after a restart.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError as error:
    MISSING: ImportError | None = error
else:
    MISSING = None

Flaw = Literal["none", "expired", "wrong_host", "unknown_ca"]
"""What is wrong with the certificate, for clients that must refuse it; ``unknown_ca``: not signed by ``ca.pem``."""
FLAWS: tuple[Flaw, ...] = get_args(Flaw)
CA_FILE, CA_KEY_FILE, SERVER_FILE = "ca.pem", "ca.key.pem", "server.pem"
CA_NAME = "K2 simulator test CA"
DAYS, RENEW_DAYS = 400, 366
"""How long an authority is valid, and for how long at least it must be to be kept."""


class TlsUnavailable(ValueError):
    """The package that makes certificates is not installed, or the folder has another authority."""


def server_context(
    directory: Path, host: str, *, names: Sequence[str] = (), flaw: Flaw = "none"
) -> tuple[ssl.SSLContext, Path]:
    """The server's context, and the file with the authority to trust; `names` are further DNS names it is known by.

    Writes ``ca.pem`` and its key, unless they are there, and ``server.pem`` into the directory. Raises TlsUnavailable
    and OSError.
    """
    if MISSING is not None:
        raise TlsUnavailable("--tls needs the package cryptography: install k2-ingest[sim]") from MISSING
    directory.mkdir(parents=True, exist_ok=True)
    trusted = _kept(directory) or _authority(CA_NAME)
    _write(directory / CA_FILE, trusted[1].public_bytes(serialization.Encoding.PEM))
    _write(directory / CA_KEY_FILE, _pem(trusted[0]))
    signer = _authority("another CA") if flaw == "unknown_ca" else trusted
    key, certificate = _server(signer, host, names, flaw)
    server_file = directory / SERVER_FILE
    _write(server_file, _pem(key) + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(server_file)
    return context, directory / CA_FILE


Authority = tuple["ec.EllipticCurvePrivateKey", "x509.Certificate"]


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)  # noqa: TID251, UP017 - a certificate's dates are the machine's


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _kept(directory: Path) -> Authority | None:
    """The authority of an earlier start; None if there is none, or it is valid for too short a time."""
    ca_file, key_file = directory / CA_FILE, directory / CA_KEY_FILE
    if not (ca_file.exists() and key_file.exists()):
        return None
    try:
        certificate = x509.load_pem_x509_certificate(ca_file.read_bytes())
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise TlsUnavailable(f"{directory} has files that are no authority: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise TlsUnavailable(f"{ca_file} and {key_file} do not belong together: remove both for a new authority")
    least = _now() + dt.timedelta(days=RENEW_DAYS)
    return (key, certificate) if certificate.not_valid_after_utc > least else None


def _authority(text: str) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
        decipher_only=False,
    )  # fmt: skip
    made = (
        x509.CertificateBuilder()
        .subject_name(_name(text))
        .issuer_name(_name(text))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - dt.timedelta(days=2))
        .not_valid_after(_now() + dt.timedelta(days=DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return key, made


def _server(signer: Authority, host: str, names: Sequence[str], flaw: Flaw) -> Authority:
    """Key and certificate of the server, with the given flaw."""
    key = ec.generate_private_key(ec.SECP256R1())
    served = "elsewhere.invalid" if flaw == "wrong_host" else host
    known: list[x509.GeneralName] = [x509.DNSName(served)]
    if flaw != "wrong_host":
        known += [x509.DNSName(one) for one in names]
        known += [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    until = _now() + (dt.timedelta(days=-1) if flaw == "expired" else dt.timedelta(days=RENEW_DAYS - 1))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(_name(served))
        .issuer_name(signer[1].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - dt.timedelta(days=2))
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName(known), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer[0].public_key()), critical=False)
        .sign(signer[0], hashes.SHA256())
    )
    return key, certificate
