"""The server's TLS certificate. After a reload new connections get the new one; open connections keep the old one."""

import ssl
from pathlib import Path
from typing import Any, Final

from ..errors import PlainmqError
from ..errors.denied import reason
from .regular_file import read_regular

_CERTIFICATE: Final = b"-----BEGIN CERTIFICATE-----"
_KEY: Final = b"PRIVATE KEY-----"


class CertificateInvalid(PlainmqError):
    code = "certificate_invalid"


class Certificate:
    """A certificate chain and its private key, in one PEM file or two. Raises CertificateInvalid."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._newest = _load(certificate, key)

    def __str__(self) -> str:
        return str(self._certificate)

    def reload(self) -> None:
        """Read the files again, for new connections. Raises CertificateInvalid, and keeps the old certificate."""
        self._newest = _load(self._certificate, self._key)

    def options(self, handshake_timeout: float) -> dict[str, Any]:
        """Arguments of `loop.create_server` for TLS."""
        context = _load(self._certificate, self._key)
        # A listener keeps one context. This callback runs in every handshake, with a server name or without:
        context.sni_callback = self._use_newest
        return {"ssl": context, "ssl_handshake_timeout": handshake_timeout}

    def _use_newest(
        self, connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        connection.context = self._newest


def _load(certificate: Path, key: Path) -> ssl.SSLContext:
    _check(certificate, _CERTIFICATE, "certificate")
    _check(key, _KEY, "private key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # a cheap request of a client that costs the server much

    def passphrase() -> str:  # without it OpenSSL asks at the terminal
        raise CertificateInvalid(
            f"the key in {key} is encrypted: give it without a passphrase, in a file that only the server can read"
        )

    try:
        context.load_cert_chain(certificate, key, passphrase)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise CertificateInvalid(f"the key in {key} does not belong to the certificate in {certificate}") from None
        raise CertificateInvalid(f"{certificate} with {key} cannot be used: {error.reason or error}") from None
    except OSError as error:  # the file was replaced since _check
        raise CertificateInvalid(f"{certificate} or {key} cannot be read: {error.strerror}") from None
    return context


def _check(path: Path, mark: bytes, what: str) -> None:
    """Check that the file is PEM of that kind: the errors of OpenSSL do not name the file."""
    try:
        content, _ = read_regular(path)
    except OSError as error:
        raise CertificateInvalid(f"{path} cannot be read: {reason(path, error)}") from None
    if mark not in content:
        raise CertificateInvalid(f"{path} holds no {what} in PEM format")
