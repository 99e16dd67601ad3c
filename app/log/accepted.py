"""What a publish comes to: it is in the log, or some of its drafts are."""

from collections.abc import Mapping
from typing import ClassVar, Final

import msgspec

from ..errors import Refused
from ..messages.message import Receipt
from .run import Run


class Accepted(msgspec.Struct, frozen=True):
    """A publish that is in the log."""

    runs: list[Run]
    idempotency_key: str | None

    def receipt(self, subscribers: Mapping[int, int]) -> Receipt:
        """`subscribers`: to how many each message was delivered, by seq."""
        run, last = self.runs[0], self.runs[-1].seq
        first = run.first
        most = max([subscribers.get(seq, 0) for seq in range(first, last + 1)]) if subscribers else 0
        id = f"{run.epoch}-{first}"
        last_id = id if first == last else f"{run.epoch}-{last}"
        return Receipt(id, run.envelope.topic, run.index - (run.seq - first), most, last_id, last - first + 1)


class PartialResult(msgspec.Struct, frozen=True):
    """The result of each draft, when drafts that were published together have been refused together."""

    outcomes: list[Accepted | Refused]
    idempotency_key: ClassVar[None] = None

    def receipt(self, subscribers: Mapping[int, int]) -> list[Receipt | Refused]:
        """One result for each draft."""
        return [one.receipt(subscribers) if isinstance(one, Accepted) else one for one in self.outcomes]


DEFERRED: Final = (Accepted, PartialResult)  # their receipts are complete when the messages have been delivered
