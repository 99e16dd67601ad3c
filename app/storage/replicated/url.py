"""The parts that the URLs of all journals have: hosts, options and the name of the log."""

import re
from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

from ...errors import OptionInvalid

_HOST: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:]+)(?::([0-9]{1,5}))?")


_BRACKETS: Final = "expected [ and ] around an IPv6 address only: a password has them as %5B and %5D"


def split_url(rest: str) -> SplitResult:
    """The parts of a URL without its scheme. Raises OptionInvalid; its text has no part of the URL."""
    try:
        return urlsplit(f"//{rest}")
    except ValueError:
        raise OptionInvalid(_BRACKETS) from None


def parse_hosts(text: str, default_port: int, example: str) -> tuple[tuple[str, int], ...]:
    """`a:1,b` → the hosts with their ports. Raises OptionInvalid."""
    matches = [_HOST.fullmatch(host) for host in text.split(",")]
    found = [(match[1].strip("[]"), int(match[2] or default_port)) for match in matches if match and _is_host(match[1])]
    if len(found) < len(matches) or any(port > 65_535 for _, port in found):
        raise OptionInvalid(f"expected HOST:PORT in the address, as in {example}")
    return tuple(found)


def _is_host(text: str) -> bool:
    """Whether a resolver can be asked for it: it refuses an empty label, and one of more than 63 characters."""
    try:
        return bool(text.encode("idna"))
    except UnicodeError:
        return False


def parse_options(query: str, known: Collection[str], fragment: str) -> dict[str, str]:
    """Raises OptionInvalid."""
    if fragment:
        raise OptionInvalid("a # in the address must be written as %23")
    options: dict[str, str] = {}
    for option, value in parse_qsl(query, keep_blank_values=True):
        if option not in known:
            raise OptionInvalid(f"{option[:40]!a} is not an option of the address: expected {', '.join(known)}")
        if option in options:
            raise OptionInvalid(f"option {option!r} of the address is given twice")
        options[option] = value
    return options


def parse_name(options: Mapping[str, str], more: str) -> str:
    """The name of the log. It has letters, digits, dashes, underscores and what is in `more`. Raises OptionInvalid."""
    name = options.get("name", "plainmq")
    if not re.fullmatch(rf"[A-Za-z0-9_{re.escape(more)}-]{{1,64}}", name):
        characters = ["letters", "digits", *(["dots"] if more else []), "dashes"]
        raise OptionInvalid(f"expected a name of 1 to 64 {', '.join(characters)} or underscores")
    return name


def shown_hosts(hosts: Collection[tuple[str, int]]) -> str:
    return ",".join(f"{host}:{port}" for host, port in hosts)
