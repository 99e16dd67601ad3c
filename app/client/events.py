"""A stream of server-sent events, read in bounded memory whatever is sent.

https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
"""

from typing import Final

import msgspec

LONGEST: Final = 128 << 20  # bytes of an event: the longest message, each of its bytes as an escape of JSON
DIGITS: Final = 9  # of a `retry:`: eleven days


class TooLong(Exception):
    """An event has more than LONGEST bytes, and no end yet."""


class Event(msgspec.Struct):
    """`id` is that of the last event that had one; `retry` in milliseconds."""

    event: str = ""
    data: bytes = b""
    id: str = ""
    retry: int | None = None


class EventReader:
    """Bytes in, events out."""

    def __init__(self, longest: int = LONGEST) -> None:
        self._longest = longest
        self._parts: list[bytes] = []  # of the line that is not whole
        self._data: list[bytes] = []  # of the event that is not whole
        self._held = 0  # bytes in both
        self._after_cr = False
        self._first = True
        self._fields = False
        self._next = Event()

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that end in the chunk, also those without data. Raises TooLong."""
        return [event for line in self._lines(chunk) if (event := self._event(line))]

    def _lines(self, chunk: bytes) -> list[bytes]:
        """Those that end in the chunk. A CR may be the half of a line end."""
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")
        self._after_cr = chunk.endswith(b"\r") if chunk else self._after_cr
        lines = chunk.splitlines(keepends=True)
        rest = lines.pop() if lines and not lines[-1].endswith((b"\n", b"\r")) else b""
        if lines and self._parts:
            lines[0] = b"".join([*self._parts, lines[0]])
            self._held -= sum(map(len, self._parts))
            self._parts = []
        if rest:
            self._parts.append(rest)
            self._hold(len(rest))
        return [line.rstrip(b"\r\n") for line in lines]

    def _hold(self, nbytes: int) -> None:
        self._held += nbytes
        if self._held > self._longest:
            raise TooLong

    def _event(self, line: bytes) -> Event | None:
        """The event that the line ends."""
        if self._first:
            self._first, line = False, line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            return self._ended()
        name, _, value = line.partition(b":")
        self._field(name, value.removeprefix(b" "))
        return None

    def _ended(self) -> Event | None:
        event, self._next = self._next, Event(id=self._next.id)
        event.data, self._data = b"\n".join(self._data), []
        self._held = sum(map(len, self._parts))
        there, self._fields = self._fields, False
        return event if there else None

    def _field(self, name: bytes, value: bytes) -> None:
        match name:
            case b"data":
                self._data.append(value)
                self._hold(len(value) + 1)
            case b"event":
                self._next.event = value.decode("utf-8", "replace")
            case b"id" if b"\0" not in value:
                self._next.id = value.decode("utf-8", "replace")
            case b"retry" if value.isdigit() and len(value) <= DIGITS:
                self._next.retry = int(value)
            case _:
                return
        self._fields = True
