"""Who a request comes from when there is a proxy in between. A proxy says so in headers that anybody can write: so they
count only when they come from an address that the settings name, and each proxy vouches for the one before it.

    client 203.0.113.7 ──▶ proxy 10.0.0.2 ──▶ us        X-Forwarded-For: 198.51.100.9, 203.0.113.7
                                                                         what the client made up

From the right, the first address that is no proxy of ours is the client's.
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

_FOR, _PROTO = b"x-forwarded-for", b"x-forwarded-proto"
NAMES: Final = frozenset({_FOR, _PROTO})  # of the headers that are read here
# Any of them shows that a proxy has passed the request on.
SIGNS: Final = NAMES | {
    b"forwarded", b"via", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-server", b"x-real-ip",
    b"cf-connecting-ip", b"true-client-ip",
}  # fmt: skip
_LONGEST: Final = 60  # characters: an IPv6 address with a zone, brackets and a port; beyond it nothing is remembered


class Caller(msgspec.Struct, frozen=True, gc=False):
    """A client's address and port (0: not known), and the scheme that it used."""

    host: str
    port: int
    scheme: str

    @property
    def address(self) -> tuple[str, int] | None:
        """None where there is none, as behind a Unix socket."""
        return (self.host, self.port) if self.host else None


class Proxies(msgspec.Struct, frozen=True):
    """Addresses that are believed."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    def caller(self, direct: Caller, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        """Who stands behind the direct caller, if that is a proxy of ours; otherwise itself."""
        if not self.networks or not _is_one(self, direct.host):
            return direct
        hops: list[bytes] = []
        scheme = direct.scheme
        for name, value in headers:
            if name == _FOR:
                hops += value.split(b",")
            elif name == _PROTO:
                said = value.rpartition(b",")[2].strip().lower()
                scheme = said.decode() if said in {b"http", b"https"} else scheme
        return msgspec.structs.replace(self._behind(direct, hops), scheme=scheme)

    def _behind(self, nearest: Caller, hops: list[bytes]) -> Caller:
        for hop in reversed(hops):
            address, port = _read(hop)
            if address is None:  # whoever wrote it is the last of whom we know
                break
            nearest = Caller(str(address), port, nearest.scheme)
            if not _is_one(self, nearest.host):
                break
        return nearest


@lru_cache(maxsize=4_096)
def _is_one(proxies: Proxies, host: str) -> bool:
    address, _ = _read(host.encode())
    return address is not None and any(address in network for network in proxies.networks)


def _read(hop: bytes) -> tuple[IPv4Address | IPv6Address | None, int]:
    """`10.0.0.1`, `10.0.0.1:80`, `::1`, `[::1]`, `[::1]:80` → the address and the port, or 0; None when it is none."""
    text = hop.strip().decode("latin-1")
    host, port = text, ""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        address = ip_address(host) if len(text) <= _LONGEST else None
    except ValueError:
        address = None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:  # on a socket for both
        address = address.ipv4_mapped
    return address, int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0


class Forwarded:
    """Puts the client's address and scheme into the scope of a request."""

    def __init__(self, app: ASGIApp, proxies: Proxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope.get("client"):
            host, port = scope["client"]
            caller = self._proxies.caller(Caller(host, port, scope["scheme"]), scope["headers"])
            scope["client"], scope["scheme"] = (caller.host, caller.port), caller.scheme
        await self._app(scope, receive, send)
