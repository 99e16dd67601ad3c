"""The byte order mark that Windows programs put before a text in UTF-8. It belongs to no message, name or value."""

from typing import Final

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
