"""The address of a journal in Redis: what its URL says.

    redis://[USER:PASSWORD@]HOST[:PORT][/DB][?name=NAME]
    redis+sentinel://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT]/SERVICE[/DB][?name=NAME]

`rediss` in place of `redis` speaks TLS. User and password are those of Redis; those of Sentinel are options.
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from ....errors import OptionInvalid

SCHEMES: Final = {"redis": 6379, "rediss": 6379, "redis+sentinel": 26379, "rediss+sentinel": 26379}  # default ports
EXAMPLE: Final = "redis://127.0.0.1:6379/0?name=demo"
SENTINEL_EXAMPLE: Final = "redis+sentinel://10.0.0.1:26379,10.0.0.2:26379/mymaster/0?name=demo"

_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HOST: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:]+)(?::([0-9]{1,5}))?")
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
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"{self.service} at {hosts}" if self.service else hosts


def parse_address(url: str) -> Address:
    """Raises OptionInvalid; its text has no part of the URL that may be secret."""
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES or not rest:
        raise OptionInvalid(f"expected an address such as {EXAMPLE} or {SENTINEL_EXAMPLE}")
    parts = urlsplit("//" + rest)
    user, _, hosts = parts.netloc.rpartition("@")
    username, _, password = user.partition(":")
    options = _options(parts.query, [*_TLS] if scheme.startswith("rediss") else [], parts.fragment)
    path = [unquote(part) for part in parts.path.strip("/").split("/") if part]
    service = _service(path) if scheme.endswith("sentinel") else ""
    return Address(
        hosts=_hosts(hosts, SCHEMES[scheme], many=bool(service)),
        service=service,
        db=_db(path),
        name=_name(options.get("name", "plainmq")),
        username=unquote(username),
        password=unquote(password),
        tls=_renamed(options, _TLS) if scheme.startswith("rediss") else None,
        sentinel=_renamed(options, _SENTINEL),
    )


def _options(query: str, more: list[str], fragment: str) -> dict[str, str]:
    if fragment:
        raise OptionInvalid("a # in the address must be written as %23")
    options = dict(parse_qsl(query, keep_blank_values=True))
    known = ["name", *more, *_SENTINEL]
    for option in options:
        if option not in known:
            raise OptionInvalid(f"{option[:40]!a} is not an option of the address: expected {', '.join(known)}")
    return options


def _renamed(options: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    return {names[option]: value for option, value in options.items() if option in names}


def _hosts(text: str, default: int, many: bool) -> tuple[tuple[str, int], ...]:
    matches = [_HOST.fullmatch(host) for host in text.split(",")]
    found = [(match[1].strip("[]"), int(match[2] or default)) for match in matches if match]
    if len(found) < len(matches) or any(port > 65_535 for _, port in found):
        raise OptionInvalid(f"expected HOST:PORT in the address, as in {EXAMPLE}")
    if len(found) > 1 and not many:
        raise OptionInvalid(f"several hosts are those of Sentinels: expected {SENTINEL_EXAMPLE}")
    return tuple(found)


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


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise OptionInvalid("expected a name of 1 to 64 letters, digits, dots, dashes or underscores")
    return text
