"""The line port's three dialects, and which one a line speaks.

| dialect | for                            | answers                                          | lines end in |
|---------|--------------------------------|--------------------------------------------------|--------------|
| LITERAL | clients of the first protocol  | none on success, `{'success': False, ...}`       | LF           |
| JSON    | programs                       | `{"success": true}`, `{"success": false, ...}`   | CRLF         |
| WORDS   | people                         | `OK ...`, `ERR <code> <sentence>`                | CRLF         |

A new dialect is a module with its class and a row in _STARTS; a new command is a Struct, a row in each dialect that has
a word for it, and a handler in the session.
"""

import re
from typing import Final

from .base import Dialect
from .json_objects import JsonDialect
from .python_literals import LiteralDialect
from .text import TextDialect

LITERAL: Final = LiteralDialect()
JSON: Final = JsonDialect()
WORDS: Final = TextDialect()

_HTTP = re.compile(
    rb"(?:[A-Za-z]+ (?:/|\*|[a-z]+://)|CONNECT )(?:[^ ]* HTTP/[0-9]|[^ ]{4096})"
)  # no topic starts like that, so no line of words is lost; a long target may be cut short before its HTTP/1.1
_STARTS: Final[tuple[tuple[re.Pattern[bytes], Dialect | None], ...]] = (
    (re.compile(rb"\x16\x03"), None),  # a TLS hello
    (_HTTP, None),
    (re.compile(rb"[ \t\r]*(?:\{[ \t]*(?:[bBuUrR]{0,2}'|[bBuUrR]{1,2}\"|\()|['(]|[bBuUrR]{1,2}['\"])"), LITERAL),
    (re.compile(rb"[ \t\r]*(?!(?:null|true|false)[ \t\r]*\Z)[A-Za-z!#$%&*+./;<=>?@\\^_`|~]"), WORDS),
    (re.compile(rb""), JSON),
)
USUAL: Final[dict[bytes, Dialect]] = {b'{"': JSON, b"{'": LITERAL}
"""How most lines start: of those, choose() says the same."""


def choose(line: bytes) -> Dialect | None:
    """The dialect of a line that is not blank; None when it belongs to another protocol: HTTP or TLS."""
    return next(dialect for start, dialect in _STARTS if start.match(line))
