"""Secure connections by BCP 195: TLS 1.2 or 1.3, both sides with certificates.

Keys and certificates are read again when their files change, so that renewing them needs no
restart.

References
----------
DICOM PS3.15 B.12 (BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile).
"""

import ssl
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509

from dicom_node.config import TlsSettings
from dicom_node.errors import TlsError

logger = structlog.get_logger(__name__)

_SUITES: Final = "ECDHE+AESGCM"
"""Of TLS 1.2, as RFC 9325 section 4.2 recommends; those of TLS 1.3 are all good."""
_COMPLAINT_PERIOD: Final = timedelta(days=1)


class Credentials:
    """Our certificate, key and trusted authorities, as new as their files.

    Parameters
    ----------
    settings : TlsSettings
    clock : callable
        Returns the time, in UTC.

    Raises
    ------
    TlsError
        They cannot be used.
    """

    def __init__(self, settings: TlsSettings, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._stamp = _stamp_of(settings)
        self._server = server_context(settings)
        self._client = client_context(settings)
        self._complain_at = clock()

    def server(self) -> ssl.SSLContext:
        """Return the context for the next connection that a peer opens."""
        with self._lock:
            self._refresh()
            return self._server

    def client(self) -> ssl.SSLContext:
        """Return the context for the next connection that we open."""
        with self._lock:
            self._refresh()
            return self._client

    def _refresh(self) -> None:
        self._warn_of_expiry()
        stamp = _stamp_of(self._settings)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._server, self._client = (
                server_context(self._settings),
                client_context(self._settings),
            )
        except TlsError as error:
            # Half a renewal: the files are read once more when they change again.
            logger.warning("new TLS files not used", code=error.code, error=str(error))
            return
        self._complain_at = self._clock()
        logger.info("TLS files read again")

    def _warn_of_expiry(self) -> None:
        now = self._clock()
        if now < self._complain_at:
            return
        self._complain_at = now + _COMPLAINT_PERIOD
        try:
            warning = expiry_warning(self._settings, now)
        except TlsError as error:
            warning = str(error)
        if warning:
            logger.warning("TLS certificate", code=TlsError.code, error=warning)


def server_context(settings: TlsSettings) -> ssl.SSLContext:
    """Make the context of the acceptor of connections; peers must show a certificate.

    Raises
    ------
    TlsError
    """
    context = _context(settings, ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(settings: TlsSettings) -> ssl.SSLContext:
    """Make the context of the opener of connections; the name in the peer's certificate counts.

    Raises
    ------
    TlsError
    """
    return _context(settings, ssl.PROTOCOL_TLS_CLIENT)


def tls_1_2_suites() -> list[str]:
    """Cipher suites of TLS 1.2 that are used, in OpenSSL's words and order."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers(_SUITES)
    suites = context.get_ciphers()
    return [suite["name"] for suite in suites if suite["protocol"] == "TLSv1.2"]


def expires_at(certificate: Path) -> datetime:
    """When the first certificate of a PEM file ends to be valid.

    Raises
    ------
    TlsError
    """
    try:
        first = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    except (OSError, ValueError, IndexError) as error:
        raise TlsError(f"tls.certificate {certificate} cannot be read: {_why(error)}") from None
    return first.not_valid_after_utc


def expiry_warning(settings: TlsSettings, now: datetime) -> str:
    """One sentence when our certificate has expired or soon will; empty otherwise."""
    end = expires_at(settings.certificate)
    if end <= now:
        return f"{settings.certificate} expired on {end:%Y-%m-%d}"
    days = (end - now).days
    if days < settings.warn_days:
        return f"{settings.certificate} expires on {end:%Y-%m-%d}, in {days} days"
    return ""


def _context(settings: TlsSettings, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_SUITES)
    context.options |= ssl.OP_NO_COMPRESSION
    try:
        context.load_cert_chain(
            settings.certificate, settings.private_key, password=_password(settings)
        )
        context.load_verify_locations(settings.authorities)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise TlsError(f"the files of [tls] cannot be used: {_why(error)}") from None
    return context


def _password(settings: TlsSettings) -> str:
    # An empty one keeps OpenSSL from asking at the terminal.
    if settings.password_file is None:
        return ""
    return settings.password_file.read_text(encoding="utf-8").rstrip("\n")


def _stamp_of(settings: TlsSettings) -> tuple[tuple[int, int], ...]:
    stamps = []
    for path in (settings.certificate, settings.private_key, settings.authorities):
        try:
            status = path.stat()
        except OSError:
            stamps.append((0, 0))
            continue
        stamps.append((status.st_mtime_ns, status.st_ino))
    return tuple(stamps)


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "not PEM"
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {error.strerror}"
    return "not PEM"
