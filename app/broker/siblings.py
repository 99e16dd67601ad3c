"""The other workers of a server: what it reports is of all of them together."""

from typing import Literal, Protocol

Question = Literal["activity", "metrics"]


class Siblings(Protocol):
    async def merged(self, question: Question, own: bytes) -> bytes:
        """This worker's answer, merged with those of the others."""


class NoSiblings:
    """Of a server that is one process."""

    async def merged(self, _question: Question, own: bytes) -> bytes:
        return own
