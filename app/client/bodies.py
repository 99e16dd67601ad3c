"""The bytes of an answer, as many as there may be."""

from collections.abc import AsyncIterator
from typing import Final

import httpx

from .errors import not_plainmq

LONGEST: Final = 128 << 20  # bytes: a page with the longest message, each of its bytes as an escape of JSON
PLAIN: Final = (
    "identity"  # the coding that is asked for: what is not packed cannot be broken, nor be more than it looks
)


async def body_of(answer: httpx.Response, longest: int = LONGEST) -> bytes:
    """All of it. Raises RequestRefused."""
    parts, held = [], 0
    async for part in plain(answer):
        parts.append(part)
        held += len(part)
        if held > longest:
            raise not_plainmq(f"{_origin(answer)} answers with more than {longest} bytes", answer.status_code)
    return b"".join(parts)


def plain(answer: httpx.Response) -> AsyncIterator[bytes]:
    """Its bytes as they come. Raises RequestRefused when they are packed."""
    coding = answer.headers.get("content-encoding", PLAIN).lower()
    if coding != PLAIN:
        said = f"{_origin(answer)} answers in the coding {coding[:40]!a}, which was not asked for"
        raise not_plainmq(said, answer.status_code)
    return answer.aiter_raw()


def _origin(answer: httpx.Response) -> str:
    return str(answer.request.url.copy_with(path="/", query=None))
