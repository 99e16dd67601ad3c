"""Names that a server knows, for completion in a shell: it answers soon, or not at all."""

import asyncio
import re
from pathlib import Path
from typing import Final

from .aio.client import AsyncClient
from .errors import ClientError
from .reading import MAX_PAGE

PATIENCE: Final = 1.0  # seconds: somebody has pressed Tab, at a machine that may be busy

_PARENT: Final = re.compile(r".*[./]", re.DOTALL)


def topics(url: str, token: str | None, ca: Path | None, beginning: str) -> list[str]:
    """Topics with this beginning."""
    return _names(url, token, ca, beginning, None)


def groups(url: str, token: str | None, ca: Path | None, topic: str) -> list[str]:
    """The groups of the topic."""
    return _names(url, token, ca, "", topic)


def _names(url: str, token: str | None, ca: Path | None, beginning: str, topic: str | None) -> list[str]:
    try:
        return asyncio.run(_ask(url, token, ca, beginning, topic))
    except (ClientError, TimeoutError, ValueError):
        return []


async def _ask(url: str, token: str | None, ca: Path | None, beginning: str, topic: str | None) -> list[str]:
    async with asyncio.timeout(PATIENCE), AsyncClient(url, token=token, ca=ca, retry_for=0) as client:
        if topic is not None:
            return (await client.topic(topic)).groups
        parent = _PARENT.match(beginning)
        page = await client.topic_page(f"{parent[0]}**" if parent else None, limit=MAX_PAGE)
        return [state.topic for state in page if state.topic.startswith(beginning)]
