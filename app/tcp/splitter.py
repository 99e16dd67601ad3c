"""Bytes in, lines out, in bounded memory whatever is sent."""


class LineSplitter:
    """Cuts a stream at its LFs. A line longer than `limit` bytes comes once, cut short but still longer than that, as
    soon as it is known to be too long; the rest of it, up to its LF, is dropped."""

    __slots__ = ("_dropping", "_limit", "rest")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.rest = bytearray()  # of the line that is not complete yet: never more than the limit
        self._dropping = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that end in `data`, without their LF."""
        if self._dropping:
            _, found, data = data.partition(b"\n")
            self._dropping = not found
        lines = data.split(b"\n")
        last = lines.pop()
        if lines and self.rest:
            lines[0] = bytes(self.rest + lines[0])
            self.rest.clear()
        self.rest += last
        if len(self.rest) > self._limit:
            lines.append(bytes(self.rest[: self._limit + 1]))
            self.rest.clear()
            self._dropping = True
        return lines

    def end(self) -> list[bytes]:
        """The last line, if the stream ended without an LF."""
        lines = [bytes(self.rest)] if self.rest else []
        self.rest.clear()
        return lines
