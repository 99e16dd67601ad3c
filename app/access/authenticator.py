"""The authenticator finds the grant of a token. Both endpoints ask the same one.

token ──▶ cached? ──▶ in the token file? ──▶ signed with one of the keys? ──▶ Grant
                                                          └── no ──▶ attempts.failed(), Unauthorised

A failure is counted only after the token was found to be invalid. That costs a hash, and a signature for each key that
may have signed it, about 0.1 ms. So invalid tokens never lock out a valid one.
"""

import logging
import re
import time
from asyncio import get_running_loop, sleep
from collections.abc import Callable, Collection, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from enum import Enum, auto
from functools import partial
from hmac import compare_digest
from typing import Final, NamedTuple, NoReturn, Protocol

from ..errors import TokensUnreadable, Unauthorised
from ..net.sockets import is_loopback
from .grant import ANONYMOUS, UNAUTHENTICATED, Grant, Right
from .grant_cache import GrantCache
from .sessions import AuthSession, Sessions
from .tickets import (
    PresentedTicket,
    Ticket,
    TicketClaims,
    TicketLog,
    Tickets,
    parse_ticket,
    signed_grant,
    ticket_refused,
)
from .token_watch import TokenFileWatch
from .tokens import Entry, TokenFile

MAX_TOKEN: Final = 4_000  # bytes: it must fit into a cookie
_LOG: Final = logging.getLogger(__name__)
SCHEME: Final = b"Bearer "

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, section 2.1


class AnonymousAccess(Enum):
    """Which clients need no token."""

    UNAUTHENTICATED = auto()
    LOOPBACK = auto()  # clients that connect to a loopback address
    HERE = auto()  # all: the server can only be reached from this machine
    ANONYMOUS = auto()


_LOOPBACK: Final = AnonymousAccess.LOOPBACK  # looking up an enum's member is slow


class LoginThrottle(Protocol):
    """Counts failed log-ins by the address they come from."""

    def failed(self, address: str) -> None:
        """Count an invalid token or ticket from this address. Raises RateLimited when there are too many."""


class NoThrottle:
    """No limit."""

    def failed(self, address: str) -> None:
        pass


class JwtKeys(Protocol):
    """The keys that may sign tokens."""

    @property
    def origins(self) -> Collection[bytes]:
        """The `origin` of the grants of each key."""
        ...

    def verify(self, token: str, now: float) -> Grant:
        """Raises Unauthorised."""


class Redeemed(NamedTuple):
    """The grant behind a ticket, and the pass with which its client can come back to the stream. `ticket`: what the
    stream will spend; None if the client has come back with the pass."""

    grant: Grant
    stream_pass: str
    ticket: TicketClaims | None


class Authenticator:
    """`file` is read at once. `clock`: the time of day in Unix seconds, by which tokens expire. `stale["tokens"]` is
    set to 1 while the file is not in force as it is. Raises FileInvalid."""

    def __init__(
        self,
        anonymous_access: AnonymousAccess = AnonymousAccess.UNAUTHENTICATED,
        file: TokenFile | None = None,
        keys: JwtKeys | None = None,
        clock: Callable[[], float] = time.time,
        *,
        tickets: Tickets | None = None,
        stale: MutableMapping[str, int] | None = None,
    ) -> None:
        self.open = anonymous_access in {AnonymousAccess.ANONYMOUS, AnonymousAccess.HERE}
        self.refuses_forwarded = anonymous_access in {
            AnonymousAccess.LOOPBACK,
            AnonymousAccess.HERE,
        }  # a forwarded request comes from elsewhere
        self._warned = False
        self.attempts: LoginThrottle = NoThrottle()
        self.clock = clock
        self.file = file
        self._anonymous_access = anonymous_access
        self._keys = keys
        self._tickets = tickets or Tickets()
        self._cache = GrantCache()
        self._sessions = Sessions(self.check_file)
        self._watch = TokenFileWatch(file, clock(), stale, self._on_file_read)
        self._require_token_for_good()

    @property
    def requires_token(self) -> bool:
        """True if every client needs a token."""
        return self._anonymous_access is AnonymousAccess.UNAUTHENTICATED

    @property
    def locked_out(self) -> bool:
        """True if tokens are required and there is none: no client can get in."""
        return self.requires_token and not self.file and self._keys is None

    @property
    def tokens_unreadable(self) -> bool:
        """True if valid tokens may be refused because their file cannot be read."""
        self._watch.check_if_due(self.clock())
        return self.requires_token and self.file is not None and self.file.unreadable

    @property
    def tokens(self) -> str | None:
        """Which tokens are valid, in words; None without a file (`--auth none`)."""
        if not self.requires_token:
            return None if self.file is None else f"none in {self.file.path}: no token is required"
        kinds = [] if self.file is None else [self.file.summary]
        if self._keys is not None:
            kinds.append(f"those that are signed with one of {len(self._keys.origins)} keys")
        return ", and ".join(kinds)

    def check_file(self) -> None:
        """Check the file now."""
        self._watch.check(self.clock(), retry=True)

    async def newest_file(self) -> TokenFile | None:
        """The file as it is now, read as a whole; None if the server has none. Raises TokensUnreadable."""
        self.check_file()
        while self.file is not None and self.file.reading:  # noqa: ASYNC110  # a callback of the loop reads on
            await sleep(0)
        if self.file is not None and self.file.error is not None:
            raise TokensUnreadable(str(self.file.error))
        return self.file

    @property
    def has_keys(self) -> bool:
        """True if there can be signed tokens, which are in no file."""
        return self._keys is not None

    def remove_unstored(self, name: str) -> None:
        """No longer accept tokens of this name that are in no file."""
        if self.file is not None:
            self._watch.apply(self.file, partial(self.file.remove_unstored, name))

    def add_unstored(self, entry: Entry) -> None:
        """Accept a token that is in no file."""
        assert self.file is not None
        self.file.add_unstored(entry)

    def replace_keys(self, keys: JwtKeys) -> None:
        """Use these keys from now on, and revoke the grants of keys that are gone."""
        self._keys = keys
        grants = self._sessions.grants | self._cache.grants
        self._revoke({grant for grant in grants if not grant.stored and grant.origin not in keys.origins})

    def is_anonymous_allowed(self, host: str | None) -> bool:
        """True if clients that connect to this address of the server (None: unknown) need no token."""
        if self._anonymous_access is _LOOPBACK:
            self._watch.check(self.clock())
        if self._anonymous_access is _LOOPBACK:
            return host is not None and is_loopback(host)
        return self.open

    def refuse_forwarded(self, header: str) -> NoReturn:
        """Refuse a request that a proxy forwarded, as its header shows: the server would treat it as local. Raises
        Unauthorised."""
        if not self._warned:
            self._warned = True
            _LOG.warning("a proxy passes requests on to this server, which has no token to ask for: they are refused")
        raise Unauthorised(
            f"a proxy has passed this on ({header}), and this server has no token to ask for: make one with `plainmq "
            f"token` and name the proxy with --trusted-proxies, or serve anybody with --auth none"
        )

    def authenticate(self, token: str, address: str) -> Grant:
        """The grant of a token. `address`: the client's. Raises Unauthorised, and RateLimited from `attempts`."""
        known = self._cached(token)
        if known is not None:
            return known
        try:
            grant = self._verify(token)
        except Unauthorised:
            self.attempts.failed(address)
            raise
        self._cache.by_token.add(token, grant)
        return grant

    def cached_grant(self, header: bytes | None, right: Right, names: Iterable[str]) -> Grant | None:
        """The grant of an `Authorization` header, if it is cached and has the right to all of these topics and
        patterns; else None. It costs one or two look-ups and no cryptography."""
        if self.open:
            return ANONYMOUS
        if header is None:
            return None
        now, watch = self.clock(), self._watch
        if not watch.since <= now < watch.until:  # check_if_due() without its call
            watch.check(now, retry=True)
        grant = self._cache.by_header.grants.get(header)
        if grant is None or (grant.expires is not None and grant.expires <= now):
            grant = self._from_header(header)
        return grant if grant is not None and grant.allows_all(right, names) else None

    def is_current(self, header: bytes | None, grant: Grant) -> bool:
        """True if cached_grant() would return this very grant again for what it was returned for: a grant never
        changes, so it still has the right. A false answer says nothing: the header may have left the cache."""
        if self.open:
            return grant is ANONYMOUS
        now, watch = self.clock(), self._watch
        if not watch.since <= now < watch.until:  # check_if_due() without its call
            watch.check(now, retry=True)
        cached = header is not None and self._cache.by_header.grants.get(header) is grant
        return cached and (grant.expires is None or grant.expires > now)

    def _from_header(self, header: bytes) -> Grant | None:
        """The grant of a header that is seen for the first time: whole headers are cached too."""
        self._cache.by_header.discard(header)
        grant = self._cached(header[len(SCHEME) :].decode("latin-1")) if header.startswith(SCHEME) else None
        if grant is not None:
            self._cache.by_header.add(header, grant)
        return grant

    def share_tickets(self, log: TicketLog) -> None:
        """As Tickets.share()."""
        self._tickets.share(log)

    def make_ticket(self, grant: Grant) -> Ticket:
        return self._tickets.make(grant, self.clock())

    def redeem_ticket(self, ticket: str, stream: str, stream_pass: str, address: str) -> Redeemed:
        """The grant behind a ticket that may open the stream: an unspent one, or one with its pass (empty: none).
        Raises Unauthorised, and RateLimited from `attempts`."""
        try:
            return self._redeem(parse_ticket(ticket), stream, stream_pass)
        except Unauthorised:
            self.attempts.failed(address)
            raise

    def _redeem(self, ticket: PresentedTicket, stream: str, stream_pass: str) -> Redeemed:
        self._watch.check(self.clock())
        grant = self._tickets.grant_of(ticket, self._possible_grants(ticket))
        if grant is None:
            raise ticket_refused()
        good = self._tickets.pass_for(grant, stream)
        comes_back = compare_digest(stream_pass.encode(), good.encode())
        if not comes_back and not self._tickets.is_unspent(ticket.claims):
            raise ticket_refused()
        return Redeemed(self._unexpired(grant), good, None if comes_back else ticket.claims)

    @contextmanager
    def spending(self, ticket: TicketClaims | None, session: AuthSession) -> Iterator[None]:
        """Spend the ticket for a stream that begins within the block. It stays unspent if the block raises. Raises
        Unauthorised if another stream has spent it meanwhile."""
        if ticket is not None:
            self._tickets.spend(ticket, session)
        try:
            yield
        except BaseException:
            self.unregister(session, lost=True)
            raise

    def _possible_grants(self, ticket: PresentedTicket) -> Iterator[Grant]:
        claims = ticket.claims
        if claims.rights is None:
            yield from self.file.named(claims.name) if self.file is not None else ()
        elif self._keys is not None:
            yield from filter(None, (signed_grant(claims, origin) for origin in self._keys.origins))

    def register(self, session: AuthSession, grant: Grant) -> None:
        """Call session.revoke() if the token is removed, until unregister(). Expiry is the session's own task."""
        if grant is ANONYMOUS or grant is UNAUTHENTICATED:
            return
        if self._is_revoked(grant):
            get_running_loop().call_soon(session.revoke)  # it was removed since it was authenticated
            return
        self._sessions.add(session, grant)

    def _is_revoked(self, grant: Grant) -> bool:
        if grant.stored:
            return self.file is not None and grant not in self.file.grants
        return self._keys is not None and grant.origin not in self._keys.origins

    def unregister(self, session: AuthSession, *, lost: bool = False) -> None:
        """Idempotent. `lost`: the session was not ended by the server."""
        self._sessions.discard(session)
        self._tickets.ended(session, lost=lost)

    def seconds_left(self, grant: Grant) -> float | None:
        """Seconds until the grant expires; None if it does not."""
        return None if grant.expires is None else max(grant.expires - self.clock(), 0.0)

    def _cached(self, token: str) -> Grant | None:
        now = self.clock()
        self._watch.check_if_due(now)
        return self._cache.of_token(token, now)

    def _verify(self, token: str) -> Grant:
        if len(token) > MAX_TOKEN or not _TOKEN.fullmatch(token):
            raise Unauthorised(f"a token is 1 to {MAX_TOKEN} letters, digits and -._~+/, with = at the end at most")
        now = self.clock()
        self._watch.check(now)  # the token may have been made a moment ago
        if self.file is not None and (grant := self.file.find(token)) is not None:
            return self._unexpired(grant)
        if self._keys is None or token.count(".") != 2:
            raise Unauthorised("the token is not one of this server's")
        return self._keys.verify(token, now)

    def _unexpired(self, grant: Grant) -> Grant:
        if grant.expires is not None and grant.expires <= self.clock():
            raise Unauthorised("the token has expired")
        return grant

    def _on_file_read(self, gone: Collection[Grant]) -> None:
        if gone:
            self._revoke(gone)
        self._require_token_for_good()

    def _require_token_for_good(self) -> None:
        """Once there was a token, require one: removing the last token must not open the server."""
        if (
            self._anonymous_access is AnonymousAccess.LOOPBACK
            and self.file is not None
            and (self.file or self.file.error or self.file.reading)
        ):
            self._anonymous_access = AnonymousAccess.UNAUTHENTICATED

    def _revoke(self, gone: Collection[Grant]) -> None:
        self._cache.remove(gone)
        for session in self._sessions.of(gone):
            self.unregister(session)
            session.revoke()
