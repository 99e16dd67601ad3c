"""Notes: whatever of the log's state is not a message, for an engine that must find it again after a restart.

Whoever changes such state says so: (kind, key, ...). The engine asks for what it is then, and writes that down.
"""

from collections.abc import Callable
from typing import Any, Literal

Kind = Literal["log", "topic", "forgotten", "group", "job", "buried", "key", "delayed", "left"]
Key = tuple[str | int, ...]

Records = dict[Kind, dict[Key, Any]]
"""Everything that was written down, by kind and key."""

OnChange = Callable[[Kind, Key], None]


def ignore_change(_kind: Kind, _key: Key) -> None:
    """For an engine that forgets everything anyway."""
