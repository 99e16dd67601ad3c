"""Questions that one worker asks all: the answers of all are merged into one."""

import asyncio
from collections.abc import Hashable, Iterable, Mapping
from typing import Final, Protocol

import msgspec

from ...broker.audience import AudiencePage, AudienceQuery, merged_page
from ...broker.siblings import Question
from .activity import MergedActivity
from .messages import Ask
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

    def tell(self, question: Question, about: bytes) -> "asyncio.Future[bytes]": ...


class Exchange:
    def __init__(self) -> None:
        self._mergers: Mapping[Question, Merger] = {"activity": MergedActivity(), "metrics": MergedMetrics()}

    async def merged(self, ask: Ask, asker: Hashable, others: Iterable[Sibling]) -> bytes:
        merger = self._mergers.get(ask.question)
        if merger is None:
            return _one_page(ask, [ask.own, *(await _answers(ask, others)).values()])
        merger.answered(asker, ask.own)
        for worker, answer in (await _answers(ask, others)).items():
            if worker.can_answer:
                merger.answered(worker, answer)
        return merger.merged()

    def ended(self, worker: Hashable) -> None:
        """It answers no more."""
        for merger in self._mergers.values():
            merger.ended(worker)


async def _answers(ask: Ask, others: Iterable[Sibling]) -> dict[Sibling, bytes]:
    """By worker, of those that have answered in time."""
    answers = {other: other.tell(ask.question, ask.about) for other in others}
    if answers:
        await asyncio.wait(answers.values(), timeout=ANSWER_TIMEOUT)
    return {worker: answer.result() for worker, answer in answers.items() if answer.done() and not answer.cancelled()}


def _one_page(ask: Ask, pages: Iterable[bytes]) -> bytes:
    """Of the audience."""
    limit = msgspec.msgpack.decode(ask.about, type=AudienceQuery).limit
    decode = msgspec.msgpack.Decoder(AudiencePage).decode
    return msgspec.msgpack.encode(merged_page([decode(page) for page in pages], limit))
