"""The other workers of a server: what it reports is of all of them together."""

from typing import Literal, Protocol

Question = Literal["activity", "audience", "metrics"]


class Siblings(Protocol):
    async def merged(self, question: Question, own: bytes, about: bytes = b"") -> bytes:
        """This worker's answer, merged with those of the others. `about`: what exactly is asked."""


class NoSiblings:
    """Of a server that is one process."""

    async def merged(self, _question: Question, own: bytes, _about: bytes = b"") -> bytes:
        return own
