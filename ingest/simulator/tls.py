"""A certificate authority of the simulator's own, and a server certificate by it; needs the extra ``sim``."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

Flaw = Literal["none", "expired", "wrong_host", "unknown_ca"]
"""What is wrong with the certificate, for clients that must refuse it; ``unknown_ca``: not by the CA that is told."""
FLAWS: tuple[Flaw, ...] = get_args(Flaw)


class TlsUnavailable(ValueError):
    """The package that makes certificates is not installed."""


def server_context(
    directory: Path, host: str, *, names: Sequence[str] = (), flaw: Flaw = "none"
) -> tuple[ssl.SSLContext, Path]:
    """The server's context, and the file with the authority to trust; `names` are further DNS names it is known by.

    Writes ``ca.pem`` and ``server.pem`` into the directory. Raises TlsUnavailable and OSError.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    except ImportError as error:
        raise TlsUnavailable("--tls needs the package cryptography: install k2-ingest[sim]") from error

    now = dt.datetime.now(dt.timezone.utc)  # noqa: TID251, UP017 - a certificate's dates are the machine's

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def authority(text: str) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        key = ec.generate_private_key(ec.SECP256R1())
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
            key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
            decipher_only=False,
        )  # fmt: skip
        made = (
            x509.CertificateBuilder()
            .subject_name(name(text))
            .issuer_name(name(text))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=2))
            .not_valid_after(now + dt.timedelta(days=400))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(identifier, critical=False)
            .sign(key, hashes.SHA256())
        )
        return key, made

    told_key, told = authority("K2 simulator test CA")
    signer_key, signer = authority("Somebody else's CA") if flaw == "unknown_ca" else (told_key, told)
    key = ec.generate_private_key(ec.SECP256R1())
    served = "elsewhere.invalid" if flaw == "wrong_host" else host
    known: list[x509.GeneralName] = [x509.DNSName(served)]
    if flaw != "wrong_host":
        known += [x509.DNSName(one) for one in names]
        known += [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer_key.public_key())
    until = now - dt.timedelta(days=1) if flaw == "expired" else now + dt.timedelta(days=365)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name(served))
        .issuer_name(signer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=2))
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName(known), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(authority_id, critical=False)
        .sign(signer_key, hashes.SHA256())
    )

    pem = serialization.Encoding.PEM
    directory.mkdir(parents=True, exist_ok=True)
    ca_file, server_file = directory / "ca.pem", directory / "server.pem"
    ca_file.write_bytes(told.public_bytes(pem))
    server_file.touch(mode=0o600)
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    server_file.write_bytes(private + certificate.public_bytes(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(server_file)
    return context, ca_file
