"""Where a server is, who may vouch for it, and what is sent to show who asks."""

import re
import socket
import ssl
from ipaddress import ip_address
from os import PathLike, fspath
from typing import Final

import httpx

from ..errors.wording import cause, quoted

_HOST: Final = re.compile(r"[^\s\[\]%]+(%[\w.-]+)?")
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, section 2.1


def server_url(text: str) -> httpx.URL:
    """The URL; `http` where it says no scheme, as in curl. Raises ValueError."""
    try:
        url = httpx.URL(text if "://" in text else f"http://{text}")
    except httpx.InvalidURL as error:
        raise ValueError(f"{quoted(text)} is not a URL: {error}") from None
    port = 80 if url.port is None else url.port
    if url.scheme not in {"http", "https"} or not _HOST.fullmatch(url.host) or not 0 < port < 65_536:
        raise ValueError(f"{quoted(text)} is not the URL of a server: expected one such as http://127.0.0.1:8000")
    return url


def checked_token(token: str) -> str:
    """Itself, if it can be sent. Raises ValueError, which does not show it."""
    if not _TOKEN.fullmatch(token):
        raise ValueError("the token has other characters than a token can have: was something else copied with it?")
    return token


def is_loopback(host: str) -> bool:
    """Whether it is this machine, in any of the forms that a resolver takes (RFC 6761; `127.1`)."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return socket.inet_aton(name)[0] in {0, 127}
    except OSError:
        pass
    try:
        address = ip_address(name.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)


def nobody() -> ssl.SSLContext:
    """Trusts nobody: for a URL without TLS. Reading the system's list takes 20 ms, as long as some publishes."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def trusted(ca: str | PathLike[str] | None) -> ssl.SSLContext | bool:
    """Those of the file; or else whom the system trusts, as curl does; or else, where there is none, httpx's list."""
    if ca is None:
        system = ssl.get_default_verify_paths()
        return ssl.create_default_context() if system.cafile or system.capath else True
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:  # also when it holds none
        raise ValueError(f"{fspath(ca)} holds no certificates that can be read: {_why(error)}") from None


def _why(error: OSError) -> str:
    return cause(error) if isinstance(error, ssl.SSLError) else error.strerror or cause(error)


def distrust(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """Why the certificate was refused, if that is what lies below the error."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error
