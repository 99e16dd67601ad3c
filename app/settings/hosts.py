"""Names, addresses and ports as they can stand in a URL, and in a Host or an Origin that a browser sends."""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*", re.IGNORECASE)  # RFC 1035, section 2.3.4
_NUMBERS: Final = re.compile(r"[0-9a-f:.]+(?:%[a-z0-9._-]+)?", re.IGNORECASE)
_PLACE: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<user>[^\s/?#@]*@)?(?P<host>[^\s/?#@:]+|\[[^\s/?#@]*\])(?::(?P<port>[0-9]+))?",
    re.IGNORECASE,
)
_USUAL: Final = {"http": "80", "https": "443"}  # ports that no browser writes


def is_name(text: str) -> bool:
    """A name such as a Host can be, or an IPv4 address: `example.org`, `10.0.0.7`."""
    return bool(_NAME.fullmatch(text)) and (not text.rpartition(".")[2].isdigit() or _is_one(IPv4Address, text))


def is_address(text: str) -> bool:
    """Something to listen on, in any of the ways that a resolver takes."""
    return is_name(text) or bool(_NUMBERS.fullmatch(text))


def is_origin(text: str) -> bool:
    """As a browser writes it: without a user, and with a port only where it is not the scheme's own."""
    place = _PLACE.fullmatch(text)
    if place is None or place["user"] or not _is_host(place["host"]):
        return False
    port = place["port"]
    return port is None or (_is_port(port) and port[0] != "0" and port != _USUAL.get(place["scheme"].lower()))


def is_server_url(text: str) -> bool:
    place = _PLACE.fullmatch(text.removesuffix("/"))
    if place is None or place["scheme"].lower() not in _USUAL:
        return False
    return _is_host(place["host"]) and (place["port"] is None or _is_port(place["port"]))


def _is_host(text: str) -> bool:
    return _is_one(IPv6Address, text[1:-1]) if text.startswith("[") else is_name(text)


def _is_port(text: str) -> bool:
    return len(text) <= 5 and 0 < int(text) <= 65_535


def _is_one(kind: type[IPv4Address | IPv6Address], text: str) -> bool:
    try:
        kind(text)
    except AddressValueError:
        return False
    return True
