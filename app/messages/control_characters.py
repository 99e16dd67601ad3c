r"""Characters that steer a terminal instead of being shown: they move the cursor, colour, overwrite, type, or turn the
direction of what follows. C0 (ESC begins sequences), DEL, C1 (CSI), and Unicode's marks of direction.
"""

import re
from typing import Final

_C0: Final = (*range(0x09), *range(0x0B, 0x20), 0x7F)  # but tab and line feed, which do no harm
_C1: Final = range(0x80, 0xA0)
_BIDI: Final = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
CODES: Final = frozenset({*_C0, *_C1, *_BIDI})

_SHOWN: Final = {code: f"\\u{code:04x}" for code in CODES}
_C0_BYTES: Final = bytes(_C0)
_BEYOND_ASCII: Final = re.compile(b"|".join(re.escape(chr(code).encode()) for code in sorted(CODES - {*_C0})))


def has_control_characters(line: bytes) -> bool:
    """Whether one of them stands in this UTF-8."""
    if len(line.translate(None, _C0_BYTES)) != len(line):
        return True
    return not line.isascii() and _BEYOND_ASCII.search(line) is not None


def escape(text: str) -> str:
    r"""The text with each of them as `\u001b`, which JSON reads as the same character."""
    return text if text.isprintable() else text.translate(_SHOWN)


def escape_line(text: str) -> str:
    """The same in one line."""
    return escape(text).replace("\n", "\\n")
