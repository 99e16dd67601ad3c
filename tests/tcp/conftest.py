"""The line port with its default retention and with one of two messages: every test that asks for it runs with both."""

from collections.abc import AsyncIterator

import pytest

from tests.tcp.peer import Peer, Port, keeping, serving


@pytest.fixture(params=[1_000, 2], ids=["keeps_1000", "keeps_2"])
def keeps(request: pytest.FixtureRequest) -> int:
    """Messages per topic."""
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
