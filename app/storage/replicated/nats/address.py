"""The address of a journal in JetStream: what its URL says.

    nats://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]][?name=NAME][&replicas=3]

`nats+tls` in place of `nats` speaks TLS. A user without a password is a token, as in other clients of NATS.
"""

from typing import Final
from urllib.parse import unquote

import msgspec

from ....errors import OptionInvalid
from ..url import parse_hosts, parse_name, parse_options, shown_hosts, split_url

SCHEMES: Final = ("nats", "nats+tls")
EXAMPLE: Final = "nats://127.0.0.1:4222?name=demo"
REPLICAS: Final = ("1", "3", "5")  # a majority of two is both

_PORT: Final = 4222
_OPTIONS: Final = ("name", "replicas", "credentials")
_TLS: Final = ("ca", "cert", "key")


class Tls(msgspec.Struct, frozen=True):
    """Paths; empty: the authorities that the system trusts, and no certificate of our own."""

    ca: str = ""
    cert: str = ""
    key: str = ""


class Address(msgspec.Struct, frozen=True):
    """`credentials`: the path of a file with a JSON Web Token and a seed, as `nsc` makes them. `tls`: None for none."""

    hosts: tuple[tuple[str, int], ...]
    name: str = "plainmq"
    replicas: int = 1
    user: str = ""
    password: str = ""
    token: str = ""
    credentials: str = ""
    tls: Tls | None = None

    def __str__(self) -> str:
        """Without secrets."""
        return shown_hosts(self.hosts)


def parse_address(url: str) -> Address:
    """Raises OptionInvalid; its text has no part of the URL that may be secret."""
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES or not rest:
        raise OptionInvalid(f"expected an address such as {EXAMPLE}")
    parts = split_url(rest)
    if parts.path.strip("/"):
        raise OptionInvalid(f"expected the name of the log as an option, as in {EXAMPLE}")
    login, _, hosts = parts.netloc.rpartition("@")
    user, colon, password = login.partition(":")
    is_tls = scheme == "nats+tls"
    options = parse_options(parts.query, [*_OPTIONS, *(_TLS if is_tls else ())], parts.fragment)
    return Address(
        hosts=parse_hosts(hosts, _PORT, EXAMPLE),
        name=parse_name(options, ""),
        replicas=_replicas(options.get("replicas", "1")),
        user=unquote(user) if colon else "",
        password=unquote(password),
        token="" if colon else unquote(user),
        credentials=options.get("credentials", ""),
        tls=Tls(*(options.get(option, "") for option in _TLS)) if is_tls else None,
    )


def _replicas(text: str) -> int:
    if text not in REPLICAS:
        raise OptionInvalid(f"expected {', '.join(REPLICAS[:-1])} or {REPLICAS[-1]} replicas")
    return int(text)
