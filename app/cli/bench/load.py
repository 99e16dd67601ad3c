"""A load: what is done to a server, and the part of it that one process does."""

from collections.abc import Iterator
from typing import NamedTuple

from .wire_script import WireScript


class Load(NamedTuple):
    """Readers (subscribers) join. Then messages are published until `messages` or `seconds` is reached."""

    host: str
    port: int
    script: WireScript
    readers: int = 0
    publishers: int = 0
    messages: int = 0
    seconds: float = 10.0
    at_once: int = 1  # publishes of one connection that may wait for their answers
    window: int = 0  # messages published but not delivered yet, at most; 0: no bound
    rate: float = 0.0  # publishes a second, whether answered or not; 0: as fast as possible
    max_connecting: int = 64  # connections that are being established at the same time
    settle: float = 0.0  # seconds between joining and publishing
    processes: int = 1
    cpus: frozenset[int] = frozenset()  # where the generators may run; empty: anywhere
    reader_ports: tuple[int, ...] = ()  # of several servers, which readers join in turn; empty: `port`
    publisher_ports: tuple[int, ...] = ()

    def shares(self) -> "Iterator[Share]":
        """Equal parts, one a process. Processes without a publisher have no messages to publish."""
        publishing = min(self.processes, self.publishers)
        for number in range(self.processes):
            yield Share(
                self,
                number,
                readers=_part(self.readers, number, self.processes),
                publishers=_part(self.publishers, number, self.processes),
                publishes=_part(self.messages // self.script.messages, number, publishing),
                rate=self.rate / publishing if publishing else 0.0,
            )


class Share(NamedTuple):
    load: Load
    number: int
    readers: int
    publishers: int
    publishes: int
    rate: float


def _part(whole: int, number: int, parts: int) -> int:
    return whole // parts + (number < whole % parts) if number < parts else 0
