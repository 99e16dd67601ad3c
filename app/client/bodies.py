"""The body of an answer, read up to a limit."""

from collections.abc import AsyncIterator
from typing import Final

import httpx

from .errors import not_plainmq

MAX_BODY: Final = 128 << 20  # bytes: a page with the longest message, each of whose bytes is escaped in JSON
MAX_REFUSAL: Final = 1 << 20  # bytes: a sentence, or what became of the 1,000 leases of one request
PLAIN: Final = "identity"  # the requested coding: compressed answers could be broken, or expand without limit


async def body_of(answer: httpx.Response, longest: int = MAX_BODY) -> bytearray:
    """The whole body. Raises RequestRefused if it is too long."""
    body = bytearray()  # a list of parts may take many times their length: a part may have one byte
    async for part in plain(answer):
        body += part
        if len(body) > longest:
            raise not_plainmq(f"{_origin(answer)} answers with more than {longest} bytes", answer.status_code)
    return body


def plain(answer: httpx.Response) -> AsyncIterator[bytes]:
    """The parts of the body as they arrive. Raises RequestRefused if they are compressed."""
    coding = answer.headers.get("content-encoding", PLAIN).lower()
    if coding != PLAIN:
        sentence = f"{_origin(answer)} answers in the coding {coding[:40]!a}, which was not asked for"
        raise not_plainmq(sentence, answer.status_code)
    return answer.aiter_raw()


def _origin(answer: httpx.Response) -> str:
    return str(answer.request.url.copy_with(path="/", query=None))
