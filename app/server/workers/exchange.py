"""Questions that one worker asks all: the answers of all are merged into one."""

import asyncio
from collections.abc import Hashable, Iterable, Mapping
from typing import Final, Protocol

from ...broker.siblings import Question
from .activity import MergedActivity
from .metrics import MergedMetrics

ANSWER_TIMEOUT: Final = 1.0  # seconds; for a worker that takes longer, its last answer counts


class Merger(Protocol):
    """Merges the last answers of workers to one question."""

    def answered(self, worker: Hashable, data: bytes) -> None: ...

    def ended(self, worker: Hashable) -> None: ...

    def merged(self) -> bytes: ...


class Sibling(Hashable, Protocol):
    """A worker that can be asked."""

    @property
    def can_answer(self) -> bool: ...

    def tell(self, question: Question) -> "asyncio.Future[bytes]": ...


class Exchange:
    def __init__(self) -> None:
        self._mergers: Mapping[Question, Merger] = {"activity": MergedActivity(), "metrics": MergedMetrics()}

    async def merged(self, question: Question, asker: Hashable, own: bytes, others: Iterable[Sibling]) -> bytes:
        merger = self._mergers[question]
        merger.answered(asker, own)
        answers = {other: other.tell(question) for other in others}
        if answers:
            await asyncio.wait(answers.values(), timeout=ANSWER_TIMEOUT)
        for worker, answer in answers.items():
            if worker.can_answer and answer.done():
                merger.answered(worker, answer.result())
        return merger.merged()

    def ended(self, worker: Hashable) -> None:
        """It answers no more."""
        for merger in self._mergers.values():
            merger.ended(worker)
