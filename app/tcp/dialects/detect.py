"""The three dialects, and the detection of a line's dialect by its first characters.

| dialect | for                            | answers                                          | lines end in |
|---------|--------------------------------|--------------------------------------------------|--------------|
| LITERAL | clients of the first protocol  | none on success, `{'success': False, ...}`       | LF           |
| JSON    | programs                       | `{"success": true}`, `{"success": false, ...}`   | CRLF         |
| TEXT    | people                         | `OK ...`, `ERR <code> <sentence>`                | CRLF         |

A new dialect is a module with its class and a row in _PATTERNS. A new command is a Struct in `commands`, a row in each
dialect that has it, a required right in `permissions` and a handler in the session.
"""

import re
from typing import Final

from .base import Dialect
from .json_objects import JsonDialect
from .python_literals import LiteralDialect
from .text import TextDialect

LITERAL: Final = LiteralDialect()
JSON: Final = JsonDialect()
TEXT: Final = TextDialect()

_HTTP = re.compile(
    rb"(?:[A-Za-z]+ (?:/|\*|[a-z]+://)|CONNECT )(?:[^ ]* HTTP/[0-9]|[^ ]{4096})"
)  # no topic starts with such a target, so no valid text line matches; a long one may be cut before its HTTP/1.1
_PATTERNS: Final[tuple[tuple[re.Pattern[bytes], Dialect | None], ...]] = (
    (re.compile(rb"\x16\x03"), None),  # a TLS handshake
    (_HTTP, None),
    (re.compile(rb"[ \t\r]*(?:\{[ \t]*(?:[bBuUrR]{0,2}'|[bBuUrR]{1,2}\"|\()|['(]|[bBuUrR]{1,2}['\"])"), LITERAL),
    (re.compile(rb"[ \t\r]*(?!(?:null|true|false)[ \t\r]*\Z)[A-Za-z!#$%&*+./;<=>?@\\^_`|~]"), TEXT),
    (re.compile(rb""), JSON),
)
BY_START: Final[dict[bytes, Dialect]] = {b'{"': JSON, b"{'": LITERAL}
"""The dialect by the first two bytes of most lines: a shorter way to the result of choose()."""


def choose(line: bytes) -> Dialect | None:
    """The dialect of a line that is not blank; None if it belongs to another protocol: HTTP or TLS."""
    return next(dialect for pattern, dialect in _PATTERNS if pattern.match(line))
