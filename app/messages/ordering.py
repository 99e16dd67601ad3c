"""In which order the groups of a topic hand out a message: its priority, and its key."""

from typing import Any, Final

import msgspec

from ..errors import OptionInvalid
from .printable import printable

MAX_PRIORITY: Final = 9
MAX_ORDER_KEY: Final = 128


class Ordering(msgspec.Struct, frozen=True, gc=False):
    """A group hands out messages of a higher `priority` first, and of the messages with the same `key` one at a time,
    in order."""

    priority: int = 0
    key: str | None = None

    @property
    def shown(self) -> dict[str, Any]:
        """What was set, for a message's JSON record."""
        priority = {"priority": self.priority} if self.priority else {}
        return priority if self.key is None else priority | {"key": self.key}


def make_ordering(priority: int, key: str | None, *, for_groups: bool = True) -> Ordering | None:
    """None for a message with neither, as most: it takes no memory for them. `for_groups`: groups get the message.
    Raises OptionInvalid if they do not."""
    if not priority and key is None:
        return None
    if not for_groups:
        raise OptionInvalid(
            "`priority` and `key` say in which order groups hand messages out, and no group gets a message that is not "
            "retained or is for one subscriber: leave them out"
        )
    return Ordering(priority, key)


def parse_order_key(text: str) -> str:
    """Return the key unchanged. Raises OptionInvalid."""
    return printable("key", text, MAX_ORDER_KEY)
