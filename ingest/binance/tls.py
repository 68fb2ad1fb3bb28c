"""The one TLS context of streams and REST.

Verification is on. It can be switched off only together with the development switch (``settings.load`` refuses it
otherwise), and then each start says so.
"""

import logging
import ssl
from pathlib import Path

import certifi

from ingest.core.errors import Stop
from ingest.settings import BinanceSettings

log = logging.getLogger(__name__)

CRL = b"-----BEGIN X509 CRL-----"
CIPHERS = "DEFAULT:@SECLEVEL=2"
"""OpenSSL's level 2: at least 112 bits, so no RSA key below 2,048 bits and no signature with SHA-1 or MD5."""


def client_context(settings: BinanceSettings) -> ssl.SSLContext:
    """Build the context: certifi's bundle plus the custom one, TLS 1.2 or later, strict checks.

    Raises ``Stop`` where the custom bundle cannot be read or verification is off without the development switch.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    # Else a certificate that names no host is accepted for the host that its holder's name happens to be [RFC 9525].
    context.hostname_checks_common_name = False
    if not settings.ssl_verify:
        if not settings.insecure_development:
            raise Stop("K2_BINANCE_SSL_VERIFY=false: allowed only together with K2_BINANCE_INSECURE_DEVELOPMENT=true")
        log.warning("TLS certificates are NOT verified (K2_BINANCE_SSL_VERIFY=false): development only")
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    context.load_verify_locations(cafile=certifi.where())
    if settings.custom_ca_bundle is not None:
        _add_bundle(context, settings.custom_ca_bundle)
    return context


def _add_bundle(context: ssl.SSLContext, path: Path) -> None:
    """Trust the certificates of a bundle, too. Raises ``Stop``."""
    name = f"K2_BINANCE_CUSTOM_CA_BUNDLE={str(path)!r}"
    try:
        if CRL in path.read_bytes():
            # OpenSSL would load the list and check nothing by it, or else demand one of every issuer.
            raise Stop(f"{name}: contains a certificate revocation list, which is not supported: remove it")
        context.load_verify_locations(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise Stop(f"{name}: {error}") from error
