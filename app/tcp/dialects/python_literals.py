"""The dialect of Python literals: the first and second version of the original protocol."""

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
MAX_BARE: Final = 8 << 10  # characters outside quotes
MAX_STRUCTURE: Final = 256  # brackets, commas and operators outside quotes
MAX_NESTING: Final = 8
MAX_HEAD: Final = 512  # bytes of a cached head: a line up to its message

_STRING = re.compile(
    r"""'''[^'\\]*+(?:(?:\\.|'(?!''))[^'\\]*+)*+(?:'''|\Z|\\\Z)"""
    r'''|"""[^"\\]*+(?:(?:\\.|"(?!""))[^"\\]*+)*+(?:"""|\Z|\\\Z)'''
    r"""|'[^'\\]*+(?:\\.[^'\\]*+)*+(?:'|\Z|\\\Z)"""
    r"""|"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\Z|\\\Z)""",
    re.DOTALL,
)  # each alternative matches to the end of the text if its quote is missing: no text is searched twice
_PAIR = re.compile(r"'([^'\\\0]*)' ?: ?'([^'\\\0]*)'")
PLAIN = re.compile(rf"\{{{_PAIR.pattern}(?:, ?{_PAIR.pattern}){{0,3}}\}}")  # most lines
_STRUCTURE = re.compile(r"[^\w\s:.'\"]")
_NAME = re.compile(r"(?<![\w.])[^\W\d]\w*")
_PREFIXES = frozenset({"b", "u", "r", "br", "rb"})  # of strings; not f, which would run code
_NAMES = frozenset({"True", "False", "None", "set"})
_DEPTH_CHANGE = dict.fromkeys("([{", 1) | dict.fromkeys(")]}", -1)


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


AnyLine = _Subscribe | _Send | _Auth


class LiteralDialect(Dialect):
    encoder = encoders.LITERAL

    def parse(self, line: bytes) -> Command:
        if send := _with_cached_head(line):
            return send
        value = evaluate(line)
        if has_control_characters(line.removesuffix(b"\r")):
            line = repr(value).encode()  # an equal value without them: a subscriber may be a terminal
        try:
            wire: AnyLine = msgspec.convert(value, AnyLine)
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


# Fast path: most sends of a client differ in their last string only, which is the message. All before it is the head.


def _with_cached_head(line: bytes) -> Send | None:
    """The send, if the message is the last string of the line and has no escapes."""
    begin = line.rfind(b"'", 0, -2) + 1
    head, message = line[:begin], line[begin:-2]
    if not (head.endswith(_MESSAGE) and line.endswith(_END) and begin <= MAX_HEAD and len(line) <= MAX_LITERAL):
        return None
    if b"\\" in message or has_control_characters(message) or not (message.isascii() or is_utf8(message)):
        return None
    envelope = _envelope(head)
    return None if envelope is None else Send(envelope, message)


@lru_cache(maxsize=1_024)
def _envelope(head: bytes) -> Envelope | None:
    """The envelope of all sends with this head. None: the line has to be parsed as a whole."""
    line = head + _END
    try:
        if has_control_characters(line) or not PLAIN.fullmatch(decoded(line)):
            return None
        wire: AnyLine = msgspec.convert(evaluate(line), AnyLine)
    except (msgspec.ValidationError, PlainmqError):
        return None
    return wire.envelope(head + BODY_PLACEHOLDER + _END) if isinstance(wire, _Send) else None


def evaluate(line: bytes) -> Any:
    """The value of the literal. A hostile line costs milliseconds at most. Raises Refused."""
    if len(line) > MAX_LITERAL:
        raise MessageTooLarge(f"a Python literal has at most {MAX_LITERAL} bytes: longer messages can be sent as JSON")
    text = decoded(line).strip()
    if "\r" in text:  # Python would take it for the end of a comment
        raise NotParsed("a carriage return is not part of a literal: write it as \\r")
    if PLAIN.fullmatch(text):
        pairs = _PAIR.findall(text)
        _check_keys([key for key, _ in pairs])
        return dict(pairs)
    _check_structure(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes such as '\d'; the sender would not see it
            expression = ast.parse(text, mode="eval")
            value = ast.literal_eval(expression)
    except SyntaxError as error:
        raise NotParsed(f"this is not a Python literal: {_reason(error.msg)}") from None
    except (ValueError, TypeError, MemoryError, RecursionError):
        raise NotParsed("this is not a Python literal: it has more than strings, numbers and containers") from None
    if isinstance(expression.body, ast.Dict):
        _check_keys([ast.literal_eval(key) for key in expression.body.keys if key is not None])
    return value


def _check_keys(keys: list[Any]) -> None:
    """A literal says each thing once. Raises NotParsed."""
    repeated = next((key for number, key in enumerate(keys) if key in keys[:number]), None)
    if repeated is not None:
        raise NotParsed(f"{str(repeated)[:60]!a} is given twice")


_REASONS: Final = (
    (re.compile(r"\(unicode error\).*"), "an escape in a string is not whole"),
    (re.compile(r"Exceeds the limit \((\d+) digits\).*"), r"a number has at most \1 digits"),
    (
        re.compile(r" \(detected at line \d+\)|\. (?:Perhaps|Maybe|Did) you .*"),
        "",
    ),  # a line is one line, and no program
)


def _reason(message: str) -> str:
    """What Python's parser says, without its advice to programmers."""
    for pattern, words in _REASONS:
        message = pattern.sub(words, message)
    return message[:100]


def _check_structure(text: str) -> None:
    """Bound the work of Python's parser. Raises NotParsed."""
    bare = _STRING.sub("''", text)
    if len(bare) > MAX_BARE:
        raise NotParsed(f"a literal has at most {MAX_BARE} characters outside quotes")
    structure = _STRUCTURE.findall(bare)
    if len(structure) > MAX_STRUCTURE:
        raise NotParsed(f"a literal has at most {MAX_STRUCTURE} brackets, commas and operators outside quotes")
    depth = 0
    for mark in structure:
        depth += _DEPTH_CHANGE.get(mark, 0)
        if depth > MAX_NESTING:
            raise NotParsed(f"a literal is nested at most {MAX_NESTING} deep")
    for name in _NAME.findall(bare):
        if name not in _NAMES and name.lower() not in _PREFIXES:
            raise NotParsed(f"{name[:20]!a} is a name: a literal has only strings, numbers, True, False and None")
