"""State records: the log's state besides its messages, for an engine that has to restore it after a restart.

Code that changes such state reports the kind and the key of the record. The engine later asks for the record's current
value, and stores that; a record that is None is deleted.
"""

from collections.abc import Callable
from typing import Any, Literal

Kind = Literal["log", "topic", "forgotten", "group", "job", "buried", "key", "delayed", "left"]
Key = tuple[str | int, ...]

Records = dict[Kind, dict[Key, Any]]
"""All stored records, by kind and key."""

OnChange = Callable[[Kind, Key], None]


def ignore_change(_kind: Kind, _key: Key) -> None:
    """For an engine that stores nothing."""
