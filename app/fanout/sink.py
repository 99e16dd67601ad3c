"""A sink: where a subscription's bytes go. Each endpoint has its own."""

from typing import Final, Protocol

from ..net.progress import Progress

BURST: Final = 256 << 10  # bytes of bodies in one write: enough for throughput, short for the others


class Sink(Protocol):
    """The endpoint behind it calls the subscription's pause(), resume() and detach()."""

    def write(self, data: bytes) -> None: ...

    def pending(self) -> int:
        """Bytes that the socket has not accepted yet."""
        ...

    def progress(self) -> Progress:
        """How many of the written bytes the peer has acknowledged."""
        ...

    def end(self, reason: str) -> None:
        """Close after what was written; a stream's last event gives the reason."""
        ...

    def abort(self) -> None:
        """Close the connection at once, and drop unsent bytes."""
        ...
