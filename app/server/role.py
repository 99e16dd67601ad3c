"""What a process is in its server. The server may be this one process, or have several workers."""

from typing import Protocol

from ..broker.broker import Broker
from ..broker.siblings import NoSiblings, Siblings
from ..telemetry.log import LOG_WRITER
from .banner import Started


class Listening(Protocol):
    """A server that accepts connections."""

    broker: Broker

    async def accept_from(self, *places: int) -> None: ...

    def reload(self) -> None: ...

    def stop(self) -> None: ...


class Role:
    """The whole server. `place`: which of its sockets it accepts connections from. `begun`: when the server was
    started, in Unix seconds; None: when this process was."""

    place = 0
    siblings: Siblings = NoSiblings()
    begun: float | None = None

    def announce(self, text: str) -> None:
        """Sentences for the user."""
        LOG_WRITER.show(text)

    def listening(self, _server: Listening, started: Started) -> None:
        started.announce()

    def draining(self) -> None:
        """The server ends."""
