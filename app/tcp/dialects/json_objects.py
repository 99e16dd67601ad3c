"""The JSON dialect: the third version of the original protocol, with extensions."""

from functools import reduce
from operator import or_
from typing import Annotated, Any, ClassVar, Final, Literal

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
from ..answers import Answer
from .base import BadArguments, Dialect, NotParsed, NotUtf8, decoded
from .commands import (
    Auth,
    Command,
    Ping,
    Send,
    Settle,
    Subscribe,
    Topics,
    Unsubscribe,
    Work,
    parse_delay,
    parse_lease,
    plain_envelope,
)
from .operator_words import EVERY, OPERATOR_USAGE, Argument, arguments_of, parse_operation

_ALL: Final = Delivery.ALL  # looking up an enum member is slow
DEFAULT_CREDIT: Final = 10  # leases at a time


class _Line(msgspec.Struct, tag_field="command", forbid_unknown_fields=True, gc=False):
    """`least_keys`: how many keys such a line has at least, with `command`."""

    least_keys: ClassVar[int] = 1

    def command(self) -> Command:
        raise NotImplementedError


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


class _Operator(_Line):
    """A line of an operator. Its reply reports what was done, and its error has a code."""


class _Topics(_Operator, tag="topics"):
    def command(self) -> Command:
        return Topics()


class _Operation(_Operator):
    """A command that text has too: its keys are the arguments there."""

    verb: ClassVar[str]

    def command(self) -> Command:
        words: list[str] = []
        for argument in arguments_of(self.verb):
            value: str | list[str] | UnsetType = getattr(self, argument.key)
            words += [] if value is UNSET else [value] if isinstance(value, str) else value
        command = parse_operation(self.verb, words)
        if command is None:
            raise BadArguments
        return command


def _operation(verb: str) -> Any:
    arguments = arguments_of(verb)
    least = 1 + sum(not argument.optional for argument in arguments)
    namespace = {"verb": verb, "least_keys": least}
    return msgspec.defstruct(
        f"_{verb.title()}", map(_field, arguments), bases=(_Operation,), namespace=namespace, tag=verb
    )


def _field(argument: Argument) -> tuple[str, Any] | tuple[str, Any, Any]:
    kind: Any = list[str] | Literal[EVERY] if argument.many else str
    return (argument.key, kind | UnsetType, UNSET) if argument.optional else (argument.key, kind)


OPERATOR_LINES: Final[dict[str, type[_Line]]] = {
    "topics": _Topics,
    **{verb: _operation(verb) for verb in OPERATOR_USAGE},
}


def operator_usage(verb: str) -> str:
    """The line with letters for its values; optional keys are in brackets."""
    keys = "".join(map(_key_usage, arguments_of(verb) if verb in OPERATOR_USAGE else ()))
    return f'{{"command":"{verb}"{keys}}}'


def _key_usage(argument: Argument) -> str:
    letter = argument.key[0].upper()
    key = f',"{argument.key}":' + (f"[{letter},...]" if argument.many else letter)
    return f"[{key}]" if argument.optional else key


LINES: Final[tuple[type[_Line], ...]] = (
    _Send, _Subscribe, _Unsubscribe, _Ack, _Nack, _Extend, _Auth, _Ping, *OPERATOR_LINES.values(),
)  # fmt: skip
AnyLine: Final[Any] = reduce(or_, LINES)


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


class _Word(msgspec.Struct):
    command: str = ""


MAX_OPERATOR_LINE: Final = 64 << 10  # bytes: with as many ids as there may be


class JsonDialect(Dialect):
    encoder = encoders.JSON
    lease_encoder = encoders.JSON_LEASE

    _decode = msgspec.json.Decoder[_Line](AnyLine).decode
    _check_syntax = msgspec.json.Decoder(msgspec.Raw).decode  # without building values
    _decode_word = msgspec.json.Decoder(_Word).decode

    def parse(self, line: bytes) -> Command:
        try:
            wire: _Line = self._decode(line)
            if line.count(b":") > wire.least_keys and _has_repeated_key(line):
                raise BadArguments
            return wire.command()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Refused) as error:
            raise self._reason(line, error) from None

    def _reason(self, line: bytes, error: Exception) -> Refused:
        """Why the line is refused. Clients compare these sentences, so they are fixed."""
        try:
            decoded(line)
            self._check_syntax(line)
        except NotUtf8 as not_utf8:
            return not_utf8
        except (msgspec.DecodeError, RecursionError):
            return NotParsed("Could not parse json")
        verb = self._verb(line)
        if verb not in OPERATOR_LINES:
            return BadArguments("Malformed json message")
        if isinstance(error, Refused) and not isinstance(error, BadArguments):
            return error
        return BadArguments(f"expected: {operator_usage(verb)}")

    def _verb(self, line: bytes) -> str:
        """The command of a line that may be invalid; empty if there is none."""
        try:
            return self._decode_word(line).command if len(line) <= MAX_OPERATOR_LINE else ""
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return ""

    @property
    def for_operators(self) -> Dialect:
        return _FOR_OPERATORS

    def of_reply(self, line: bytes) -> Dialect:
        return _FOR_OPERATORS if self._verb(line) in OPERATOR_LINES else self

    def success(self, text: str) -> bytes:  # noqa: ARG002
        return b'{"success": true}\r\n'

    def settled(self, command: Settle, outcome: Outcome) -> bytes:  # noqa: ARG002
        """A failure has the bare outcome as its reason, so that programs can compare it."""
        return self.success("") if outcome is Outcome.DONE else self.error(Refused(outcome))

    def error(self, error: PlainmqError) -> bytes:
        return b'{"success": false, "reason": %b}\r\n' % escape_json(encode_json(str(error)))


class _OperatorReplies(JsonDialect):
    """Success has the fields of the answer, and an error has its code."""

    def answer(self, answer: Answer) -> bytes:
        fields = escape_json(encode_json(answer.fields()))[1:-1]
        return b'{"success": true%b%b}\r\n' % (b", " if fields else b"", fields)

    def error(self, error: PlainmqError) -> bytes:
        reason = escape_json(encode_json(str(error)))
        return b'{"success": false, "reason": %b, "code": "%b"}\r\n' % (reason, error.code.encode())


_FOR_OPERATORS: Final = _OperatorReplies()
