"""Python literals: the first and second version of the protocol."""

import ast
import re
import warnings
from functools import lru_cache
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from ...errors import MessageTooLarge, PlainmqError
from ...errors.wording import in_words
from ...messages.control_characters import has_control_characters
from ...messages.message import BODY_PLACEHOLDER, BYTES, TEXT, Delivery, Envelope, is_utf8
from ...messages.position import LATEST, AfterIndex
from ...messages.topic import parse_topic
from .. import encoders
from .base import BadArguments, Dialect, NotParsed, decoded
from .commands import Auth, Command, Send, Subscribe

MAX_LITERAL: Final = 128 << 10  # bytes of a line
MAX_BARE: Final = 8 << 10  # characters of it outside quotes
MAX_STRUCTURE: Final = 256  # brackets, commas and operators outside quotes
MAX_NESTING: Final = 8
MAX_BEGINNING: Final = 512  # bytes before the message, in a line of a kind that is remembered

_STRING = re.compile(
    r"""'''[^'\\]*+(?:(?:\\.|'(?!''))[^'\\]*+)*+(?:'''|\Z|\\\Z)"""
    r'''|"""[^"\\]*+(?:(?:\\.|"(?!""))[^"\\]*+)*+(?:"""|\Z|\\\Z)'''
    r"""|'[^'\\]*+(?:\\.[^'\\]*+)*+(?:'|\Z|\\\Z)"""
    r"""|"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\Z|\\\Z)""",
    re.DOTALL,
)  # every alternative runs to its end, found or not, so that a search never goes over the same text twice
_PAIR = re.compile(r"'([^'\\\0]*)' ?: ?'([^'\\\0]*)'")
_PLAIN = re.compile(rf"\{{{_PAIR.pattern}(?:, ?{_PAIR.pattern}){{0,3}}\}}")  # what most lines are
_STRUCTURE = re.compile(r"[^\w\s:.'\"]")
_NAME = re.compile(r"(?<![\w.])[^\W\d]\w*")
_PREFIXES = frozenset({"b", "u", "r", "br", "rb"})  # of strings; f would run code
_NAMES = frozenset({"True", "False", "None", "set"})
_STEP = dict.fromkeys("([{", 1) | dict.fromkeys(")]}", -1)


class _Subscribe(msgspec.Struct, tag_field="command", tag="subscribe", forbid_unknown_fields=True):
    topic: str
    last_seen: int | UnsetType = UNSET

    def command(self, line: bytes) -> Command:  # noqa: ARG002
        start = LATEST if self.last_seen is UNSET else AfterIndex(self.last_seen)
        return Subscribe(parse_topic(self.topic), start)


class _Send(msgspec.Struct, tag_field="command", tag="send", forbid_unknown_fields=True):
    topic: str
    msg: Any
    delivery: Delivery = Delivery.ALL
    cache: bool = True

    def command(self, line: bytes) -> Send:
        return Send(self.envelope(line), _as_bytes(self.msg))

    def envelope(self, line: bytes) -> Envelope:
        kind = BYTES if isinstance(self.msg, bytes) else TEXT
        return Envelope(parse_topic(self.topic), kind, None, self.delivery, self.cache, line=line + b"\n")


class _Auth(msgspec.Struct, tag_field="command", tag="auth", forbid_unknown_fields=True):
    token: str

    def command(self, line: bytes) -> Command:  # noqa: ARG002
        return Auth(self.token)


def _as_bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else repr(value)).encode()


_Lines = _Subscribe | _Send | _Auth


class LiteralDialect(Dialect):
    form = encoders.LITERAL

    def parse(self, line: bytes) -> Command:
        if send := _usual(line):
            return send
        value = _evaluated(line)
        if has_control_characters(
            line.removesuffix(b"\r")
        ):  # who reads it may sit at a terminal: the same value, as Python writes it
            line = repr(value).encode()
        try:
            wire: _Lines = msgspec.convert(value, _Lines)
            return wire.command(line)
        except (msgspec.ValidationError, ValueError) as error:
            raise BadArguments(f"{in_words(error)}; expected {_LITERAL_EXAMPLE}") from None

    def success(self, text: str) -> bytes:  # noqa: ARG002
        return b""

    def error(self, error: PlainmqError) -> bytes:
        return f"{ {'success': False, 'reason': str(error)} }\n".encode()


_MESSAGE: Final = (b"'msg':'", b"'msg': '", b"'msg' : '", b"'msg' :'")
_END: Final = b"'}"
_LITERAL_EXAMPLE = "{'command': 'subscribe', 'topic': 'foo'} or {'command': 'send', 'topic': 'foo', 'msg': 'blah'}"


# Most lines of a client differ in their last string only, and that is the message


def _usual(line: bytes) -> Send | None:
    """The send that it is, if the message is its last string, and has no escape."""
    begin = line.rfind(b"'", 0, -2) + 1
    before, message = line[:begin], line[begin:-2]
    if not (before.endswith(_MESSAGE) and line.endswith(_END) and begin <= MAX_BEGINNING and len(line) <= MAX_LITERAL):
        return None
    if b"\\" in message or has_control_characters(message) or not (message.isascii() or is_utf8(message)):
        return None
    envelope = _envelope(before)
    return None if envelope is None else Send(envelope, message)


@lru_cache(maxsize=1_024)
def _envelope(before: bytes) -> Envelope | None:
    """Of the sends that begin like this. None: they are something else, and each has to be read."""
    line = before + _END
    try:
        if has_control_characters(line) or not _PLAIN.fullmatch(decoded(line)):
            return None
        wire: _Lines = msgspec.convert(_evaluated(line), _Lines)
    except (msgspec.ValidationError, PlainmqError):
        return None
    return wire.envelope(before + BODY_PLACEHOLDER + _END) if isinstance(wire, _Send) else None


def _evaluated(line: bytes) -> Any:
    """The value of the literal; a hostile line costs milliseconds. Raises Refused."""
    if len(line) > MAX_LITERAL:
        raise MessageTooLarge(f"a Python literal has at most {MAX_LITERAL} bytes: longer messages can be sent as JSON")
    text = decoded(line).strip()
    if "\r" in text:  # to Python it ends a comment
        raise NotParsed("a carriage return is not part of a literal: write it as \\r")
    if _PLAIN.fullmatch(text):
        return dict(_PAIR.findall(text))
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
            raise NotParsed(f"{name[:20]!a} is a name: a literal has only strings, numbers, True, False and None")
