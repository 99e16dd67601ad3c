"""What the client may do, and the tokens of the server."""

from typing import Unpack

from ..answers.access import NewToken, Session, Ticket, TokenPage
from ..wire import Duration, TokenRights, duration, given, token_path
from .caller import AsyncCaller


class AsyncAccess(AsyncCaller):
    """Shows what the client may do, and manages tokens."""

    async def session(self) -> Session:
        """Who this client is to the server, and what it may do."""
        return await self._read(Session, "GET", "session")

    async def ticket(self) -> Ticket:
        """Create a ticket for one stream, to give to a browser instead of the token."""
        return await self._read(Ticket, "POST", "tickets")

    async def tokens(self, *, after: str | None = None, limit: int = 100) -> TokenPage:
        """At most `limit` tokens of the server's file (1,000), by name. Pass the page's `next` as `after` to read on.
        Tokens are managed with the right `admin` on `**`."""
        query = given(after=after, limit=limit)
        return await self._read(TokenPage, "GET", "tokens", params=query)

    async def create_token(
        self, name: str, *, expires: Duration | None = None, **rights: Unpack[TokenRights]
    ) -> NewToken:
        """Create a token with these rights, each a list of topics and patterns. Only the answer has the token itself.
        Raises RequestRefused if there is one of this name; also if a repeated request finds it created: revoke it then.

            made = await client.create_token("sensors", publish=["rooms.**"], expires="30d")
        """
        body = given(name=name, expires=None if expires is None else duration(expires), **rights)
        return await self._read(NewToken, "POST", "tokens", json=body)

    async def revoke_token(self, name: str, *, own: bool = False) -> None:
        """Revoke a token: its streams end, and its requests are refused. `own`: also if it is this client's. Raises
        NotFound if there is none; also if a repeated request finds it revoked."""
        await self._insist("DELETE", token_path(name), params={"own": "true"} if own else {})
