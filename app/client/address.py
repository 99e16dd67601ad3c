"""The address of a server: its URL, the certificates that are trusted for it, and the token."""

import asyncio
import re
import socket
import ssl
from ipaddress import ip_address
from os import PathLike, fspath
from typing import Any, Final
from urllib.request import getproxies

import httpx

from ..errors.wording import cause, quoted

_HOST: Final = re.compile(r"[^\s\[\]%]+(%[\w.-]+)?")
_ANY_PORT: Final = 9  # discard: nothing is sent there
_PROXIED: Final = {"http", "https", "all"}
_EXPECTED_PROXY: Final = "expected the URL of an HTTP proxy, such as http://127.0.0.1:3128"
_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, section 2.1


def server_url(text: str) -> httpx.URL:
    """Parse a URL; without a scheme it is `http`, as in curl. Raises ValueError."""
    try:
        url = httpx.URL(text if "://" in text else f"http://{text}")
        host = url.host
    except (httpx.InvalidURL, UnicodeError):  # also of `host`, which decodes an international name
        raise ValueError(f"{quoted(text)} is not a URL: expected one such as http://127.0.0.1:8000") from None
    port = 80 if url.port is None else url.port
    if url.scheme not in {"http", "https"} or not _HOST.fullmatch(host) or not 0 < port < 65_536:
        raise ValueError(f"{quoted(text)} is not the URL of a server: expected one such as http://127.0.0.1:8000")
    return url


def has_proxies() -> bool:
    """Whether the environment names proxies. Raises ValueError if one of them cannot be used."""
    proxies = [proxy for scheme, proxy in getproxies().items() if scheme in _PROXIED]
    for proxy in proxies:
        if not _is_proxy(proxy):
            raise ValueError(f"the proxy {quoted(proxy)} (HTTP_PROXY) cannot be used: {_EXPECTED_PROXY}")
    return bool(proxies)


def _is_proxy(text: str) -> bool:
    try:
        return server_url(text).scheme in {"http", "https"}
    except ValueError:
        return False


def checked_token(token: str) -> str:
    """The token, if a header can carry it. Raises ValueError, whose text does not contain the token."""
    if not _TOKEN.fullmatch(token):
        raise ValueError("the token has characters that no token has: was something else copied with it?")
    return token


def is_loopback(host: str) -> bool:
    """True if the host is this machine, in any form that a resolver accepts (RFC 6761; `127.1`)."""
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


async def is_this_machine(host: str) -> bool:
    """True if the host is this machine, also by its own name or the address of one of its networks. A name that
    nobody knows is not: a proxy may know it."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, _ANY_PORT, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return False
    return any(is_loopback(str(address[0])) or _is_own(family, address) for family, *_, address in found)


def _is_own(family: int, address: tuple[Any, ...]) -> bool:
    """True if this machine would reach the address from the same address. Nothing is sent; to bind the address would
    say less, as Linux can allow that for all addresses (`ip_nonlocal_bind`)."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect(address)
            return bool(sock.getsockname()[0] == address[0])
    except OSError:
        return False


def no_tls() -> ssl.SSLContext:
    """A context that trusts nothing, for a URL without TLS: reading the system's certificates takes 20 ms."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def trusted(ca: str | PathLike[str] | None) -> ssl.SSLContext | bool:
    """Trust the certificates of the file; without a file, those of the system, as curl does; without these, httpx's."""
    if ca is None:
        system = ssl.get_default_verify_paths()
        return ssl.create_default_context() if system.cafile or system.capath else True
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:  # also if the file has no certificate
        raise ValueError(f"{fspath(ca)} has no certificates that can be read: {_why(error)}") from None


def _why(error: OSError) -> str:
    return cause(error) if isinstance(error, ssl.SSLError) else error.strerror or cause(error)


def certificate_error(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """The error of the certificate, if it is a cause of this error."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error
