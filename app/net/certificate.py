"""The certificate that the doors show. A new one takes its place while connections go on with the old one."""

import ssl
from pathlib import Path
from typing import Any, Final

from ..errors import PlainmqError

_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_KEY: Final = b"PRIVATE KEY-----"


class CertificateInvalid(PlainmqError):
    code = "certificate_invalid"


class Certificate:
    """A certificate with those that vouch for it, and its key, in one PEM file or two. Raises CertificateInvalid."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._newest = _load(certificate, key)

    def __str__(self) -> str:
        return str(self._certificate)

    def reload(self) -> None:
        """Read the files again, for connections that come from now on. Raises CertificateInvalid, and keeps the old."""
        self._newest = _load(self._certificate, self._key)

    def options(self, handshake_timeout: float) -> dict[str, Any]:
        """What `loop.create_server` needs to speak TLS."""
        context = _load(self._certificate, self._key)
        # A listener has one context for its life; at every handshake, with a server name or without, this is called:
        context.sni_callback = self._show
        return {"ssl": context, "ssl_handshake_timeout": handshake_timeout}

    def _show(self, connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._newest


def _load(certificate: Path, key: Path) -> ssl.SSLContext:
    _check(certificate, _CERTIFICATE, "certificate")
    _check(key, _KEY, "private key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # who asks for it again and again costs us and not them

    def passphrase() -> str:  # or OpenSSL would ask at the terminal
        raise CertificateInvalid(f"the key in {key} is encrypted: give it without a passphrase, readable to us alone")

    try:
        context.load_cert_chain(certificate, key, passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CertificateInvalid(f"the key in {key} does not belong to the certificate in {certificate}") from None
        raise CertificateInvalid(f"{certificate} with {key} cannot be used: {error.reason or error}") from None
    except OSError as error:  # replaced at this very moment
        raise CertificateInvalid(f"{certificate} or {key} cannot be read: {error.strerror}") from None
    return context


def _check(path: Path, mark: bytes, what: str) -> None:
    """OpenSSL does not say which of the two files it means."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CertificateInvalid(f"{path} cannot be read: {error.strerror}") from None
    if mark not in content:
        raise CertificateInvalid(f"{path} holds no {what} in the form PEM")
