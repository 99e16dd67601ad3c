"""Fixtures: a line port in this process. Each test runs twice: with a retention of 1,000 messages and of 2."""

from collections.abc import AsyncIterator

import pytest

from tests.tcp.peer import Peer, Port, keeping, serving


@pytest.fixture(params=[1_000, 2], ids=["keeps_1000", "keeps_2"])
def keeps(request: pytest.FixtureRequest) -> int:
    """The number of messages that a topic retains."""
    count: int = request.param
    return count


@pytest.fixture
async def port(keeps: int) -> AsyncIterator[Port]:
    async with serving(keeping(keeps)) as port:
        yield port


@pytest.fixture
async def peer(port: Port) -> AsyncIterator[Peer]:
    async with port.connect() as peer:
        yield peer


@pytest.fixture
async def other(port: Port) -> AsyncIterator[Peer]:
    async with port.connect() as peer:
        yield peer
