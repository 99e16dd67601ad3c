"""The check of a state: a number that goes on with each entry, by what the entry has changed and answered.

Nodes that have decided otherwise have different ones, from then on. It costs about a microsecond an entry, so it has
counts of the state in place of the state: what differs is noticed when it first makes a difference.
"""

from collections import deque
from collections.abc import Callable, Sequence
from struct import Struct
from typing import Any, Final
from zlib import crc32

from ...errors import PlainmqError
from ...log.accepted import Accepted, PartialResult
from ...log.groups.redrive import Redriven
from ...log.state import LogStateMachine
from ...messages.lease import Lease
from ...messages.message import Receipt, Scheduled
from ...messages.position import Gap

RECENT: Final = 4_096  # entries: those of other nodes say where they were, which is some entries ago

_COUNTS: Final = Struct("<7q").pack


class StateCheck:
    def __init__(self, value: int = 0, number: int = 0) -> None:
        """`value`: behind the entry with this number."""
        self.value = value
        self.number = number
        self._recent = deque([value], RECENT)

    def add(self, core: LogStateMachine, results: Sequence[Any]) -> None:
        """The next entry was carried out."""
        log, settled = core.log, core.groups.settled
        memory = log.memory
        counts = _COUNTS(
            log.head, memory.cost, memory.unrecorded_cost, len(log.topics), log.scheduled, settled.acked, settled.dead,
        )  # fmt: skip
        value = crc32(counts, self.value)
        for result in results:
            if type(result) is not Accepted:  # which the counts have
                value = crc32(_answer(result), value)
        self.value = value
        self.number += 1
        self._recent.append(self.value)

    @property
    def position(self) -> tuple[int, int]:
        return self.number, self.value

    def agrees(self, position: tuple[int, int]) -> bool | None:
        """Whether another node was there in the same state; None: that is not known any more, or not yet."""
        number, value = position
        ago = self.number - number
        return self._recent[-1 - ago] == value if 0 <= ago < len(self._recent) else None


def _answer(result: Any) -> bytes:
    if isinstance(result, PlainmqError):
        return result.code.encode()
    return _ANSWERS.get(type(result), _nothing)(result)


def _nothing(_result: Any) -> bytes:
    return b""


def _listed(result: Sequence[Any]) -> bytes:
    """Leases, or what became of some."""
    return b",".join(
        [b"%d-%d" % (one.message.seq, one.attempt) if type(one) is Lease else _text(one) for one in result]
    )


def _text(result: Any) -> bytes:
    return str(result).encode()


_ANSWERS: Final[dict[type, Callable[[Any], bytes]]] = {
    PartialResult: lambda result: b",".join(map(_answer, result.outcomes)),
    Receipt: lambda result: f"{result.id} {result.last}".encode(),
    Scheduled: lambda result: result.id.encode(),
    list: _listed,
    int: _text,
    frozenset: lambda result: _text(sorted(result)),
    Redriven: lambda result: _text((result.seqs, result.left)),
    Gap: lambda result: _text((result.reason.value, result.missed, result.resumes_at)),
}
