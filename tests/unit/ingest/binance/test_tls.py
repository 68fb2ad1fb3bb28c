"""Certificates of every kind over real sockets, by the very code that opens streams and asks REST.

Each server here answers whoever comes in with a trade. So a certificate that is wrongly accepted shows as a request
that the server has read; and a client that checks nothing gets that trade, or the refusal would prove nothing.
"""

import asyncio
import base64
import hashlib
import re
import ssl
import warnings
from collections.abc import Callable
from pathlib import Path
from random import Random

import certifi
import pytest
from websockets.frames import Frame, Opcode

from ingest.binance.feed import Feed
from ingest.binance.rest import RestClient
from ingest.binance.tls import client_context
from ingest.binance.transport import OpenFailed, opener
from ingest.core.errors import Retry, Stop
from ingest.metrics import Metrics
from ingest.settings import BinanceSettings, load
from tests.harness.certificates import BAD, GOOD, LEAF, ROOT, Chain, Made, Shown, chain, issue, showing, trusted_root
from tests.harness.scripted_exchange import Collector, frame, until

TRADE = frame("BTCUSDT", 1).encode()
WEBSOCKETS = ("websockets", "picows")


def answer(request: bytes) -> bytes:
    """A WebSocket with a trade at once, or a REST answer."""
    key = re.search(rb"(?i)sec-websocket-key: *(\S+)", request)
    if key is None:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    digest = hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
    upgrade = (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )
    return upgrade + Frame(Opcode.TEXT, TRADE).serialize(mask=False)


def bundle(directory: Path, *roots: Made) -> Path:
    file = directory / "roots.pem"
    file.write_bytes(b"".join(root.pem for root in roots))
    return file


def trusting(directory: Path, *roots: Made, **changes: object) -> BinanceSettings:
    options: dict[str, object] = {
        "custom_ca_bundle": bundle(directory, *roots), "websocket_fallback_urls": (), "rest_fallback_urls": (),
        "open_timeout_seconds": 10.0, "rest_timeout_seconds": 10.0, **changes,
    }  # fmt: skip
    return BinanceSettings(**options)  # type: ignore[arg-type]


async def stream(settings: BinanceSettings, server: Shown) -> list[bytes]:
    """Open a stream as the service does, and return the first read. Raises ``OpenFailed``."""
    socket = await opener(settings, Metrics(process=False), client_context(settings)).open(server.url)
    frames: list[bytes] = []
    async with asyncio.TaskGroup() as group:
        group.create_task(socket.pump(frames.extend))
        await until(lambda: frames)
        socket.abort()
    return frames


async def ask(settings: BinanceSettings, server: Shown) -> bytes:
    """Ask REST as the service does. Raises ``Retry``."""
    context = client_context(settings)
    settings = trusting_at(settings, server)
    async with RestClient(settings, Metrics(process=False), ssl_context=context) as client:
        return (await client.get("/api/v3/ticker/24hr", {}, bytes, weight=1))[0]


def trusting_at(settings: BinanceSettings, server: Shown) -> BinanceSettings:
    return BinanceSettings(
        rest_url=server.rest_url, rest_fallback_urls=(), rest_timeout_seconds=settings.rest_timeout_seconds
    )


async def unchecked(server: Shown) -> bytes:
    """What a client that checks nothing gets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    writer.write(b"GET / HTTP/1.1\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()
    return head


def verdict(error: BaseException | None) -> int | None:
    """What OpenSSL found wrong, from wherever the error comes."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error.verify_code if error is not None else None


@pytest.fixture(scope="module")
def made() -> Callable[[str], Chain]:
    """Every chain once: keys cost time."""
    chains: dict[str, Chain] = {}

    def get(kind: str) -> Chain:
        if kind not in chains:
            chains[kind] = GOOD[kind]() if kind in GOOD else BAD[kind][1]()
        return chains[kind]

    return get


@pytest.mark.parametrize("transport", WEBSOCKETS)
@pytest.mark.parametrize("kind", GOOD)
async def test_a_right_certificate_by_the_custom_bundle_is_accepted(
    tmp_path: Path, made: Callable[[str], Chain], kind: str, transport: str
) -> None:
    with showing(made(kind), tmp_path, answer) as server:
        settings = trusting(tmp_path, made(kind).root, transport=transport)
        assert await stream(settings, server) == [TRADE]
        assert await ask(settings, server) == b"{}"


@pytest.mark.parametrize("kind", BAD)
async def test_a_wrong_certificate_is_refused_before_a_byte_is_sent_or_read(
    tmp_path: Path, made: Callable[[str], Chain], kind: str
) -> None:
    with showing(made(kind), tmp_path, answer) as server:
        for transport in WEBSOCKETS:
            with pytest.raises(OpenFailed) as caught:
                await stream(trusting(tmp_path, made(kind).root, transport=transport), server)
            assert caught.value.reason == "tls"
            assert verdict(caught.value) == BAD[kind][0]
        with pytest.raises(Retry) as refused:
            await ask(trusting(tmp_path, made(kind).root), server)
        assert verdict(refused.value) == BAD[kind][0]
        await until(lambda: server.ended == 3)
        assert server.requests == []
        assert (await unchecked(server)).startswith(b"HTTP/1.1 101")


async def test_without_the_custom_bundle_its_certificates_are_unknown(
    tmp_path: Path, made: Callable[[str], Chain]
) -> None:
    with showing(made("root, intermediate, leaf"), tmp_path, answer) as server:
        with pytest.raises(OpenFailed) as caught:
            await stream(trusting(tmp_path, custom_ca_bundle=None), server)
        assert caught.value.reason == "tls"
        assert server.requests == []


async def test_a_custom_bundle_adds_to_the_one_there_is_and_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = issue(ROOT)
    stand_in = tmp_path / "public.pem"
    stand_in.write_bytes(public.pem)
    ours, theirs = chain(), Chain([issue(LEAF, public)], public)
    with monkeypatch.context() as patch:
        patch.setattr("ingest.binance.tls.certifi.where", lambda: str(stand_in))
        settings = trusting(tmp_path, trusted_root())
        for shown in (ours, theirs):
            with showing(shown, tmp_path, answer) as server:
                assert await stream(settings, server) == [TRADE]
                assert await ask(settings, server) == b"{}"


def test_a_bundle_with_a_revocation_list_is_refused(tmp_path: Path) -> None:
    settings = trusting(tmp_path, trusted_root())
    assert settings.custom_ca_bundle is not None
    with settings.custom_ca_bundle.open("ab") as file:
        file.write(b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n")
    with pytest.raises(Stop, match="revocation list, which is not supported: remove it"):
        client_context(settings)


def test_the_bundle_there_is_is_certifis(tmp_path: Path) -> None:
    known = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    known.load_verify_locations(certifi.where())
    assert known.cert_store_stats()["x509_ca"] > 50
    both = client_context(trusting(tmp_path, trusted_root()))
    assert both.cert_store_stats()["x509_ca"] == known.cert_store_stats()["x509_ca"] + 1
    assert client_context(BinanceSettings()).get_ca_certs() == known.get_ca_certs()


@pytest.mark.parametrize("content", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_bundle_that_cannot_be_read_stops_the_start(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "roots.pem"
    file.write_bytes(content)
    with pytest.raises(Stop, match="K2_BINANCE_CUSTOM_CA_BUNDLE"):
        client_context(BinanceSettings(custom_ca_bundle=file))
    with pytest.raises(Stop, match="no such file"):
        load({"K2_BINANCE_CUSTOM_CA_BUNDLE": str(tmp_path / "none.pem")})


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_tls_before_1_2_is_refused(tmp_path: Path, newest: ssl.TLSVersion) -> None:
    with showing(chain(), tmp_path, answer, newest=newest) as server:
        for transport in WEBSOCKETS:
            with pytest.raises(OpenFailed) as caught:
                await stream(trusting(tmp_path, trusted_root(), transport=transport), server)
            assert caught.value.reason == "tls"
        with pytest.raises(Retry, match=r"(?i)ssl"):
            await ask(trusting(tmp_path, trusted_root()), server)
        assert server.requests == []
        assert (await unchecked(server)).startswith(b"HTTP/1.1 101")


@pytest.mark.parametrize("transport", WEBSOCKETS)
async def test_tls_1_2_is_enough(tmp_path: Path, transport: str) -> None:
    with showing(chain(), tmp_path, answer, newest=ssl.TLSVersion.TLSv1_2) as server:
        assert await stream(trusting(tmp_path, trusted_root(), transport=transport), server) == [TRADE]


async def test_verification_is_on_unless_two_settings_say_otherwise_and_each_start_warns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert load({}).binance.ssl_verify
    client_context(load({}).binance)
    client_context(load({"K2_BINANCE_INSECURE_DEVELOPMENT": "true"}).binance)
    assert caplog.records == []
    with pytest.raises(Stop, match="K2_BINANCE_INSECURE_DEVELOPMENT"):
        load({"K2_BINANCE_SSL_VERIFY": "false"})
    with pytest.raises(Stop, match="K2_BINANCE_INSECURE_DEVELOPMENT"):
        client_context(BinanceSettings(ssl_verify=False))
    off = {"K2_BINANCE_SSL_VERIFY": "false", "K2_BINANCE_INSECURE_DEVELOPMENT": "true"}
    with showing(BAD["self-signed"][1](), tmp_path, answer) as server:
        for start in (1, 2):
            context = client_context(load(off).binance)
            assert [record.levelname for record in caplog.records] == ["WARNING"] * start
            assert "NOT verified" in caplog.text
            socket = await opener(load(off).binance, Metrics(process=False), context).open(server.url)
            socket.abort()


@pytest.mark.parametrize("transport", WEBSOCKETS)
async def test_the_feed_never_gives_in_to_a_wrong_certificate_and_uses_the_address_with_a_right_one(
    tmp_path: Path, transport: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No downgrade and no end: refused again and again, loudly, until an address shows what it should."""
    bad, good = tmp_path / "bad", tmp_path / "good"
    bad.mkdir()
    good.mkdir()
    with showing(BAD["expired"][1](), bad, answer) as wrong, showing(chain(), good, answer) as right:
        for fallback in ((), (right.url.removesuffix("/stream"),)):
            settings = trusting(
                tmp_path, trusted_root(), transport=transport, websocket_url=wrong.url.removesuffix("/stream"),
                websocket_fallback_urls=fallback, backoff_initial_seconds=0.02, backoff_maximum_seconds=0.05,
            )  # fmt: skip
            metrics, sink = Metrics(process=False), Collector()
            feed = Feed(
                settings, 3600.0, metrics, sink,
                ssl_context=client_context(settings), symbols=["BTCUSDT"], random=Random(1),
            )  # fmt: skip
            async with asyncio.TaskGroup() as group:
                task = group.create_task(feed.run())
                if fallback:
                    await until(lambda sink=sink: sink.trades)  # type: ignore[misc]
                else:
                    await until(lambda metrics=metrics: refusals(metrics) >= 3)  # type: ignore[misc]
                    assert (sink.trades, right.ended) == ([], 0)
                task.cancel()
            assert refusals(metrics) >= 1
        assert wrong.requests == []
        assert {record.levelname for record in caplog.records if "cannot connect" in record.message} == {"ERROR"}


def refusals(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("binance_reconnects_total", {"reason": "tls"}) or 0.0
