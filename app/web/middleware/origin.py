"""The check of the version, of Host and of Origin.

A page of any site can make a browser send requests to this server. They are known by the name that they ask for
(`Host`) and by the origin of the page (`Origin`; where a browser leaves it out, as for an image, `Sec-Fetch-Site`).
Programs such as curl are not affected.

An unknown name means DNS rebinding: the name of a foreign page was made to point here. An address is always accepted,
since it cannot be rebound. RFC 9110, sections 7.2 and 7.4; the Origin header of WHATWG Fetch; W3C Fetch Metadata
Request Headers.
"""

import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Final

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from ...errors import HostInvalid, HostUnknown, OriginForbidden, Refused, VersionUnsupported
from ..problem import problem_of

ANY: Final = "*"
WRONG_VERSION: Final = "this server speaks HTTP/1.1 and HTTP/1.0"
_VERSIONS: Final = frozenset({"1.0", "1.1", "2", "3"})  # 2 and 3: another ASGI server speaks them. Not "2.0": as text
SITE: Final = b"sec-fetch-site"
OUR_SITES: Final = (b"none", b"same-origin")  # `none`: the user typed the address or used a bookmark
_HINT: Final = ": let it pass on Host (nginx: proxy_set_header Host $http_host)"
_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")


class Rules(msgspec.Struct, frozen=True):
    """`hosts`: names of this server, besides localhost and addresses. `origins`: other sites whose pages may use it,
    such as `https://example.org`. `*` stands for any. `secure`: clients reach it by https."""

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    secure: bool = False

    def knows(self, host: str) -> bool:
        """True if a valid Host is a name of this server."""
        name = _name(host)
        ours = name == "localhost" or name in self.hosts or ANY in self.hosts
        return ours or _is_address(name)

    def trusts(self, origin: str, host: str) -> bool:
        """True if a page of this origin may use the server: the same origin, or one that the settings name."""
        scheme, _, name = origin.lower().partition("://")
        return (
            (scheme in {"http", "https"} and name == host.lower() != "")
            or origin in self.origins
            or ANY in self.origins
        )


def is_host(host: str) -> bool:
    """True if it is written as a Host is."""
    return bool(_name(host))


def _name(host: str) -> str:
    match = _HOST.fullmatch(host)
    return match[1].strip("[]").lower().rstrip(".") if match else ""


def _without_user(host: str) -> str:
    """A user in front of the host may be a secret."""
    user, _, name = host.rpartition("@")
    return f"***@{name}" if user else host


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


class OriginCheck:
    """Refuses requests that break the rules."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["type"] == "http":
                self._check(scope)
        except Refused as error:
            scope["app"].state.broker.counters.refusals[error.code] += 1
            response = problem_of(error)
            if isinstance(error, VersionUnsupported):
                response.headers["Connection"] = "close"  # where such a request ends is uncertain
            response.headers.update(_cors_headers(scope["headers"], self._rules))
            await response(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        """Raises VersionUnsupported, HostInvalid, HostUnknown, OriginForbidden."""
        if scope["http_version"] not in _VERSIONS:
            raise VersionUnsupported(WRONG_VERSION)
        headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
        host = self._host(scope)
        origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
        for origin in origins:
            if not self._rules.trusts(origin, host):
                raise OriginForbidden(
                    f"pages from {origin[:200]!a} may not use this server, which was asked for as {host!a}; if they"
                    f" may, set --allowed-origins. If both are the same place, a proxy in between has changed the "
                    f"name{_HINT}"
                )
        if not origins and ANY not in self._rules.origins and _is_foreign(scope, dict(headers)):
            raise OriginForbidden("pages of other sites may not use this server; if they may, set --allowed-origins")

    def _host(self, scope: Scope) -> str:
        """The requested Host; empty for HTTP/1.0 without one. Raises HostInvalid, HostUnknown."""
        hosts: list[str] = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if (
            not hosts and scope["http_version"] == "1.0"
        ):  # RFC 9112, section 3.2: only 1.1 requires it. Browsers do not use 1.0
            return ""
        if len(hosts) != 1 or not _name(hosts[0]):
            seen = " and ".join(ascii(_without_user(host)) for host in hosts)[:100] or "none"
            raise HostInvalid(f"expected one Host with the name or address of this server, not {seen}")
        if not self._rules.knows(hosts[0]):
            raise HostUnknown(
                f"this server does not go by the name {_name(hosts[0])!r}; if it does, set --allowed-hosts. A proxy in "
                f"between may have put its own name there{_HINT}"
            )
        return hosts[0]


def _cors_headers(headers: Sequence[tuple[bytes, bytes]], rules: Rules) -> dict[str, str]:
    """CORS headers, so that a page of an allowed origin can read why it is refused (WHATWG Fetch)."""
    origin = dict(headers).get(b"origin", b"").decode("latin-1")
    named = origin and (ANY in rules.origins or origin in rules.origins)
    return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"} if named else {}


def _is_foreign(scope: Scope, headers: Mapping[bytes, bytes]) -> bool:
    """True for a request of another site's page. A navigation that reads is the user's own; one that opens a stream is
    not, because it claims messages."""
    reads = scope["method"] in {"GET", "HEAD"} and not scope["path"].endswith("/stream")
    follows = reads and headers.get(b"sec-fetch-mode") == b"navigate"
    return headers.get(SITE, OUR_SITES[0]) not in OUR_SITES and not follows
