"""A reader of server-sent events, in bounded memory.

https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from typing import Final

import msgspec

BOM: Final = b"\xef\xbb\xbf"  # the byte order mark, which a stream may begin with
MAX_EVENT: Final = 128 << 20  # bytes: the longest message, each of whose bytes is escaped in JSON
MAX_NAME: Final = 4 << 10  # bytes of an id or of an event's name: plainmq's have at most 300
MAX_LINE: Final = 16 << 10  # bytes of a line that is not data: a proxy may pad with comments of a few KiB
MAX_DIGITS: Final = 9  # of a `retry:`: eleven days


class TooLong(Exception):
    """An event has more than MAX_EVENT bytes, a name or an id more than MAX_NAME, or a line without data more than
    MAX_LINE."""


class Event(msgspec.Struct):
    """`id` is the id of the last event that had one; `retry` is in milliseconds."""

    event: str = ""
    data: bytes | bytearray = b""
    id: str = ""
    retry: int | None = None


class EventReader:
    """Parses the bytes of a stream into events. The data of an event is in memory once: what comes of a long line is
    added to it at once."""

    def __init__(self, longest: int = MAX_EVENT) -> None:
        self._longest = longest
        self._line = bytearray()  # the incomplete one; in a list, short parts would take many times their length
        self._in_data = False  # the incomplete line is a long one of data
        self._data = bytearray()  # lines of the incomplete event, each with its LF
        self._after_cr = False
        self._first = True
        self._fields = False
        self._next = Event()

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that end in the chunk, including those without data. Raises TooLong."""
        lines, rest = self._lines(chunk)
        events = [event for line in lines if (event := self._line_ended(line))]
        self._add(rest)
        return events

    def _lines(self, chunk: bytes) -> tuple[list[bytes], bytes]:
        """The lines that end in the chunk, the first of which may have begun earlier, and the begin of the next one. A
        CR at the end of the chunk may be the first half of a line end."""
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")
        self._after_cr = chunk.endswith(b"\r") if chunk else self._after_cr
        lines = chunk.splitlines(keepends=True)
        rest = lines.pop() if lines and not lines[-1].endswith((b"\n", b"\r")) else b""
        return [line.rstrip(b"\r\n") for line in lines], rest

    def _line_ended(self, end: bytes) -> Event | None:
        """Process a line. `end`: what came of it last. Returns the event that it completes."""
        if self._in_data:
            self._in_data = False
            self._add_data(end)
            return None
        if self._line:
            end = bytes(self._line + end)
            self._line.clear()
        return self._event(end)

    def _add(self, part: bytes) -> None:
        """Add a part of a line that does not end yet."""
        if self._in_data:
            self._data += part
        else:
            self._line += part
        self._check_size()
        if len(self._line) > MAX_LINE + len(BOM):
            self._in_data = True  # or it is too long
            self._event(bytes(self._line))
            self._line.clear()
            del self._data[-1:]  # the LF

    def _check_size(self) -> None:
        if len(self._line) + len(self._data) > self._longest:
            raise TooLong

    def _event(self, line: bytes) -> Event | None:
        """Process a line. Returns the event that it completes."""
        if self._first:
            self._first, line = False, line.removeprefix(BOM)
        if not line:
            return self._ended()
        name, _, value = line.partition(b":")
        if len(line) > MAX_LINE and name != b"data":
            raise TooLong
        self._field(name, value.removeprefix(b" "))
        return None

    def _ended(self) -> Event | None:
        event, self._next = self._next, Event(id=self._next.id)
        if self._data:
            del self._data[-1:]
            event.data, self._data = self._data, bytearray()
        has_fields, self._fields = self._fields, False
        return event if has_fields else None

    def _add_data(self, value: bytes) -> None:
        self._data += value
        self._data += b"\n"
        self._check_size()

    def _field(self, name: bytes, value: bytes) -> None:
        match name:
            case b"data":
                self._add_data(value)
            case b"event" | b"id" if len(value) > MAX_NAME:
                raise TooLong
            case b"event":
                self._next.event = value.decode("utf-8", "replace")
            case b"id" if b"\0" not in value:
                self._next.id = value.decode("utf-8", "replace")
            case b"retry" if value.isdigit() and len(value) <= MAX_DIGITS:
                self._next.retry = int(value)
            case _:
                return
        self._fields = True
