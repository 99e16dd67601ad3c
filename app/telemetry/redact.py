"""What may not stand in a record: secrets, and bytes that would make one line look like two or colour a terminal.

The one place for it: every record passes here before it is written (app/telemetry/records.py), whoever made it.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

MASK: Final = "***"
LONGEST: Final = 1_000  # characters of one text; what a client sends may be a thousand times longer
LONGEST_TARGET: Final = 400  # likewise of a path with its query

SHOWN: Final = frozenset({
    "since", "last_event_id", "format", "limit", "timeout", "topic", "wait", "match", "event", "delivery", "retain",
    "ttl", "delay", "max", "lease", "credit",
})  # fmt: skip
"""Options of a query whose values are shown. A list of what is harmless, since a secret may stand under any name."""

_SECRET_SETTING: Final = re.compile(r"secret|password|token|ticket|key(?!_?file|_alive)")
_SUSPECT: Final = re.compile(r"://|eyJ|(?i:auth|cook|bear|basi|tick|toke|secr|pass)")  # most texts need one look only
_SECRETS: Final = (
    (re.compile(r"(?<=://)[^\s/?#'\"<>]*@"), f"{MASK}@"),
    (re.compile(r"(?i)\b(authorization|cookie)\b(['\"]?\s*[:=,]\s*)[^\r\n]+"), rf"\1\2{MASK}"),
    (re.compile(r"(?i)\b(bearer|basic|auth)\s+['\"]?[^\s'\"]{8,}"), rf"\1 {MASK}"),
    (re.compile(r"(?i)(ticket|token|secret|password)(['\"]?\s*[:=]\s*['\"]?)[^\s&'\",;]+"), rf"\1\2{MASK}"),
    (re.compile(r"\beyJ[\w-]{6,}\.[\w-]+(?:\.[\w-]*)*"), MASK),  # a JWT
)


def text(words: str, longest: int = LONGEST) -> str:
    """`GET /a?token=x` → `GET /a?token=***`: short, printable and without what looks like a secret."""
    return printable(_without_secrets(words[: 2 * longest])[:longest])


def lines(words: str, longest: int = 16 * LONGEST) -> list[str]:
    """The same for what has several lines, such as a traceback: its end, if it is too long."""
    return [printable(_without_secrets(line)) for line in words[-longest:].split("\n")]


def printable(words: str) -> str:
    r"""Whatever is not printable, escaped: a line feed becomes the two characters `\n`."""
    if words.isprintable():
        return words
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)


def target(url: bytes) -> str:
    """A request's target; of its query only options that are known to be harmless have their value."""
    path, mark, query = url[:LONGEST_TARGET].decode("latin-1").partition("?")
    return text(path + mark + "&".join(map(_option, query.split("&"))))


def settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by name, as they may be shown."""
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
