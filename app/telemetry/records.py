"""Formatters of log records: a line of text for people, or a line of JSON for programs. Both have the same content.

2026-11-25T22:12:03.123Z warning stream ended door=http client=127.0.0.1:4242 path=/topics/foo/stream why=cut_off
{"time":"2026-11-25T22:12:03.123Z","level":"warning","message":"stream ended","door":"http",...}
"""

import logging
import re
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec

from . import redact

Format = Literal["human", "json"]

FIELDS: Final = "fields"  # the attribute of a LogRecord that holds the fields of our own records
PLAIN: Final = re.compile(r"[\w./:@%+,?&*~\[\]-][\w./:@%+,?&*~=\[\]-]*")  # a value that needs no quotes
_DECIMALS: Final = 6  # microseconds


class _Records(logging.Formatter):
    """`always`: fields that every record has."""

    def __init__(self, always: Mapping[str, int] = {}) -> None:  # never changed
        super().__init__()
        self._always = always

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        return {**_fields(record), **self._always}


class Human(_Records):
    """One line a record. The lines of a traceback follow, prefixed with a bar, so that none looks like a record."""

    def format(self, record: logging.LogRecord) -> str:
        words = " ".join(f"{name}={_quoted(value)}" for name, value in self._fields(record).items())
        line = f"{_time(record)} {_level(record)} {_message(record)} {words}".rstrip()
        return "\n".join([line, *(f"  | {trace}" for trace in _trace(record))])


class Json(_Records):
    def format(self, record: logging.LogRecord) -> str:
        about = {"time": _time(record), "level": _level(record), "message": _message(record), **self._fields(record)}
        if trace := _trace(record):
            about["trace"] = "\n".join(trace)
        return msgspec.json.encode(about).decode()


def spoken(text: str) -> str:
    """A JSON object with our own text, which is not redacted."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return msgspec.json.encode({"time": now, "level": "warning", "message": text}).decode()


FORMATS: Final[dict[Format, type[_Records]]] = {"human": Human, "json": Json}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _level(record: logging.LogRecord) -> str:
    return record.levelname.lower()


def _message(record: logging.LogRecord) -> str:
    return redact.text(record.getMessage().strip())


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    """The fields of our own records; for records of other libraries, the logger's name."""
    fields: dict[str, Any] = getattr(record, FIELDS, None) or {"logger": record.name}
    return {name: _shown(value) for name, value in fields.items() if value is not None}


def _shown(value: object) -> str | int | float | dict[str, Any]:
    if isinstance(value, dict):
        return {name: _shown(part) for name, part in value.items()}
    if isinstance(value, float):
        return round(value, _DECIMALS)
    return value if isinstance(value, int) else redact.text(str(value))


def _quoted(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}={_quoted(part)}" for name, part in value.items()) + "}"
    words = str(value)
    return words if PLAIN.fullmatch(words) else '"' + words.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _trace(record: logging.LogRecord) -> list[str]:
    if not record.exc_info:
        return []
    return redact.lines("".join(traceback.format_exception(*record.exc_info)).rstrip())
