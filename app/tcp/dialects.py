"""The line port's three dialects: which one a line speaks, what it asks for, and how the answer is said. No I/O.

| dialect | for                            | answers                                          | lines end in |
|---------|--------------------------------|--------------------------------------------------|--------------|
| LITERAL | clients of the first protocol  | none on success, `{'success': False, ...}`       | LF           |
| JSON    | programs                       | `{"success": true}`, `{"success": false, ...}`   | CRLF         |
| WORDS   | people                         | `OK ...`, `ERR <code> <sentence>`                | CRLF         |

A new dialect is a class and a row in _STARTS; a new command is a Struct, a row in each dialect that has a word for it,
and a handler in the session.
"""

import ast
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, ClassVar, Final

import msgspec
from msgspec import UNSET, UnsetType

from .. import frames
from ..broker import TopicInfo
from ..errors import MessageTooLarge, PlainmqError, Refused, TopicInvalid
from ..frames import Form, encode_json
from ..message import TEXT, Delivery, Draft, Receipt, Scheduled
from ..position import EARLIEST, LATEST, AfterIndex, Start, parse_start
from ..topic import parse_pattern, parse_topic

MAX_LITERAL: Final = 128 << 10  # bytes of a line
MAX_BARE: Final = 8 << 10  # characters of it outside quotes
MAX_STRUCTURE: Final = 256  # brackets, commas and operators outside quotes
MAX_NESTING: Final = 8
BINARY: Final = "application/octet-stream"


class NotUtf8(Refused):
    code = "not_utf8"


class NotParsed(Refused):
    code = "not_parsed"


class UnknownCommand(Refused):
    code = "unknown_command"


class BadArguments(Refused):
    code = "bad_arguments"


# Commands


class Command(msgspec.Struct):
    """What a line asks for; it cannot be wrong any more."""


class Subscribe(Command):
    topic: str  # or a pattern
    start: Start


class Unsubscribe(Command):
    topic: str


class Send(Command, gc=False):
    draft: Draft


class Topics(Command):
    pass


class Ping(Command):
    pass


class Help(Command):
    pass


class Quit(Command):
    pass


# What all dialects share


class Dialect(ABC):
    form: ClassVar[Form]
    """How messages look to who subscribes in this dialect."""

    tells_receipt: ClassVar[bool] = False
    """Whether the answer to a send says what became of this one: then it is published by itself."""

    @abstractmethod
    def parse(self, line: bytes) -> Command:
        """What the line asks for. Raises Refused with a reason in this dialect's words, and nothing else."""

    @abstractmethod
    def success(self, text: str) -> bytes:
        """The answer to a command that was done; `text` is for dialects that say what was done."""

    @abstractmethod
    def error(self, error: PlainmqError) -> bytes:
        """The answer to a command that was not done."""

    def sent(self, answer: Receipt | Scheduled) -> bytes:  # noqa: ARG002
        """The answer to a send."""
        return self.success("")

    def bye(self, reason: str) -> bytes:  # noqa: ARG002
        """The last line before we close; empty where the dialect has no word for it."""
        return b""


def _decoded(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise NotUtf8("Could not decode input as UTF-8") from None


# Python literals: the first and second version of the protocol


_STRING = re.compile(
    r"""'''[^'\\]*+(?:(?:\\.|'(?!''))[^'\\]*+)*+(?:'''|\Z|\\\Z)"""
    r'''|"""[^"\\]*+(?:(?:\\.|"(?!""))[^"\\]*+)*+(?:"""|\Z|\\\Z)'''
    r"""|'[^'\\]*+(?:\\.[^'\\]*+)*+(?:'|\Z|\\\Z)"""
    r"""|"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\Z|\\\Z)""",
    re.DOTALL,
)  # every alternative runs to its end, found or not, so that a search never goes over the same text twice
_STRUCTURE = re.compile(r"[^\w\s:.'\"]")
_NAME = re.compile(r"(?<![\w.])[^\W\d]\w*")
_PREFIXES = frozenset({"b", "u", "r", "br", "rb"})  # of strings; f would run code
_NAMES = frozenset({"True", "False", "None", "set"})
_STEP = dict.fromkeys("([{", 1) | dict.fromkeys(")]}", -1)


class _LiteralSubscribe(msgspec.Struct, tag_field="command", tag="subscribe", forbid_unknown_fields=True):
    topic: str
    last_seen: int | UnsetType = UNSET

    def command(self, line: bytes) -> Command:  # noqa: ARG002
        start = LATEST if self.last_seen is UNSET else AfterIndex(self.last_seen)
        return Subscribe(parse_topic(self.topic), start)


class _LiteralSend(msgspec.Struct, tag_field="command", tag="send", forbid_unknown_fields=True):
    topic: str
    msg: Any
    delivery: Delivery = Delivery.ALL
    cache: bool = True

    def command(self, line: bytes) -> Command:
        kind = BINARY if isinstance(self.msg, bytes) else TEXT
        topic, data = parse_topic(self.topic), _as_bytes(self.msg)
        return Send(Draft(topic, data, kind, delivery=self.delivery, retain=self.cache, line=line + b"\n"))


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else repr(value)).encode()


class Literal(Dialect):
    form = frames.LITERAL

    def parse(self, line: bytes) -> Command:
        value = _evaluated(line)
        try:
            wire: _LiteralSubscribe | _LiteralSend = msgspec.convert(value, _LiteralSubscribe | _LiteralSend)
            return wire.command(line)
        except (msgspec.ValidationError, ValueError) as error:
            raise BadArguments(f"{error}; expected {_LITERAL_EXAMPLE}") from None

    def success(self, text: str) -> bytes:  # noqa: ARG002
        return b""

    def error(self, error: PlainmqError) -> bytes:
        return f"{ {'success': False, 'reason': str(error)} }\n".encode()


_LITERAL_EXAMPLE = "{'command': 'subscribe', 'topic': 'foo'} or {'command': 'send', 'topic': 'foo', 'msg': 'blah'}"


def _evaluated(line: bytes) -> Any:
    """The value of the literal; a hostile line costs milliseconds. Raises Refused."""
    if len(line) > MAX_LITERAL:
        raise MessageTooLarge(f"a Python literal has at most {MAX_LITERAL} bytes: longer messages can be sent as JSON")
    text = _decoded(line).strip()
    _check_structure(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of '\d', which the sender cannot see
            return ast.literal_eval(text)
    except SyntaxError as error:
        raise NotParsed(f"this is not a Python literal: {error.msg[:100]}") from None
    except (ValueError, TypeError, MemoryError, RecursionError):
        raise NotParsed("this is not a Python literal: it has more than strings, numbers and what holds them") from None


def _check_structure(text: str) -> None:
    """Bound what the parser will have to do. Raises NotParsed."""
    bare = _STRING.sub("''", text)
    if "\r" in text:
        raise NotParsed("a carriage return is not part of a literal: write it as \\r")  # to Python it ends a comment
    if len(bare) > MAX_BARE:
        raise NotParsed(f"a literal has at most {MAX_BARE} characters outside quotes")
    structure = _STRUCTURE.findall(bare)
    if len(structure) > MAX_STRUCTURE:
        raise NotParsed(f"a literal has at most {MAX_STRUCTURE} brackets, commas and operators outside quotes")
    depth = 0
    for mark in structure:
        depth += _STEP.get(mark, 0)
        if depth > MAX_NESTING:
            raise NotParsed(f"a literal is nested at most {MAX_NESTING} deep")
    for name in _NAME.findall(bare):
        if name not in _NAMES and name.lower() not in _PREFIXES:
            raise NotParsed(f"{name[:60]!a} is a name: a literal has only strings, numbers, True, False and None")


# JSON: the third version of the protocol


class _JsonSubscribe(msgspec.Struct, tag_field="command", tag="subscribe", forbid_unknown_fields=True, gc=False):
    topic: str
    last_seen: int | UnsetType = UNSET
    cache: bool = True

    def command(self) -> Command:
        replay = EARLIEST if self.cache else LATEST
        return Subscribe(parse_topic(self.topic), replay if self.last_seen is UNSET else AfterIndex(self.last_seen))


class _JsonUnsubscribe(msgspec.Struct, tag_field="command", tag="unsubscribe", forbid_unknown_fields=True, gc=False):
    topic: str

    def command(self) -> Command:
        return Unsubscribe(parse_topic(self.topic))


class _JsonSend(msgspec.Struct, tag_field="command", tag="send", forbid_unknown_fields=True, gc=False):
    topic: str
    msg: str
    delivery: Delivery
    cache: bool = True

    def command(self) -> Command:
        return Send(Draft(parse_topic(self.topic), self.msg.encode(), TEXT, None, self.delivery, self.cache))


class _JsonPing(msgspec.Struct, tag_field="command", tag="ping", forbid_unknown_fields=True, gc=False):
    def command(self) -> Command:
        return Ping()


class Json(Dialect):
    form = frames.JSON

    _decode = msgspec.json.Decoder(_JsonSend | _JsonSubscribe | _JsonUnsubscribe | _JsonPing).decode
    _skim = msgspec.json.Decoder(msgspec.Raw).decode  # checks the syntax and builds nothing

    def parse(self, line: bytes) -> Command:
        try:
            wire: _JsonSend | _JsonSubscribe | _JsonUnsubscribe | _JsonPing = self._decode(line)
            return wire.command()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TopicInvalid):
            raise self._reason(line) from None

    def _reason(self, line: bytes) -> Refused:
        """Why the line is refused, in the words that clients compare."""
        try:
            _decoded(line)
            self._skim(line)
        except NotUtf8 as error:
            return error
        except (msgspec.DecodeError, RecursionError):
            return NotParsed("Could not parse json")
        return BadArguments("Malformed json message")

    def success(self, text: str) -> bytes:  # noqa: ARG002
        return b'{"success": true}\r\n'

    def sent(self, answer: Receipt | Scheduled) -> bytes:  # noqa: ARG002
        return b'{"success": true}\r\n'

    def error(self, error: PlainmqError) -> bytes:
        return b'{"success": false, "reason": %b}\r\n' % encode_json(str(error))


# Words, for people


_BLANKS = re.compile(r"[ \t]+")
_USAGE: Final = {
    "sub": "sub TOPIC [since]",
    "unsub": "unsub TOPIC",
    "pub": "pub TOPIC TEXT...",
    "topics": "topics",
    "ping": "ping",
    "help": "help",
    "quit": "quit",
}
_MEANT: Final = {
    "subscribe": "sub",
    "unsubscribe": "unsub",
    "publish": "pub",
    "send": "pub",
    "exit": "quit",
    "?": "help",
}

HELP: Final = """\
plainmq: each line is a command, in one of three dialects; mix them at will.

  Words, for people (a message is shown as MSG <topic> <id> <text>):
    sub TOPIC [since]     new messages; since: earliest, last:10, 10m or an id
                          b.* is every topic of b, one level; b.** all levels
    unsub TOPIC           no more of them
    pub TOPIC TEXT...     publish the text
    topics                what topics there are
    ping                  are you there?
    help                  this page
    quit                  close the connection

  JSON, for programs (send needs "delivery": "all", or "one" for one of them):
    {"command":"subscribe","topic":"foo"}
    {"command":"send","topic":"foo","msg":"blah","delivery":"all"}
    {"command":"unsubscribe","topic":"foo"}

  Python literals, as it all began (no answer means it was done):
    {'command':'subscribe', 'topic':'foo'}
    {'command':'send', 'topic':'foo', 'msg':'blah'}"""


def describe(topics: Sequence[TopicInfo]) -> str:
    """The topics as lines of words, their number first."""
    return "\n".join([f"topics={len(topics)}", *map(_described, topics)])


def _described(topic: TopicInfo) -> str:
    state = topic.state
    return (
        f"TOPIC {state.topic} messages={state.messages} bytes={state.bytes} "
        f"first={state.first or '-'} last={state.last or '-'} subscribers={topic.subscribers}"
    )


def _sub(topic: str, since: str) -> Command:
    return Subscribe(parse_pattern(topic), parse_start(since) if since else LATEST)


def _unsub(topic: str, rest: str) -> Command:
    _check_usage("unsub", not rest)
    return Unsubscribe(parse_pattern(topic))


def _pub(topic: str, text: str) -> Command:
    _check_usage("pub", bool(text))
    return Send(Draft(parse_topic(topic), text.encode()))


def _check_usage(verb: str, right: bool) -> None:
    if not right:
        raise BadArguments(f"expected: {_USAGE[verb]}")


_WITH_TOPIC: Final[dict[str, Callable[[str, str], Command]]] = {"sub": _sub, "unsub": _unsub, "pub": _pub}
_ALONE: Final[dict[str, Command]] = {"topics": Topics(), "ping": Ping(), "help": Help(), "quit": Quit()}


class Words(Dialect):
    form = frames.WORDS
    tells_receipt = True

    def parse(self, line: bytes) -> Command:
        words = _BLANKS.split(_decoded(line).strip(" \t\r"), 2)
        verb, topic, rest = (*words, "", "")[:3]
        verb = verb.lower()
        if verb in _ALONE:
            _check_usage(verb, not topic)
            return _ALONE[verb]
        if verb not in _WITH_TOPIC:
            raise UnknownCommand(_unknown(verb))
        _check_usage(verb, bool(topic))
        return _WITH_TOPIC[verb](topic, rest)

    def success(self, text: str) -> bytes:
        return f"OK {text}\n".replace("\n", "\r\n").encode()

    def sent(self, answer: Receipt | Scheduled) -> bytes:
        assert isinstance(answer, Receipt)
        return f"OK {answer.id} subscribers={answer.subscribers}\r\n".encode()

    def error(self, error: PlainmqError) -> bytes:
        return f"ERR {error.code} {error}\r\n".encode()

    def bye(self, reason: str) -> bytes:
        return f"BYE {reason}\r\n".encode()


def _unknown(verb: str) -> str:
    meant = _MEANT.get(verb) or next(iter(get_close_matches(verb[:60], _USAGE, 1, 0.5)), None)
    hint = f"did you mean '{_USAGE[meant]}'? " if meant else ""
    return f"{verb[:60]!a} is not a command; {hint}'help' shows what is"


# Which dialect a line speaks


LITERAL: Final = Literal()
JSON: Final = Json()
WORDS: Final = Words()

_HTTP = re.compile(
    rb"(?:[A-Za-z]+ (?:/|\*|[a-z]+://)|CONNECT )(?:[^ ]* HTTP/[0-9]|[^ ]{4096})"
)  # no topic starts like that, so no line of words is lost; a long target may be cut short before its HTTP/1.1
_STARTS: Final[tuple[tuple[re.Pattern[bytes], Dialect | None], ...]] = (
    (re.compile(rb"\x16\x03"), None),  # a TLS hello
    (_HTTP, None),
    (re.compile(rb"[ \t\r]*(?:\{[ \t]*(?:[bBuUrR]{0,2}'|[bBuUrR]{1,2}\"|\()|['(]|[bBuUrR]{1,2}['\"])"), LITERAL),
    (re.compile(rb"[ \t\r]*(?!(?:null|true|false)[ \t\r]*\Z)[A-Za-z!#$%&*+./;<=>?@\\^_`|~]"), WORDS),
    (re.compile(rb""), JSON),
)


def choose(line: bytes) -> Dialect | None:
    """The dialect of a line that is not blank; None when it belongs to another protocol: HTTP or TLS."""
    if line.startswith(b'{"'):  # by far the most lines, and worth a shortcut
        return JSON
    return next(dialect for start, dialect in _STARTS if start.match(line))
