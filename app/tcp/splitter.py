"""LineSplitter: bytes in, lines out, in bounded memory."""


class LineSplitter:
    """Cuts a stream at its LFs. A line longer than `limit` bytes is returned as soon as that is known: cut, but still
    longer than the limit. The rest of the line, up to its LF, is dropped."""

    __slots__ = ("_dropping", "_limit", "partial")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.partial = bytearray()  # the line whose LF has not come yet, at most `limit` bytes
        self._dropping = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that end in `data`, without their LF."""
        if self._dropping:
            _, found, data = data.partition(b"\n")
            self._dropping = not found
        lines = data.split(b"\n")
        last = lines.pop()
        if lines and self.partial:
            lines[0] = bytes(self.partial + lines[0])
            self.partial.clear()
        self.partial += last
        if len(self.partial) > self._limit:
            lines.append(bytes(self.partial[: self._limit + 1]))
            self.partial.clear()
            self._dropping = True
        return lines

    def end(self) -> list[bytes]:
        """The last line, if the stream ended without an LF."""
        lines = [bytes(self.partial)] if self.partial else []
        self.partial.clear()
        return lines
