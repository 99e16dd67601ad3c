"""The client's address behind a reverse proxy. The proxy puts it into headers that anybody can write, so they count
only if they come from an address that `--trusted-proxies` names. Each trusted proxy vouches for the address before it.

    client 203.0.113.7 ──▶ proxy 10.0.0.2 ──▶ server     X-Forwarded-For: 198.51.100.9, 203.0.113.7
                                                                          made up by the client

From the right, the first address that is not a trusted proxy is the client's.
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

_FOR, _PROTO = b"x-forwarded-for", b"x-forwarded-proto"
NAMES: Final = frozenset({_FOR, _PROTO})  # the headers that are read here
# Each of them shows that a proxy has forwarded the request.
SIGNS: Final = NAMES | {
    b"forwarded", b"via", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-server", b"x-real-ip",
    b"cf-connecting-ip", b"true-client-ip", b"x-client-ip", b"client-ip", b"fly-client-ip", b"forwarded-for",
    b"x-envoy-external-address", b"x-original-forwarded-for", b"x-proxyuser-ip",
}  # fmt: skip
_MAX_HOP: Final = 60  # characters: an IPv6 address with a zone, brackets and a port


class Caller(msgspec.Struct, frozen=True, gc=False):
    """A client's address and port (0: unknown), and the scheme that it used."""

    host: str
    port: int
    scheme: str

    @property
    def address(self) -> tuple[str, int] | None:
        """None if there is none, as behind a Unix socket."""
        return (self.host, self.port) if self.host else None


class Proxies(msgspec.Struct, frozen=True):
    """The addresses of trusted proxies."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    def caller(self, direct: Caller, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        """The client behind the direct caller if that is a trusted proxy; otherwise the direct caller."""
        if not self.networks or not _is_trusted(self, direct.host):
            return direct
        hops: list[bytes] = []
        scheme = direct.scheme
        for name, value in headers:
            if name == _FOR:
                hops += value.split(b",")
            elif name == _PROTO:
                said = value.rpartition(b",")[2].strip().lower()
                scheme = said.decode() if said in {b"http", b"https"} else scheme
        return msgspec.structs.replace(self._client_behind(direct, hops), scheme=scheme)

    def _client_behind(self, nearest: Caller, hops: list[bytes]) -> Caller:
        for hop in reversed(hops):
            address, port = _parse_hop(hop)
            if address is None:  # not an address: the proxy that wrote it is the last known caller
                break
            nearest = Caller(str(address), port, nearest.scheme)
            if not _is_trusted(self, nearest.host):
                break
        return nearest


@lru_cache(maxsize=4_096)
def _is_trusted(proxies: Proxies, host: str) -> bool:
    address, _ = _parse_hop(host.encode())
    return address is not None and any(address in network for network in proxies.networks)


def _parse_hop(hop: bytes) -> tuple[IPv4Address | IPv6Address | None, int]:
    """The address (None if invalid) and the port (or 0) of `10.0.0.1`, `10.0.0.1:80`, `::1`, `[::1]` or `[::1]:80`."""
    text = hop.strip().decode("latin-1")
    host, port = text, ""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        address = ip_address(host) if len(text) <= _MAX_HOP else None
    except ValueError:
        address = None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:  # a socket for IPv4 and IPv6 gives these
        address = address.ipv4_mapped
    return address, int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0


class Forwarded:
    """Sets the client's address and scheme in the scope of each request."""

    def __init__(self, app: ASGIApp, proxies: Proxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope.get("client"):
            host, port = scope["client"]
            caller = self._proxies.caller(Caller(host, port, scope["scheme"]), scope["headers"])
            scope["client"], scope["scheme"] = (caller.host, caller.port), caller.scheme
        await self._app(scope, receive, send)
