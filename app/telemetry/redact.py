"""Redaction of log records: secrets are masked, and characters that would split a line or control a terminal escaped.

Every record passes through here before it is written (app/telemetry/records.py), including those of other libraries.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

MASK: Final = "***"
MAX_TEXT: Final = 1_000  # characters of one text; a client may send a thousand times more
MAX_TARGET: Final = 400  # characters of a path with its query

SHOWN: Final = frozenset({
    "since", "last_event_id", "format", "limit", "timeout", "topic", "wait", "match", "event", "delivery", "retain",
    "ttl", "delay", "max", "lease", "credit",
})  # fmt: skip
"""Query options whose values are logged. All others are masked, since a secret may have any name."""

_SECRET_SETTING: Final = re.compile(r"secret|password|token|ticket|key(?!_?file|_alive)")
_SUSPECT: Final = re.compile(
    r"://|eyJ|(?i:auth|cook|bear|basi|tick|toke|secr|pass)"
)  # most texts match nothing here and need no other search
_SECRETS: Final = (
    (re.compile(r"(?<=://)[^\s/?#'\"<>]*@"), f"{MASK}@"),
    (re.compile(r"(?i)\b(authorization|cookie)\b(['\"]?\s*[:=,]\s*)[^\r\n]+"), rf"\1\2{MASK}"),
    (re.compile(r"(?i)(?<!--)\b(bearer|basic|auth)\s+['\"]?[^\s'\"]{8,}"), rf"\1 {MASK}"),
    (re.compile(r"(?i)(ticket|token|secret|password)(['\"]?\s*[:=]\s*['\"]?)[^\s&'\",;]+"), rf"\1\2{MASK}"),
    (re.compile(r"\beyJ[\w-]{6,}\.[\w-]+(?:\.[\w-]*)*"), MASK),  # a JWT
)


def text(words: str, longest: int = MAX_TEXT) -> str:
    """`GET /a?token=x` → `GET /a?token=***`: short, printable and without what looks like a secret."""
    return printable(_without_secrets(words[: 2 * longest])[:longest])


def lines(words: str, longest: int = 16 * MAX_TEXT) -> list[str]:
    """The lines of a text, such as a traceback, as text() returns one line. Of a text that is too long, the
    beginning is left out."""
    return [printable(_without_secrets(line)) for line in words[-longest:].split("\n")]


def printable(words: str) -> str:
    r"""Escape what is not printable: a line feed becomes the two characters `\n`."""
    if words.isprintable():
        return words
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)


def target(url: bytes) -> str:
    """The target of a request, with the values of all query options masked except those in SHOWN."""
    path, mark, query = url[:MAX_TARGET].decode("latin-1").partition("?")
    return text(path + mark + "&".join(map(_option, query.split("&"))))


def settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by name, with the values of secret ones masked."""
    return {name: MASK if _SECRET_SETTING.search(name) else text(str(value)) for name, value in values.items()}


def _option(part: str) -> str:
    name, equals, _ = part.partition("=")
    if not part or (name in SHOWN and equals):
        return part
    return f"{name}={MASK}" if equals else MASK


def _without_secrets(words: str) -> str:
    for pattern, mask in _SECRETS if _SUSPECT.search(words) else ():
        words = pattern.sub(mask, words)
    return words
