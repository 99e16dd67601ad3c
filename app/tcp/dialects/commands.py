"""Commands: what lines are parsed into. Their values are checked before, by the parsers here and in messages/."""

from functools import lru_cache

import msgspec

from ...errors import OptionInvalid
from ...log.groups.job import JobState
from ...messages.lease import MAX_LEASE_SECONDS, MAX_NACK_DELAY, Action, LeaseId
from ...messages.message import Envelope, Id
from ...messages.position import Start
from ...messages.topic import parse_topic
from ...messages.units import format_duration, parse_duration


class Command(msgspec.Struct):
    pass


class Subscribe(Command):
    topic: str  # or a pattern
    start: Start


class Work(Command):
    """Consume from a group, with at most `credit` leases at a time. `lease` is in seconds (None: the group's
    ack_timeout)."""

    topic: str
    group: str
    credit: int
    lease: float | None = None


class Unsubscribe(Command):
    """`group`: stop to consume from it (None: end the subscription to the topic)."""

    topic: str
    group: str | None = None


class Batchable(Command, gc=False):
    """A command that the log can carry out in batches: consecutive commands with an equal `batch_key`."""

    @property
    def batch_key(self) -> object:
        raise NotImplementedError


@lru_cache(maxsize=4_096)
def plain_envelope(topic: str) -> Envelope:
    """The envelope of messages without options. They share one object, so the log stores them as one run. Raises
    TopicInvalid."""
    return Envelope(parse_topic(topic))


class Send(Batchable, gc=False):
    envelope: Envelope
    data: bytes

    @property
    def batch_key(self) -> object:
        return self.envelope.topic


class Settle(Batchable, gc=False):
    """`seconds`: the delay of a nack, or the length of an extension (None: the group's). `reason`: of a nack."""

    action: Action
    topic: str
    group: str
    id: LeaseId
    seconds: float | None = None
    reason: str | None = None

    @property
    def batch_key(self) -> object:
        return self.action, self.topic, self.group, self.seconds, self.reason


class Auth(Command):
    token: str


class Topics(Command):
    pass


class Ping(Command):
    pass


class Help(Command):
    """`operations`: the page for operators."""

    operations: bool = False


class Operate(Command):
    """A command of an operator."""

    topic: str


class Jobs(Operate):
    group: str
    state: JobState


class Release(Operate):
    group: str
    id: LeaseId


class Skip(Operate):
    group: str
    id: LeaseId


class Redrive(Operate):
    """`ids`: of dead letters; None: all."""

    group: str
    ids: tuple[Id, ...] | None


class Seek(Operate):
    """`to`: as it was written, and parsed."""

    group: str
    to: tuple[str, Start]


class Pause(Operate):
    """A group, or the topic if `group` is None."""

    group: str | None
    paused: bool


class Purge(Operate):
    """`before`: as it was written, and parsed; None: all messages."""

    before: tuple[str, Start] | None


class Quit(Command):
    pass


def parse_lease(text: str) -> float:
    """The length of a lease in seconds. Raises OptionInvalid."""
    seconds = parse_duration(text)
    if not 0 < seconds <= MAX_LEASE_SECONDS:
        raise OptionInvalid(f"a lease lasts longer than 0 and at most {format_duration(MAX_LEASE_SECONDS)}, not {text}")
    return seconds


def parse_delay(text: str) -> float:
    """The delay of a nack in seconds. Raises OptionInvalid."""
    seconds = parse_duration(text)
    if seconds > MAX_NACK_DELAY:
        raise OptionInvalid(f"a delay is at most {format_duration(MAX_NACK_DELAY)}, not {text}")
    return seconds
