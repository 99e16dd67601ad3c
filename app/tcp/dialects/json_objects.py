"""The JSON dialect: the third version of the original protocol, with extensions."""

from typing import Annotated, ClassVar, Final

import msgspec
from msgspec import UNSET, UnsetType

from ...errors import PlainmqError, Refused
from ...log.groups.records import parse_group
from ...messages.control_characters import escape_json
from ...messages.json_keys import repeated_key
from ...messages.lease import MAX_LEASES, Action, Outcome, parse_lease_id, parse_reason
from ...messages.message import TEXT, Delivery, Envelope
from ...messages.ordering import MAX_PRIORITY, make_ordering, parse_order_key
from ...messages.position import EARLIEST, LATEST, AfterIndex
from ...messages.record import encode_json
from ...messages.topic import parse_topic
from .. import encoders
from .base import BadArguments, Dialect, NotParsed, NotUtf8, decoded
from .commands import (
    Auth,
    Command,
    Ping,
    Send,
    Settle,
    Subscribe,
    Unsubscribe,
    Work,
    parse_delay,
    parse_lease,
    plain_envelope,
)

_ALL: Final = Delivery.ALL  # looking up an enum member is slow
DEFAULT_CREDIT: Final = 10  # leases at a time


class _Line(msgspec.Struct, tag_field="command", forbid_unknown_fields=True, gc=False):
    """`least_keys`: how many keys such a line has at least, with `command`."""

    least_keys: ClassVar[int] = 1


class _Subscribe(_Line, tag="subscribe"):
    least_keys: ClassVar[int] = 2
    topic: str
    last_seen: int | UnsetType = UNSET
    cache: bool | UnsetType = UNSET
    group: str | UnsetType = UNSET
    credit: Annotated[int, msgspec.Meta(ge=1, le=MAX_LEASES)] | UnsetType = UNSET
    lease: str | UnsetType = UNSET

    def command(self) -> Command:
        if self.group is UNSET:
            _check_absent(self.credit, self.lease)
            replay = LATEST if self.cache is False else EARLIEST
            return Subscribe(parse_topic(self.topic), replay if self.last_seen is UNSET else AfterIndex(self.last_seen))
        _check_absent(self.last_seen, self.cache)
        credit = DEFAULT_CREDIT if self.credit is UNSET else self.credit
        lease = None if self.lease is UNSET else parse_lease(self.lease)
        return Work(parse_topic(self.topic), parse_group(self.group), credit, lease)


def _check_absent(*values: object) -> None:
    """These keys cannot be combined with the others of the line. Raises BadArguments."""
    if any(value is not UNSET for value in values):
        raise BadArguments


class _Unsubscribe(_Line, tag="unsubscribe"):
    least_keys: ClassVar[int] = 2
    topic: str
    group: str | UnsetType = UNSET

    def command(self) -> Command:
        return Unsubscribe(parse_topic(self.topic), None if self.group is UNSET else parse_group(self.group))


class _Send(_Line, tag="send"):
    least_keys: ClassVar[int] = 4
    topic: str
    msg: str
    delivery: Delivery
    cache: bool = True
    priority: Annotated[int, msgspec.Meta(ge=0, le=MAX_PRIORITY)] = 0
    key: str | UnsetType = UNSET

    def command(self) -> Command:
        if self.delivery is _ALL and self.cache and not self.priority and self.key is UNSET:
            return Send(plain_envelope(self.topic), self.msg.encode())
        ordering = make_ordering(
            self.priority, None if self.key is UNSET else parse_order_key(self.key),
            for_groups=self.delivery is _ALL and self.cache,
        )  # fmt: skip
        topic = parse_topic(self.topic)
        return Send(Envelope(topic, TEXT, None, self.delivery, self.cache, ordering=ordering), self.msg.encode())


class _Ack(_Line, tag="ack"):
    least_keys: ClassVar[int] = 4
    topic: str
    group: str
    id: str

    def command(self) -> Command:
        return self._settle(Action.ACK, None)

    def _settle(self, action: Action, seconds: float | None, reason: str | None = None) -> Command:
        group, id = parse_group(self.group), parse_lease_id(self.id)
        return Settle(action, parse_topic(self.topic), group, id, seconds, reason)


class _Nack(_Ack, tag="nack"):
    delay: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET

    def command(self) -> Command:
        delay = None if self.delay is UNSET else parse_delay(self.delay)
        return self._settle(Action.NACK, delay, None if self.reason is UNSET else parse_reason(self.reason))


class _Extend(_Ack, tag="extend"):
    lease: str | UnsetType = UNSET

    def command(self) -> Command:
        return self._settle(Action.EXTEND, None if self.lease is UNSET else parse_lease(self.lease))


class _Auth(_Line, tag="auth"):
    least_keys: ClassVar[int] = 2
    token: str

    def command(self) -> Command:
        return Auth(self.token)


class _Ping(_Line, tag="ping"):
    def command(self) -> Command:
        return Ping()


AnyLine = _Send | _Subscribe | _Unsubscribe | _Ack | _Nack | _Extend | _Auth | _Ping


MAX_REST: Final = 64 << 10  # bytes of a line without its longest value: the others are names and numbers
PREFIX: Final = 64
_values: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _has_repeated_key(line: bytes) -> bool:
    """Whether a valid line has a key twice. Each of its different keys has a colon, so there is none unless there are
    more colons. The longest value, mostly the message, is left out: it may have any number of them."""
    values = _values(line)
    longest = max(map(bytes, values.values()), key=len)
    begin = line.find(longest[:PREFIX])  # a search for all of it would take longer than the parser
    end = begin + len(longest)
    rest = line[:begin] + b"0" + line[end:] if line[begin:end] == longest else line.replace(longest, b"0", 1)
    return len(rest) > MAX_REST or (rest.count(b":") > len(values) and repeated_key(rest) is not None)


class JsonDialect(Dialect):
    encoder = encoders.JSON
    lease_encoder = encoders.JSON_LEASE

    _decode = msgspec.json.Decoder(AnyLine).decode
    _check_syntax = msgspec.json.Decoder(msgspec.Raw).decode  # without building values

    def parse(self, line: bytes) -> Command:
        try:
            wire: AnyLine = self._decode(line)
            if line.count(b":") > wire.least_keys and _has_repeated_key(line):
                raise BadArguments
            return wire.command()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Refused):
            raise self._reason(line) from None

    def _reason(self, line: bytes) -> Refused:
        """Why the line is refused. Clients compare these sentences, so they are fixed."""
        try:
            decoded(line)
            self._check_syntax(line)
        except NotUtf8 as error:
            return error
        except (msgspec.DecodeError, RecursionError):
            return NotParsed("Could not parse json")
        return BadArguments("Malformed json message")

    def success(self, text: str) -> bytes:  # noqa: ARG002
        return b'{"success": true}\r\n'

    def settled(self, command: Settle, outcome: Outcome) -> bytes:  # noqa: ARG002
        """A failure has the bare outcome as its reason, so that programs can compare it."""
        return self.success("") if outcome is Outcome.DONE else self.error(Refused(outcome))

    def error(self, error: PlainmqError) -> bytes:
        return b'{"success": false, "reason": %b}\r\n' % escape_json(encode_json(str(error)))
