"""Certificates for a server on loopback, right ones and each kind of wrong one; and a server that shows them.

A flaw is a small change to a chain that is otherwise right: root, intermediate, leaf for ``localhost`` and 127.0.0.1.
"""

import datetime as dt
import ipaddress
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

HOST = "localhost"
PEM = serialization.Encoding.PEM
NOW = dt.datetime.now(dt.timezone.utc)  # noqa: TID251, UP017 - a certificate's dates are the machine's
DAY = dt.timedelta(days=1)
SECONDS = 30.0
"""How long a server waits for the next request."""
SHA256_RSA, SHA1_RSA = (bytes.fromhex(f"06092a864886f70d0101{last}") for last in ("0b", "05"))
KeyKind = Literal["p256", "rsa2048", "rsa1024"]
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


def make_key(kind: KeyKind = "p256") -> Key:
    """A new private key."""
    if kind == "p256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(65537, 2048 if kind == "rsa2048" else 1024)


@dataclass(frozen=True)
class Recipe:
    """What a certificate says."""

    name: str
    ca: bool = False
    path_length: int | None = None
    may_sign: bool = True
    """Of an authority: whether its key may sign certificates."""
    begin: dt.timedelta = -2 * DAY
    end: dt.timedelta = 300 * DAY
    key: KeyKind = "p256"
    names: Sequence[x509.GeneralName] = ()
    usage: Sequence[ObjectIdentifier] = ()
    permitted: str | None = None
    excluded: str | None = None
    authority_id: bool = True
    unknown_critical: bool = False


@dataclass(frozen=True)
class Made:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(PEM)


def issue(recipe: Recipe, by: Made | None = None) -> Made:
    """Issue a certificate; without ``by`` it signs itself."""
    key = make_key(recipe.key)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, recipe.name)])
    issuer, signer = (by.certificate.subject, by.key) if by is not None else (name, key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + recipe.begin)
        .not_valid_after(NOW + recipe.end)
        .add_extension(x509.BasicConstraints(ca=recipe.ca, path_length=recipe.path_length), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_key_usage(signs=recipe.ca and recipe.may_sign), critical=True)
    )
    if by is not None and recipe.authority_id:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(by.certificate.public_key())  # type: ignore[arg-type]
        builder = builder.add_extension(identifier, critical=False)
    if recipe.names:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(recipe.names)), critical=False)
    if recipe.usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(recipe.usage)), critical=False)
    if recipe.permitted or recipe.excluded:
        trees = [[x509.DNSName(one)] if one else None for one in (recipe.permitted, recipe.excluded)]
        builder = builder.add_extension(x509.NameConstraints(*trees), critical=True)
    if recipe.unknown_critical:
        unknown = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")
        builder = builder.add_extension(unknown, critical=True)
    return Made(builder.sign(signer, hashes.SHA256()), key)


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, key_cert_sign=signs, crl_sign=signs, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip


ROOT = Recipe("K2 test root", ca=True)
MIDDLE = Recipe("K2 test intermediate", ca=True, path_length=0)
LEAF = Recipe(
    HOST, names=(x509.DNSName(HOST), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))), usage=(SERVER,)
)  # fmt: skip


class Why(IntEnum):
    """OpenSSL's verdicts (X509_V_ERR_...): a chain must be refused for its own flaw, not for an accident."""

    SIGNATURE_WRONG = 7
    NOT_YET_VALID = 9
    EXPIRED = 10
    SELF_SIGNED = 18
    ISSUER_UNKNOWN = 20
    PATH_TOO_LONG = 25
    WRONG_PURPOSE = 26
    EXTENSION_UNKNOWN = 34
    NAME_NOT_PERMITTED = 47
    NAME_EXCLUDED = 48
    OTHER_HOST = 62
    KEY_WEAK = 66
    CA_KEY_WEAK = 67
    DIGEST_WEAK = 68
    NOT_A_CA = 79
    ISSUER_NOT_NAMED = 85


@dataclass(frozen=True)
class Chain:
    """What a server shows (leaf first), and the root that its clients are told to trust."""

    shown: Sequence[Made]
    root: Made


@cache
def trusted_root() -> Made:
    """The root that clients trust."""
    return issue(ROOT)


def chain(*, middle: Recipe = MIDDLE, leaf: Recipe = LEAF) -> Chain:
    """A chain by the trusted root, with changes."""
    between = issue(middle, trusted_root())
    return Chain([issue(leaf, between), between], trusted_root())


def _self_signed() -> Chain:
    return Chain([issue(LEAF)], trusted_root())


def _unknown_root() -> Chain:
    between = issue(MIDDLE, issue(replace(ROOT, name="Somebody else's root")))
    return Chain([issue(LEAF, between), between], trusted_root())


def _namesake_root() -> Chain:
    """An authority that only calls itself like the trusted one: the name fits, the signature does not."""
    namesake = Made(trusted_root().certificate, make_key())
    between = issue(MIDDLE, namesake)
    return Chain([issue(LEAF, between), between], trusted_root())


def _intermediate_missing() -> Chain:
    good = chain()
    return Chain(good.shown[:1], good.root)


def _wrong_intermediate() -> Chain:
    """The chain is broken: another authority's certificate where the leaf's issuer belongs."""
    good = chain()
    return Chain([good.shown[0], issue(replace(MIDDLE, name="Another intermediate"), good.root)], good.root)


def _by_a_leaf() -> Chain:
    """Signed with the key of a server's certificate, which is no authority."""
    good = chain()
    signer = good.shown[0]
    return Chain([issue(replace(LEAF, names=LEAF.names), signer), *good.shown], good.root)


def _too_long() -> Chain:
    good = chain()
    below = issue(replace(MIDDLE, name="One intermediate too many"), good.shown[1])
    return Chain([issue(LEAF, below), below, good.shown[1]], good.root)


def _tampered() -> Chain:
    """One bit of the signature is turned."""
    good = chain()
    leaf = good.shown[0]
    der = bytearray(leaf.certificate.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    return Chain([Made(x509.load_der_x509_certificate(bytes(der)), leaf.key), good.shown[1]], good.root)


def _weak_root() -> Chain:
    root = issue(replace(ROOT, name="A weak root", key="rsa1024"))
    return Chain([issue(LEAF, root)], root)


def _with_sha1(which: int) -> Chain:
    """One certificate signed with SHA-1, which no library makes any more: other algorithm, new signature."""
    root = issue(replace(ROOT, key="rsa2048"))
    between = issue(replace(MIDDLE, key="rsa2048"), root)
    shown = [issue(LEAF, between), between]
    old, signer = shown[which], (between, root)[which].key
    assert isinstance(signer, rsa.RSAPrivateKey)
    content = old.certificate.tbs_certificate_bytes
    told = content.replace(SHA256_RSA, SHA1_RSA)
    signature = signer.sign(told, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303 - to be refused
    der = old.certificate.public_bytes(serialization.Encoding.DER)
    der = der.replace(content, told).replace(SHA256_RSA, SHA1_RSA).replace(old.certificate.signature, signature)
    shown[which] = Made(x509.load_der_x509_certificate(der), old.key)
    return Chain(shown, root)


def _elsewhere(*names: x509.GeneralName) -> Callable[[], Chain]:
    return lambda: chain(leaf=replace(LEAF, names=names))


GOOD: dict[str, Callable[[], Chain]] = {
    "root, intermediate, leaf": chain,
    "leaf by the root itself": lambda: Chain([issue(LEAF, trusted_root())], trusted_root()),
    "RSA of 2,048 bits": lambda: chain(leaf=replace(LEAF, key="rsa2048"), middle=replace(MIDDLE, key="rsa2048")),
    "within the permitted names": lambda: chain(
        middle=replace(MIDDLE, permitted=HOST), leaf=replace(LEAF, names=[x509.DNSName(HOST)])
    ),
}

BAD: dict[str, tuple[Why, Callable[[], Chain]]] = {
    "expired": (Why.EXPIRED, lambda: chain(leaf=replace(LEAF, end=-DAY))),
    "not yet valid": (Why.NOT_YET_VALID, lambda: chain(leaf=replace(LEAF, begin=DAY))),
    "wrong host": (Why.OTHER_HOST, _elsewhere(x509.DNSName("elsewhere.invalid"))),
    "wildcard that is too wide": (Why.OTHER_HOST, _elsewhere(x509.DNSName("*"))),
    "wildcard within a label": (Why.OTHER_HOST, _elsewhere(x509.DNSName("local*"))),
    "host as an address only": (Why.OTHER_HOST, _elsewhere(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))),
    "missing SAN": (Why.OTHER_HOST, lambda: chain(leaf=replace(LEAF, names=()))),
    "self-signed": (Why.SELF_SIGNED, _self_signed),
    "unknown CA": (Why.ISSUER_UNKNOWN, _unknown_root),
    "CA of the same name": (Why.SIGNATURE_WRONG, _namesake_root),
    "name constraint, excluded": (Why.NAME_EXCLUDED, lambda: chain(middle=replace(MIDDLE, excluded=HOST))),
    "name constraint, not permitted": (
        Why.NAME_NOT_PERMITTED,
        lambda: chain(middle=replace(MIDDLE, permitted="example.invalid")),
    ),
    "weak key, RSA of 1,024 bits": (Why.KEY_WEAK, lambda: chain(leaf=replace(LEAF, key="rsa1024"))),
    "weak key of the intermediate": (Why.CA_KEY_WEAK, lambda: chain(middle=replace(MIDDLE, key="rsa1024"))),
    "weak key of the root": (Why.CA_KEY_WEAK, _weak_root),
    "SHA-1": (Why.DIGEST_WEAK, lambda: _with_sha1(0)),
    "SHA-1 in the intermediate": (Why.DIGEST_WEAK, lambda: _with_sha1(1)),
    "for clients only": (Why.WRONG_PURPOSE, lambda: chain(leaf=replace(LEAF, usage=(CLIENT,)))),
    "intermediate for clients only": (Why.WRONG_PURPOSE, lambda: chain(middle=replace(MIDDLE, usage=(CLIENT,)))),
    "intermediate missing": (Why.ISSUER_UNKNOWN, _intermediate_missing),
    "broken chain, wrong intermediate": (Why.ISSUER_UNKNOWN, _wrong_intermediate),
    "intermediate expired": (Why.EXPIRED, lambda: chain(middle=replace(MIDDLE, end=-DAY))),
    "intermediate that is no CA": (Why.NOT_A_CA, lambda: chain(middle=replace(MIDDLE, ca=False, path_length=None))),
    "intermediate that may not sign": (Why.NOT_A_CA, lambda: chain(middle=replace(MIDDLE, may_sign=False))),
    "issued by a server's certificate": (Why.NOT_A_CA, _by_a_leaf),
    "chain longer than permitted": (Why.PATH_TOO_LONG, _too_long),
    "signature tampered with": (Why.SIGNATURE_WRONG, _tampered),
    "issuer not named (strict)": (Why.ISSUER_NOT_NAMED, lambda: chain(leaf=replace(LEAF, authority_id=False))),
    "unknown critical extension": (Why.EXTENSION_UNKNOWN, lambda: chain(leaf=replace(LEAF, unknown_critical=True))),
}
"""Chains that must be refused, and why."""


@dataclass
class Shown:
    """A TLS server, and what has come to it."""

    port: int
    ended: int = 0
    """Connections that came and are over."""
    requests: list[bytes] = field(default_factory=list)
    """What was read *within* TLS: nothing may come from a client that refuses the certificate."""
    failures: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"wss://{HOST}:{self.port}/stream"

    @property
    def rest_url(self) -> str:
        return f"https://{HOST}:{self.port}"


Answer = Callable[[bytes], bytes]


@contextmanager
def showing(
    shown: Chain, directory: Path, answer: Answer, *, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> Iterator[Shown]:
    """Serve on 127.0.0.1 with that chain; one answer to each request, the connection stays open.

    With threads: asyncio's server drops the alert that tells the client why a handshake has failed.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # the server shall be as bad as can be: refusing is the client's part
    context.minimum_version = min(newest, ssl.TLSVersion.TLSv1_2)
    context.maximum_version = newest
    file = directory / "server.pem"
    private = shown.shown[0].key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(private + b"".join(one.pem for one in shown.shown))
    context.load_cert_chain(file)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(SECONDS)
            try:
                with context.wrap_socket(self.request, server_side=True) as secure:
                    while request := secure.recv(65536):
                        server.requests.append(request)
                        secure.sendall(answer(request))
            except OSError as error:
                server.failures.append(f"{type(error).__name__}: {error}")
            finally:
                server.ended += 1

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as listener:
        listener.daemon_threads = True
        listener.block_on_close = False
        server = Shown(listener.server_address[1])
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()
