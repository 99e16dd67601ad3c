r"""Control characters: a terminal obeys them instead of displaying them.

They move the cursor, change colours, overwrite text, make the terminal send input, or reverse the direction of the text
that follows: C0 (ESC begins sequences), DEL, C1 (CSI), and Unicode's directional formatting characters.
"""

import re
from typing import Final

_C0: Final = (*range(0x09), *range(0x0B, 0x20), 0x7F)  # without tab and line feed, which are harmless
_C1: Final = range(0x80, 0xA0)
_BIDI: Final = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
CODES: Final = frozenset({*_C0, *_C1, *_BIDI})

_ESCAPES: Final = {code: f"\\u{code:04x}" for code in CODES}
_ANY: Final = re.compile(f"[{''.join(map(re.escape, map(chr, sorted(CODES))))}]")
_C0_BYTES: Final = bytes(_C0)
_BEYOND_ASCII: Final = re.compile(b"|".join(re.escape(chr(code).encode()) for code in sorted(CODES - {*_C0})))


def has_control_characters(line: bytes) -> bool:
    """`line`: UTF-8."""
    if len(line.translate(None, _C0_BYTES)) != len(line):
        return True
    return not line.isascii() and _BEYOND_ASCII.search(line) is not None


def escape(text: str) -> str:
    r"""Write each control character as an escape such as `\u001b`, which JSON reads as the same character."""
    return text if text.isprintable() else text.translate(_ESCAPES)


def escape_json(json: bytes) -> bytes:
    """The same JSON value, with each control character as an escape. JSON has no other C0 raw than those it is laid out
    with. Text without any, which is almost all, costs one search."""
    if json.isascii():
        return json.replace(b"\x7f", b"\\u007f")
    text = json.decode()
    return json if text.isprintable() or _ANY.search(text) is None else text.translate(_ESCAPES).encode()


def escape_line(text: str) -> str:
    """Like escape(), with line feeds escaped too."""
    return escape(text).replace("\n", "\\n")
