"""The line port of a server that was started as a user starts it, with its default retention and with one of two
messages: every test that asks for a peer runs with both, on a topic of its own."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.harness import ServerProcess, start_server
from tests.tcp.peer import Peer, connect

RETENTIONS = {"keeps_1000": [], "keeps_2": ["--max-messages", "2"]}


@pytest.fixture(scope="session", params=RETENTIONS)
def server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """At its end it must stop in good order and must have had nothing to complain of."""
    with start_server(*RETENTIONS[request.param]) as process:
        yield process
        assert process.stop() == 0
        assert process.complaints() == []


@pytest.fixture
def keeps(server: ServerProcess) -> int:
    """Messages per topic."""
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


async def is_hung_up(peer: Peer) -> bool:
    """Wait for the end; whether the server closed without a word."""
    try:
        return await peer.rest() == b""
    except ConnectionError:  # a reset: it did not even read all that was sent
        return True
