"""Host names, addresses and origins: which are valid in a setting, and in a Host or an Origin that a browser sends."""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*", re.IGNORECASE)  # RFC 1035, section 2.3.4
_SHORT_IPV4: Final = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,10}){0,2}")  # 127.1
_URL: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<user>[^\s/?#@]*@)?(?P<host>[^\s/?#@:]+|\[[^\s/?#@]*\])(?::(?P<port>[0-9]+))?",
    re.IGNORECASE,
)
_DIGITS: Final = re.compile(r"[0-9]{1,5}")
_PATH: Final = re.compile(r"(?<=[^/])(/(?!\.{1,2}(/|\Z))[A-Za-z0-9._~-]+)*/?\Z")
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}  # a browser does not write them


def is_name(text: str) -> bool:
    """A host name or an IPv4 address: `example.org`, `10.0.0.7`."""
    return bool(_NAME.fullmatch(text)) and (not text.rpartition(".")[2].isdigit() or _parses(IPv4Address, text))


def is_address(text: str) -> bool:
    """An address to listen on, in any form that a resolver accepts."""
    return is_name(text) or bool(_SHORT_IPV4.fullmatch(text)) or _parses(IPv6Address, text)


def is_origin(text: str) -> bool:
    """An origin as a browser writes it: without a user, and without a port if that is the default of the scheme."""
    url = _URL.fullmatch(text)
    if url is None or url["user"] or not _is_host(url["host"]):
        return False
    port = url["port"]
    return port is None or (is_port(port) and port[0] != "0" and port != _DEFAULT_PORTS.get(url["scheme"].lower()))


def is_server_url(text: str) -> bool:
    """The address of a server, with the path below which a proxy serves it, if there is one."""
    url = _URL.fullmatch(_PATH.sub("", text))
    if url is None or url["user"] or url["scheme"].lower() not in _DEFAULT_PORTS:
        return False
    return _is_host(url["host"]) and (url["port"] is None or is_port(url["port"]))


def _is_host(text: str) -> bool:
    return _parses(IPv6Address, text[1:-1]) if text.startswith("[") else is_name(text)


def is_port(text: str) -> bool:
    return bool(_DIGITS.fullmatch(text)) and 0 < int(text) <= 65_535


def _parses(kind: type[IPv4Address | IPv6Address], text: str) -> bool:
    try:
        kind(text)
    except AddressValueError:
        return False
    return True
