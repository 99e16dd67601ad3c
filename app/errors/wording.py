"""What msgspec says of a value that does not fit, in words of people instead of Python's types."""

import re
from re import Match
from typing import Final

_TYPES: Final = {
    "int": "a whole number", "float": "a number", "str": "a text", "bytes": "bytes", "bool": "true or false",
    "null": "null", "array": "a list", "object": "an object", "datetime": "a time", "set": "a set",
}  # fmt: skip
_SENTENCES: Final = (
    (re.compile(r"Invalid enum value (?P<seen>.*)"), r"\g<seen> is none of the values that are allowed"),
    (re.compile(r"Invalid value (?P<seen>.*)"), r"\g<seen> is none of the values that are allowed"),
    (re.compile(r"Object missing required field `(?P<name>.*)`"), r"'\g<name>' is missing"),
    (re.compile(r"Object contains unknown field `(?P<name>.*)`"), r"'\g<name>' is not known"),
    (re.compile(r"Expected `str` matching regex .*"), "expected a text of another form"),
    (re.compile(r"Expected `str` of length (?P<bound>[<>]= \d+)"), r"expected \g<bound> characters"),
    (re.compile(r"Expected `array` of length (?P<rest>.*)"), r"expected a list of length \g<rest>"),
    (re.compile(r"Expected `datetime` with a timezone component"), "expected a time with its zone, such as Z"),
    (re.compile(r"Invalid RFC3339 encoded datetime"), "expected a time such as 2026-01-31T12:00:00Z"),
    (re.compile(r"Expected "), "expected "),
)  # fmt: skip
_BOUNDS: Final = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
_TYPE: Final = re.compile(r"`([a-z]+(?: \| [a-z]+)*)`")
_BOUND: Final = re.compile(r"(?<= )(>=|<=|>|<)(?= )")
_PLACE: Final = re.compile(r" - at (?:`key` in )?`\$\.?(.*)`\Z")


def in_words(error: Exception) -> str:
    """`max_messages: expected a whole number, got a text`"""
    said = str(error)
    place = _PLACE.search(said)
    said = _PLACE.sub("", said)
    for pattern, sentence in _SENTENCES:
        if pattern.match(said):
            said = pattern.sub(sentence, said, count=1)
            break
    said = _BOUND.sub(lambda bound: _BOUNDS[bound[1]], _TYPE.sub(_named, said))
    return f"{place[1]}: {said}" if place and place[1] else said


def _named(types: Match[str]) -> str:
    words = types[1].split(" | ")
    return " or ".join(_TYPES[word] for word in words) if _TYPES.keys() >= {*words} else types[0]
