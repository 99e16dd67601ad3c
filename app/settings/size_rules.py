"""Which sizes must be large enough for others: without these rules, a message that one setting allows could never be
stored or delivered because of another."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from ..messages.units import ByteSize
from .names import flag, named

MESSAGE_OVERHEAD: Final = ByteSize(6 << 10)
"""What a store may need for one message besides its body: the names of its topic, group and dead-letter topic, and the
state of a lease, a ttl or a dead letter."""
MAX_EXPANSION: Final = 8
"""An encoded message has at most this many times the bytes of its body, with all that surrounds it: JSON escapes one
byte with six, and an event stream has `data: ` before each line."""


class SizeRule(NamedTuple):
    """The setting `larger` must be at least `times` the setting `smaller`, plus `extra` bytes."""

    larger: str
    smaller: str
    otherwise: str
    """What would happen, as the end of an error sentence."""

    times: int = 1
    extra: int = 0

    def broken(self, settings: Any) -> str | None:
        """The sentence of an error; None if the settings keep the rule."""
        size, smaller = getattr(settings, self.larger), getattr(settings, self.smaller)
        need = ByteSize(smaller * self.times + self.extra)
        if size >= need:
            return None
        return (
            f"{named(self.larger)} is {size}: expected at least {need} for a {flag(self.smaller)} of {smaller}, or "
            f"{self.otherwise}"
        )


_TWICE: Final = "one such message could not be stored twice, in its topic and as a dead letter"
_RULES: Final = (
    SizeRule("max_bytes", "max_message", "a topic could not store one such message"),
    SizeRule("max_total_bytes", "max_message", _TWICE, times=2, extra=MESSAGE_OVERHEAD),
    SizeRule("max_disk_bytes", "max_message", _TWICE, times=2, extra=MESSAGE_OVERHEAD),
    SizeRule("max_unfinished", "max_message", "one such message could not be received"),
    SizeRule("max_unfinished", "max_batch", "one such batch could not be received"),
    SizeRule("max_unfinished", "max_line", "one such line could not be received"),
    SizeRule("max_unsent", "max_message", "one such message could get its subscriber cut off", times=MAX_EXPANSION),
)


def broken_rules(settings: Any) -> Iterator[str]:
    """A sentence for each rule that the settings break."""
    return filter(None, (rule.broken(settings) for rule in _RULES))
