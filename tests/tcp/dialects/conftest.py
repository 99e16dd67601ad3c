"""Fixtures: the line port of a server process. Each test that uses a client runs twice, with the default retention and
with a retention of 2 messages, on a topic of its own."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.harness import ServerProcess, start_server
from tests.tcp.peer import Peer, connect

RETENTIONS = {"keeps_1000": [], "keeps_2": ["--max-messages", "2"]}


@pytest.fixture(scope="session", params=RETENTIONS)
def server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """It must stop cleanly, with no warnings or errors in its log."""
    with start_server(*RETENTIONS[request.param]) as process:
        yield process
        assert process.stop() == 0
        assert process.complaints() == []


@pytest.fixture
def keeps(server: ServerProcess) -> int:
    """The number of messages that a topic retains."""
    arguments = server.process.args
    assert isinstance(arguments, list)
    return 2 if "--max-messages" in arguments else 1_000


@pytest.fixture
async def peer(server: ServerProcess) -> AsyncIterator[Peer]:
    async with connect(server.tcp_port) as peer:
        yield peer


@pytest.fixture
async def other(server: ServerProcess) -> AsyncIterator[Peer]:
    async with connect(server.tcp_port) as peer:
        yield peer


async def is_closed(peer: Peer) -> bool:
    """Wait for the close. True if the server sent nothing before."""
    try:
        return await peer.rest() == b""
    except ConnectionError:  # a reset: the server did not read everything
        return True
