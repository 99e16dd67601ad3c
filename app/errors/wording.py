"""Error texts of libraries, reworded for people: without Python's types, error numbers and names."""

import re
from collections.abc import Callable
from re import Match, Pattern
from typing import Final

_TYPES: Final = {
    "int": "a whole number", "float": "a number", "str": "a text", "bytes": "bytes", "bool": "true or false",
    "null": "null", "array": "a list", "object": "an object", "datetime": "a time", "set": "a set",
    "NoneType": "null", "list": "a list", "tuple": "a list", "dict": "an object", "complex": "a number",
}  # fmt: skip
HALF_PAIR: Final = r"a text has half of a surrogate pair, such as \ud800, which is no character"
_SENTENCES: Final[tuple[tuple[Pattern[str], str | Callable[[Match[str]], str]], ...]] = (
    (re.compile(r"Invalid (?:enum )?value ((?s:.*))"), lambda match: f"{_json(match[1])} is not an allowed value"),
    (re.compile(r"Object missing required field `(?P<name>.*)`"), r"'\g<name>' is missing"),
    (re.compile(r"Object contains unknown field `((?s:.*))`"), lambda match: f"{quoted(match[1])} is not known"),
    (re.compile(r"Expected `str` matching regex '\^\[!-~\]\+.*"), "expected printable ASCII without blanks"),
    (re.compile(r"Expected `str` matching regex '\^\[0-9a-f\]\{64\}.*"), "expected 64 of the characters 0-9 and a-f"),
    (re.compile(r"Expected `str` matching regex .*"), "it has characters that it cannot have"),
    (re.compile(r"Expected `(int|float)` that's a multiple of 1(\.0)?"), "expected a whole number"),
    (re.compile(r"JSON is malformed: .*surrogate pair.*"), lambda _: HALF_PAIR),
    (re.compile(r"Invalid UTF-8 encoded string"), "it is not UTF-8"),
    (re.compile(r"Input data was truncated"), "the JSON is incomplete"),
    (re.compile(r"'utf-8' codec can't decode .*"), "it is not UTF-8"),
    (re.compile(r"maximum recursion depth exceeded.*"), "it is nested too deeply"),
    (re.compile(r"JSON is malformed: (?P<why>.*) \((?P<byte>byte \d+)\)"), r"it is not JSON: \g<why> near \g<byte>"),
    (re.compile(r"Number out of range"), "the number is too large"),
    (re.compile(r"Expected `str` of length ([<>]=) (\d+)"), lambda match: f"expected {_counted(match, 'character')}"),
    (re.compile(r"Expected `array` of length ([<>]=) (\d+)"), lambda match: f"expected {_counted(match, 'item')}"),
    (re.compile(r"Expected `datetime` with a timezone component"), "expected a time with its zone, such as Z"),
    (re.compile(r"Invalid RFC3339 encoded datetime"), "expected a time such as 2026-01-31T12:00:00Z"),
    (re.compile(r"Expected "), "expected "),
)  # fmt: skip
_BOUNDS: Final = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
_JSON: Final = {"None": "null", "True": "true", "False": "false"}
_TYPE: Final = re.compile(r"`([a-zA-Z]+(?: \| [a-zA-Z]+)*)`")
_OTHER_TYPE: Final = re.compile(r", got `\w+`")
_BOUND: Final = re.compile(r"(?<= )(>=|<=|>|<)(?= )")
_POINT_ZERO: Final = re.compile(r"(?<= )(\d+)\.0\Z")
_NOISE: Final = re.compile(r"\A\[[^\]]*\] | \(_ssl\.c:\d+\)|\.\Z")
_CHARACTER: Final = 4  # bytes at most, in UTF-8
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
    text = _POINT_ZERO.sub(r"\1", _BOUND.sub(lambda bound: f"of {_BOUNDS[bound[1]]}", _TYPE.sub(_type_names, text)))
    text = _OTHER_TYPE.sub(", got something else", text)
    return f"{path[1]}: {text}" if path and path[1] else text


_HIGH_SURROGATE: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u[dD][89abAB][0-9a-fA-F]{2}[^\\]")  # without the low one


def json_in_words(error: Exception, json: bytes) -> str:
    """Why this is not the expected JSON. msgspec takes half of a surrogate pair for the end of the input, if it stands
    near there."""
    is_half = str(error) == "Input data was truncated" and _HIGH_SURROGATE.search(json)
    return HALF_PAIR if is_half else in_words(error)


def quoted(received: str | bytes | bytearray, longest: int = 60) -> str:
    """The beginning of a text that a client has sent, in quotes, with unprintable characters escaped."""
    begin = received[: longest * _CHARACTER]  # the whole may have 100 MB
    text = begin if isinstance(begin, str) else begin.decode(errors="backslashreplace")
    return "'" + "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text[:longest]) + "'"


def cause(error: Exception) -> str:
    """`[Errno 111] Connection refused` → `Connection refused`"""
    return _NOISE.sub("", str(error))


def _counted(bound: Match[str], noun: str) -> str:
    """`>= 1` → `at least 1 character`"""
    return f"{_BOUNDS[bound[1]]} {bound[2]} {noun}{'s' * (bound[2] != '1')}"


def _json(value: str) -> str:
    """A value that is shown, as JSON writes it."""
    return _JSON.get(value, value)


def _type_names(types: Match[str]) -> str:
    words = types[1].split(" | ")
    return " or ".join(_TYPES[word] for word in words) if _TYPES.keys() >= {*words} else types[0]
