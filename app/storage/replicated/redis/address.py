"""The address of a journal in Redis: what its URL says.

    redis://[USER:PASSWORD@]HOST[:PORT][/DB][?name=NAME]
    redis+sentinel://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT]/SERVICE[/DB][?name=NAME]

`rediss` in place of `redis` speaks TLS. User and password are those of Redis; those of Sentinel are options.
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

import msgspec

from ....errors import OptionInvalid
from ..url import parse_hosts, parse_name, parse_options, shown_hosts, split_url

SCHEMES: Final = {"redis": 6379, "rediss": 6379, "redis+sentinel": 26379, "rediss+sentinel": 26379}  # default ports
EXAMPLE: Final = "redis://127.0.0.1:6379/0?name=demo"
SENTINEL_EXAMPLE: Final = "redis+sentinel://10.0.0.1:26379,10.0.0.2:26379/mymaster/0?name=demo"

_TLS: Final = {"ca": "ssl_ca_certs", "cert": "ssl_certfile", "key": "ssl_keyfile"}  # option → that of redis-py
_SENTINEL: Final = {"sentinel_username": "username", "sentinel_password": "password"}


class Address(msgspec.Struct, frozen=True):
    """`hosts`: the server, or with a `service` its Sentinels. `tls`: options of redis-py for the certificates; None: no
    TLS. `sentinel`: options of redis-py for the Sentinels."""

    hosts: tuple[tuple[str, int], ...]
    service: str = ""
    db: int = 0
    name: str = "plainmq"
    username: str = ""
    password: str = ""
    tls: Mapping[str, str] | None = None
    sentinel: Mapping[str, str] = {}

    def __str__(self) -> str:
        """Without secrets."""
        hosts = shown_hosts(self.hosts)
        return f"{self.service} at {hosts}" if self.service else hosts


def parse_address(url: str) -> Address:
    """Raises OptionInvalid; its text has no part of the URL that may be secret."""
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES or not rest:
        raise OptionInvalid(f"expected an address such as {EXAMPLE} or {SENTINEL_EXAMPLE}")
    parts = split_url(rest)
    user, _, hosts = parts.netloc.rpartition("@")
    username, _, password = user.partition(":")
    known = ["name", *(_TLS if scheme.startswith("rediss") else ()), *_SENTINEL]
    options = parse_options(parts.query, known, parts.fragment)
    path = [unquote(part) for part in parts.path.strip("/").split("/") if part]
    service = _service(path) if scheme.endswith("sentinel") else ""
    return Address(
        hosts=_hosts(hosts, SCHEMES[scheme], many=bool(service)),
        service=service,
        db=_db(path),
        name=parse_name(options, "."),
        username=unquote(username),
        password=unquote(password),
        tls=_renamed(options, _TLS) if scheme.startswith("rediss") else None,
        sentinel=_renamed(options, _SENTINEL),
    )


def _renamed(options: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    return {names[option]: value for option, value in options.items() if option in names}


def _hosts(text: str, default: int, many: bool) -> tuple[tuple[str, int], ...]:
    found = parse_hosts(text, default, EXAMPLE)
    if len(found) > 1 and not many:
        raise OptionInvalid(f"several hosts are those of Sentinels: expected {SENTINEL_EXAMPLE}")
    return found


def _service(path: list[str]) -> str:
    if not path:
        raise OptionInvalid(f"expected the name of the service that Sentinel watches, as in {SENTINEL_EXAMPLE}")
    return path.pop(0)


def _db(path: list[str]) -> int:
    if not path:
        return 0
    if len(path) > 1 or not re.fullmatch(r"[0-9]{1,9}", path[0]):
        raise OptionInvalid(f"expected the number of a database at the end of the path, as in {EXAMPLE}")
    return int(path[0])
