"""Error texts of libraries, reworded for people: without Python's types, error numbers and names."""

import re
from collections.abc import Callable
from re import Match, Pattern
from typing import Final

_TYPES: Final = {
    "int": "a whole number", "float": "a number", "str": "a text", "bytes": "bytes", "bool": "true or false",
    "null": "null", "array": "a list", "object": "an object", "datetime": "a time", "set": "a set",
}  # fmt: skip
_SENTENCES: Final[tuple[tuple[Pattern[str], str | Callable[[Match[str]], str]], ...]] = (
    (re.compile(r"Invalid enum value (?P<seen>.*)"), r"\g<seen> is none of the values that are allowed"),
    (re.compile(r"Invalid value (?P<seen>.*)"), r"\g<seen> is none of the values that are allowed"),
    (re.compile(r"Object missing required field `(?P<name>.*)`"), r"'\g<name>' is missing"),
    (re.compile(r"Object contains unknown field `((?s:.*))`"), lambda match: f"{quoted(match[1])} is not known"),
    (re.compile(r"Expected `str` matching regex '\^\[!-~\]\+.*"), "expected printable ASCII without blanks"),
    (re.compile(r"Expected `str` matching regex '\^\[0-9a-f\]\{64\}.*"), "expected 64 of the characters 0-9 and a-f"),
    (re.compile(r"Expected `str` matching regex .*"), "it has characters that it cannot have"),
    (re.compile(r"Expected `(int|float)` that's a multiple of 1(\.0)?"), "expected a whole number"),
    (re.compile(r"Input data was truncated"), "the JSON ends too early"),
    (re.compile(r"JSON is malformed: (?P<why>.*) \((?P<byte>byte \d+)\)"), r"it is not JSON: \g<why> near \g<byte>"),
    (re.compile(r"Number out of range"), "the number is too large"),
    (re.compile(r"Expected `str` of length (?P<bound>[<>]= \d+)"), r"expected \g<bound> characters"),
    (re.compile(r"Expected `array` of length (?P<rest>.*)"), r"expected a list of length \g<rest>"),
    (re.compile(r"Expected `datetime` with a timezone component"), "expected a time with its zone, such as Z"),
    (re.compile(r"Invalid RFC3339 encoded datetime"), "expected a time such as 2026-01-31T12:00:00Z"),
    (re.compile(r"Expected "), "expected "),
)  # fmt: skip
_BOUNDS: Final = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
_TYPE: Final = re.compile(r"`([a-z]+(?: \| [a-z]+)*)`")
_BOUND: Final = re.compile(r"(?<= )(>=|<=|>|<)(?= )")
_POINT_ZERO: Final = re.compile(r"(?<= )(\d+)\.0\Z")
_NOISE: Final = re.compile(r"\A\[[^\]]*\] | \(_ssl\.c:\d+\)|\.\Z")
_PATH: Final = re.compile(r" - at (?:`key` in )?`\$\.?(.*)`\Z")


def in_words(error: Exception) -> str:
    """Such as `max_messages: expected a whole number, got a text`."""
    text = str(error)
    path = _PATH.search(text)
    text = _PATH.sub("", text)
    for pattern, sentence in _SENTENCES:
        if pattern.match(text):
            text = pattern.sub(sentence, text, count=1)
            break
    text = _POINT_ZERO.sub(r"\1", _BOUND.sub(lambda bound: _BOUNDS[bound[1]], _TYPE.sub(_type_names, text)))
    return f"{path[1]}: {text}" if path and path[1] else text


def quoted(received: str | bytes, longest: int = 60) -> str:
    """The beginning of a text that a client has sent, in quotes, with unprintable characters escaped."""
    text = (received.decode(errors="backslashreplace") if isinstance(received, bytes) else received)[:longest]
    return "'" + "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text) + "'"


def cause(error: Exception) -> str:
    """`[Errno 111] Connection refused` → `Connection refused`"""
    return _NOISE.sub("", str(error))


def _type_names(types: Match[str]) -> str:
    words = types[1].split(" | ")
    return " or ".join(_TYPES[word] for word in words) if _TYPES.keys() >= {*words} else types[0]
