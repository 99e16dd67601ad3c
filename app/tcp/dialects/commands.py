"""What a line asks for: a Command, which cannot be wrong any more; and the checks that its values have to pass."""

from functools import lru_cache

import msgspec

from ...errors import OptionInvalid
from ...messages.lease import MAX_LEASE_SECONDS, MAX_NACK_DELAY, Action, LeaseId
from ...messages.message import Envelope
from ...messages.position import Start
from ...messages.topic import parse_topic
from ...messages.units import format_duration, parse_duration


class Command(msgspec.Struct):
    pass


class Subscribe(Command):
    topic: str  # or a pattern
    start: Start


class Work(Command):
    """`lease` is in seconds (None: the group's ack_timeout)."""

    topic: str
    group: str
    credit: int
    lease: float | None = None


class Unsubscribe(Command):
    """`group`: from its work (None: from the topic itself)."""

    topic: str
    group: str | None = None


class Batchable(Command, gc=False):
    """One of those that the log can do many of at once: they are if their `batch_key` is equal."""

    @property
    def batch_key(self) -> object:
        raise NotImplementedError


@lru_cache(maxsize=4_096)
def plain(topic: str) -> Envelope:
    """The envelope of most messages for the topic: they travel together. Raises TopicInvalid."""
    return Envelope(parse_topic(topic))


class Send(Batchable, gc=False):
    envelope: Envelope
    data: bytes

    @property
    def batch_key(self) -> object:
        return self.envelope.topic


class Settle(Batchable, gc=False):
    """`seconds`: a nack's delay, an extension's length (None: what the group has for it)."""

    action: Action
    topic: str
    group: str
    id: LeaseId
    seconds: float | None = None

    @property
    def batch_key(self) -> object:
        return self.action, self.topic, self.group, self.seconds


class Auth(Command):
    token: str


class Topics(Command):
    pass


class Ping(Command):
    pass


class Help(Command):
    pass


class Quit(Command):
    pass


def parse_lease(text: str) -> float:
    """How long a worker may take, in seconds. Raises OptionInvalid."""
    seconds = parse_duration(text)
    if not 0 < seconds <= MAX_LEASE_SECONDS:
        raise OptionInvalid(f"a lease lasts longer than 0 and at most {format_duration(MAX_LEASE_SECONDS)}, not {text}")
    return seconds


def parse_delay(text: str) -> float:
    """Until a message that was given back is handed out again, in seconds. Raises OptionInvalid."""
    seconds = parse_duration(text)
    if seconds > MAX_NACK_DELAY:
        raise OptionInvalid(f"a delay is at most {format_duration(MAX_NACK_DELAY)}, not {text}")
    return seconds
