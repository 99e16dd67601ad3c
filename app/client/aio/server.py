"""Watching the server."""

from .. import watching
from ..answers.server import Sample, ServerInfo, Stats, SubscriberPage
from ..feed import Feed
from ..wire import given
from .caller import AsyncCaller
from .items import AsyncStream


class AsyncServer(AsyncCaller):
    """Shows what the server does, and who uses it."""

    async def stats(self, *, history: bool = False) -> Stats:
        """What the server does now; with `history`, also what it did in the last minutes."""
        query = {"history": "true"} if history else {}
        return await self._read(Stats, "GET", "stats", params=query)

    def watch_stats(self, *, retry_for: float | None = None) -> AsyncStream[Sample]:
        """Iterate over what the server does, once a second. It reconnects as `subscribe` does."""
        source = watching.samples(self._connection, retry_for)
        return AsyncStream(self._runner, Feed(self._connection, source), None)

    async def check_ready(self) -> None:
        """Raises Unavailable, with the reason, if the server is stopping or cannot store messages."""
        await self._insist("GET", "readyz")

    async def server(self) -> ServerInfo:
        """The server: its version, how full its limits are, and the settings in force."""
        return await self._read(ServerInfo, "GET", "server")

    async def subscribers(
        self, match: str | None = None, *, search: str | None = None, after: int | None = None, limit: int = 100
    ) -> SubscriberPage:
        """Who listens and works at the server: at most `limit` (1,000), in the order in which they came. `match`: those
        that get the messages of a topic, or that listen to topics and patterns which a pattern covers. `search`: those
        with this text in a name, in upper or lower case. Pass the page's `next` as `after` to read on."""
        query = given(match=match, search=search, after=after, limit=limit)
        return await self._read(SubscriberPage, "GET", "subscribers", params=query)
