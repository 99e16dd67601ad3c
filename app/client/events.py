"""A reader of server-sent events, in bounded memory.

https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from typing import Final

import msgspec

MAX_EVENT: Final = 128 << 20  # bytes: the longest message, each of whose bytes is escaped in JSON
MAX_NAME: Final = 4 << 10  # bytes of an id or of an event's name: plainmq's have at most 300
MAX_DIGITS: Final = 9  # of a `retry:`: eleven days


class TooLong(Exception):
    """An event has more than MAX_EVENT bytes, or a name or an id more than MAX_NAME."""


class Event(msgspec.Struct):
    """`id` is the id of the last event that had one; `retry` is in milliseconds."""

    event: str = ""
    data: bytes = b""
    id: str = ""
    retry: int | None = None


class EventReader:
    """Parses the bytes of a stream into events."""

    def __init__(self, longest: int = MAX_EVENT) -> None:
        self._longest = longest
        self._line = bytearray()  # the incomplete one; in a list, short parts would take many times their length
        self._data = bytearray()  # lines of the incomplete event, each with its LF
        self._after_cr = False
        self._first = True
        self._fields = False
        self._next = Event()

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that end in the chunk, including those without data. Raises TooLong."""
        return [event for line in self._lines(chunk) if (event := self._event(line))]

    def _lines(self, chunk: bytes) -> list[bytes]:
        """The lines that end in the chunk. A CR at its end may be the first half of a line end."""
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")
        self._after_cr = chunk.endswith(b"\r") if chunk else self._after_cr
        lines = chunk.splitlines(keepends=True)
        incomplete = lines.pop() if lines and not lines[-1].endswith((b"\n", b"\r")) else b""
        if lines and self._line:
            lines[0] = bytes(self._line + lines[0])
            self._line = bytearray()
        self._line += incomplete
        self._check_size()
        return [line.rstrip(b"\r\n") for line in lines]

    def _check_size(self) -> None:
        if len(self._line) + len(self._data) > self._longest:
            raise TooLong

    def _event(self, line: bytes) -> Event | None:
        """Process a line. Returns the event that it completes."""
        if self._first:
            self._first, line = False, line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            return self._ended()
        name, _, value = line.partition(b":")
        self._field(name, value.removeprefix(b" "))
        return None

    def _ended(self) -> Event | None:
        event, self._next = self._next, Event(id=self._next.id)
        if self._data:
            event.data = bytes(memoryview(self._data)[:-1])
            self._data = bytearray()
        has_fields, self._fields = self._fields, False
        return event if has_fields else None

    def _field(self, name: bytes, value: bytes) -> None:
        match name:
            case b"data":
                self._data += value
                self._data += b"\n"
                self._check_size()
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
