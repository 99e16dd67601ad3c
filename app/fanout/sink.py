"""A door's end of a subscription: where its bytes go."""

from typing import Protocol

from ..net.progress import Progress


class Sink(Protocol):
    """The door calls the subscription's pause(), resume() and close()."""

    def write(self, data: bytes) -> None: ...

    def pending(self) -> int:
        """Bytes that the socket has not taken yet."""
        ...

    def progress(self) -> Progress:
        """How far what was written has come."""
        ...

    def end(self, reason: str) -> None:
        """Close in good order, after what was written; a stream says `reason` in its farewell."""
        ...

    def abort(self) -> None:
        """Cut the connection off, unsent bytes and all."""
        ...
