"""A load: what is done to a server, and the part of it that one process does."""

from collections.abc import Iterator
from typing import NamedTuple

from .speech import Speech


class Load(NamedTuple):
    """Readers join; then messages are published, for `seconds` or until there were `messages`, whichever is first."""

    host: str
    port: int
    speech: Speech
    readers: int = 0
    publishers: int = 0
    messages: int = 0
    seconds: float = 10.0
    at_once: int = 1  # publishes of one connection that have no answer yet
    window: int = 0  # messages on the way to the readers at most; 0 is no bound
    rate: float = 0.0  # publishes a second, answered or not; 0 is as fast as it goes
    connecting: int = 64  # connections that are being made at once
    settle: float = 0.0  # seconds of rest between joining and publishing
    processes: int = 1
    cpus: frozenset[int] = frozenset()  # where the generators may run; empty is anywhere

    def shares(self) -> "Iterator[Share]":
        """It in equal parts; those without a publisher have nothing to publish."""
        publishing = min(self.processes, self.publishers)
        for number in range(self.processes):
            yield Share(
                self,
                number,
                readers=_part(self.readers, number, self.processes),
                publishers=_part(self.publishers, number, self.processes),
                publishes=_part(self.messages // self.speech.messages, number, publishing),
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
