"""What has happened since the start, as plain numbers: who counts pays for an addition and for nothing else."""

from collections import Counter


class Counters:
    __slots__ = ("answers", "connections", "delivered", "delivered_bytes", "evicted", "gaps", "refusals", "stale")

    def __init__(self) -> None:
        self.answers: Counter[int] = Counter()  # HTTP requests, by the status of their answer
        self.connections = {"line": 0}  # open now, by door; those of HTTP only under our own protocol
        self.delivered = 0  # messages written to subscribers or handed to workers, each time
        self.delivered_bytes = 0  # what that took, as it was written
        self.evicted = 0  # subscriptions that were cut off: their sockets took nothing
        self.gaps = 0  # readers that were told of a loss
        self.refusals: Counter[str] = Counter()  # by the error's code
        self.stale: dict[str, int] = {}  # by kind of file: 1 while its newest state is not in force

    def deliver(self, messages: int, nbytes: int) -> None:
        self.delivered += messages
        self.delivered_bytes += nbytes
