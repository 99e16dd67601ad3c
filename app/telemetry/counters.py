"""Counters of a server since its start. They are plain numbers, so that counting costs one addition."""

from collections import Counter


class Counters:
    __slots__ = (
        "answers", "connections", "delivered", "delivered_bytes", "evicted", "gaps", "missed", "refusals", "stale",
    )  # fmt: skip

    def __init__(self) -> None:
        self.answers: Counter[int] = Counter()  # HTTP requests, by the status of their answer
        self.connections = {"line": 0}  # open now, by endpoint; HTTP's only with our own protocol
        self.delivered = 0  # deliveries: messages written to subscribers or handed to consumers
        self.delivered_bytes = 0  # bytes written for them, as encoded
        self.evicted = 0  # subscribers that were disconnected because they stopped reading
        self.gaps = 0  # gaps reported to subscribers
        self.missed = 0  # messages in these gaps, where the number is known
        self.refusals: Counter[str] = Counter()  # by the error's code
        self.stale: dict[str, int] = {}  # by kind of file: 1 while its newest state is not in force

    def report_gap(self, missed: int | None) -> None:
        """`missed`: the number of messages in the gap; None if it is unknown."""
        self.gaps += 1
        self.missed += missed or 0

    def deliver(self, messages: int, nbytes: int) -> None:
        self.delivered += messages
        self.delivered_bytes += nbytes
