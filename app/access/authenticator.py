"""The authenticator knows whose a token is. All doors ask the same one, and keep the grant that they are told.

token ──▶ known before? ──▶ a static one? ──▶ signed with one of the keys? ──▶ Grant
                                                                └── no ──▶ attempts.failed(), Unauthorised

Failures are counted only when it is known that a token is not good: to find that out costs a hash, and a signature for
each key it may have been made with, some 0.1 ms. So nobody's bad tokens keep anybody's good one out.
"""

import logging
import re
import time
from asyncio import TimerHandle, get_running_loop
from collections.abc import Callable, Collection, Iterable, Iterator, MutableMapping
from enum import Enum, auto
from functools import partial
from hmac import compare_digest
from typing import Final, NamedTuple, NoReturn, Protocol, TypeVar

from ..errors import Unauthorised
from ..net.sockets import is_loopback
from ..net.trouble import Trouble
from .grant import ANONYMOUS, UNAUTHENTICATED, Grant, Right
from .tickets import Said, Shown, Ticket, Tickets, parse_ticket, signed_grant, spent
from .tokens import Entry, TokenFile

MAX_TOKEN: Final = 4_000  # bytes: one that fits into a cookie
_LOG: Final = logging.getLogger(__name__)
MAX_KNOWN: Final = 4_096  # tokens whose grants are remembered: what is checked at each request costs a look-up
LOOK: Final = 1.0  # seconds from one look at the file of tokens to the next: so soon what was taken out is not good
SCHEME: Final = b"Bearer "
MEANWHILE: Final = "tokens that are not in it as they were are refused, and nothing that is new in it is good"

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, section 2.1


class AnonymousAccess(Enum):
    """Who is let in without a token."""

    UNAUTHENTICATED = auto()
    LOOPBACK = auto()  # who has come to an address that only this machine can reach
    HERE = auto()  # anybody, since only this machine can reach the server
    ANONYMOUS = auto()


class LoginThrottle(Protocol):
    """Counts failed log-ins by the address they come from."""

    def failed(self, address: str) -> None:
        """A token or a ticket from there was not good. Raises when there were too many."""


class NoThrottle:
    """As many as they like."""

    def failed(self, address: str) -> None:
        pass


class JwtKeys(Protocol):
    """Those that tokens may be signed with."""

    @property
    def origins(self) -> Collection[bytes]:
        """Of the grants that these keys give."""
        ...

    def verify(self, token: str, now: float) -> Grant:
        """Raises Unauthorised."""


class AuthSession(Protocol):
    """Who is in by a token, and stays."""

    def revoke(self) -> None:
        """Its token is not good any more."""


class Admitted(NamedTuple):
    """Who shows a ticket, and the pass by which they come back to the stream."""

    grant: Grant
    way_back: str


class Authenticator:
    """`file` is read at once. `clock` is the time of day in Unix seconds: tokens expire by it. `stale` is told whether
    the file is in force as it is. Raises FileInvalid."""

    def __init__(
        self,
        openness: AnonymousAccess = AnonymousAccess.UNAUTHENTICATED,
        file: TokenFile | None = None,
        keys: JwtKeys | None = None,
        clock: Callable[[], float] = time.time,
        *,
        tickets: Tickets | None = None,
        stale: MutableMapping[str, int] | None = None,
    ) -> None:
        self.open = openness in {AnonymousAccess.ANONYMOUS, AnonymousAccess.HERE}
        self.wary = openness in {
            AnonymousAccess.LOOPBACK,
            AnonymousAccess.HERE,
        }  # what a proxy passes on is not from this machine
        self._told = False
        self.attempts: LoginThrottle = NoThrottle()
        self.clock = clock
        self.file = file
        self._openness = openness
        self._keys = keys
        self._tickets = tickets or Tickets()
        self._known: dict[str, Grant] = {}  # by their token
        self._shown: dict[bytes, Grant] = {}  # by the Authorization that shows it
        self._guests: dict[AuthSession, Grant] = {}
        self._watch: TimerHandle | None = None
        self._looked = clock()
        self._reading = False  # in a turn to come
        self._trouble: Trouble | None = None
        if file is not None:
            what = f"the file of tokens, {file.path},"
            self._trouble = Trouble("tokens", what, MEANWHILE, {} if stale is None else stale)
            file.read_whole()
            self._close_for_good()

    @property
    def asks(self) -> bool:
        """Whether who comes needs a token."""
        return self._openness is AnonymousAccess.UNAUTHENTICATED

    @property
    def shut(self) -> bool:
        """There is nobody who could get in."""
        return self.asks and not self.file and self._keys is None

    @property
    def blind(self) -> bool:
        """Tokens are refused that may be good, since their file cannot be read."""
        self._look_if_due(self.clock())
        return self.asks and self.file is not None and self.file.unreadable

    @property
    def tokens(self) -> str | None:
        """Which are good, for a person; None with `--auth none`, where there is no file."""
        if not self.asks:
            return None if self.file is None else f"none in {self.file.path}: nobody is asked for one"
        kinds = [] if self.file is None else [self.file.summary]
        if self._keys is not None:
            kinds.append(f"those that are signed with one of {len(self._keys.origins)} keys")
        return ", and ".join(kinds)

    def look(self) -> None:
        """At the file, at once."""
        self._look(self.clock(), again=True)

    def hold(self, entry: Entry) -> None:
        """A token that is in no file."""
        assert self.file is not None
        self.file.hold(entry)

    def renew(self, keys: JwtKeys) -> None:
        """These in place of those there were. Who came in by one that is gone has to come again."""
        self._keys = keys
        grants = {*self._guests.values(), *self._known.values()}
        self._forget({grant for grant in grants if not grant.stored and grant.origin not in keys.origins})

    def is_anonymous_allowed(self, host: str | None) -> bool:
        """Whether nobody is asked for a token who has come to this address of ours (None: it is not known)."""
        if self._openness is AnonymousAccess.LOOPBACK:
            self._look(self.clock())
        if self._openness is AnonymousAccess.LOOPBACK:
            return host is not None and is_loopback(host)
        return self.open

    def refuse_passed_on(self, header: str) -> NoReturn:
        """A proxy is in front of a server that takes all who reach it for people of this machine, as its header shows.
        Raises Unauthorised."""
        if not self._told:
            self._told = True
            _LOG.warning("a proxy passes requests on to this server, which has no token to ask for: they are refused")
        raise Unauthorised(
            f"a proxy has passed this on ({header}), and this server has no token to ask for: make one with `plainmq "
            f"token` and name the proxy with --trusted-proxies, or serve anybody with --auth none"
        )

    def authenticate(self, token: str, address: str) -> Grant:
        """Whose it is. `address` is where it comes from. Raises Unauthorised, and what `attempts` raises."""
        known = self._live(token)
        if known is not None:
            return known
        try:
            grant = self._verify(token)
        except Unauthorised:
            self.attempts.failed(address)
            raise
        _remember(self._known, token, grant)
        return grant

    def cached_grant(self, shown: bytes | None, right: Right, names: Iterable[str]) -> Grant | None:
        """Whose request it is that shows this `Authorization`, if it has the right to all of these topics and patterns;
        None when that has to be found out, or is refused. It costs a look-up or two, and no cryptography."""
        if self.open:
            return ANONYMOUS
        if shown is None:
            return None
        now = self.clock()
        self._look_if_due(now)
        grant = self._shown.get(shown)
        if grant is None or (grant.expires is not None and grant.expires <= now):
            grant = self._shown_by(shown)
        return grant if grant is not None and grant.allows_all(right, names) else None

    def _shown_by(self, shown: bytes) -> Grant | None:
        """The same for the first time: whole headers are remembered too, so that the next need not be taken apart."""
        self._shown.pop(shown, None)
        grant = self._live(shown[len(SCHEME) :].decode("latin-1")) if shown.startswith(SCHEME) else None
        if grant is not None:
            _remember(self._shown, shown, grant)
        return grant

    def make_ticket(self, grant: Grant) -> Ticket:
        return self._tickets.make(grant, self.clock())

    def redeem_ticket(self, ticket: str, stream: str, way_back: str, address: str, *, spend: bool = True) -> Admitted:
        """Whose it is, if it opens that stream: for the first time, or again with the pass (empty: there is none).
        `spend`: it is spent then. Raises Unauthorised, and what `attempts` raises."""
        try:
            opens = self._tickets.spend if spend else self._tickets.is_unspent
            return self._opened(parse_ticket(ticket), stream, way_back, opens)
        except Unauthorised:
            self.attempts.failed(address)
            raise

    def _opened(self, shown: Shown, stream: str, way_back: str, opens: Callable[[Said], bool]) -> Admitted:
        self._look(self.clock())
        grant = self._tickets.holder(shown, self._candidates(shown))
        if grant is None:
            raise spent()
        good = self._tickets.way_back(grant, stream)
        comes_back = compare_digest(way_back.encode(), good.encode())
        if not comes_back and not opens(shown.said):
            raise spent()
        return Admitted(self._checked(grant), good)

    def _candidates(self, shown: Shown) -> Iterator[Grant]:
        said = shown.said
        if said.rights is None:
            yield from self.file.named(said.name) if self.file is not None else ()
        elif self._keys is not None:
            yield from filter(None, (signed_grant(said, origin) for origin in self._keys.origins))

    def register(self, guest: AuthSession, grant: Grant) -> None:
        """The guest is told when its token is good no more, until it leaves; of its age it knows itself."""
        if grant is ANONYMOUS or grant is UNAUTHENTICATED:
            return
        if self._is_gone(grant):
            get_running_loop().call_soon(guest.revoke)  # it was taken out on the way here
            return
        self._guests[guest] = grant
        self._watch = self._watch or get_running_loop().call_later(LOOK, self._look_after_guests)

    def _is_gone(self, grant: Grant) -> bool:
        if grant.stored:
            return self.file is not None and grant not in self.file.grants
        return self._keys is not None and grant.origin not in self._keys.origins

    def unregister(self, guest: AuthSession) -> None:
        """Idempotent."""
        self._guests.pop(guest, None)

    def _look_after_guests(self) -> None:
        self._watch = get_running_loop().call_later(LOOK, self._look_after_guests) if self._guests else None
        self._look(self.clock(), again=True)

    def left(self, grant: Grant) -> float | None:
        """Seconds until it expires; None when it does not."""
        return None if grant.expires is None else max(grant.expires - self.clock(), 0.0)

    def _live(self, token: str) -> Grant | None:
        """The grant of a token that is known and still good."""
        now = self.clock()
        self._look_if_due(now)
        grant = self._known.get(token)
        if grant is not None and grant.expires is not None and grant.expires <= now:
            del self._known[token]
            return None
        return grant

    def _verify(self, token: str) -> Grant:
        if len(token) > MAX_TOKEN or not _TOKEN.fullmatch(token):
            raise Unauthorised(f"a token is 1 to {MAX_TOKEN} letters, digits and -._~+/, with = at the end at most")
        now = self.clock()
        self._look(now)  # it may have been made a moment ago
        if self.file is not None and (grant := self.file.find(token)) is not None:
            return self._checked(grant)
        if self._keys is None or token.count(".") != 2:
            raise Unauthorised("the token is not one of this server's")
        return self._keys.verify(token, now)

    def _checked(self, grant: Grant) -> Grant:
        if grant.expires is not None and grant.expires <= self.clock():
            raise Unauthorised("the token has expired")
        return grant

    def _look_if_due(self, now: float) -> None:
        """Also when the time of day has been set back."""
        if not self._looked <= now < self._looked + LOOK:
            self._look(now, again=True)

    def _look(self, now: float, again: bool = False) -> None:
        """Who is known may have been taken out of the file. `again`: also one that could not be taken the last time."""
        file = self.file
        if again:
            self._looked = now
        if file is None or self._trouble is None:
            return
        self._follow(file, partial(file.refresh, again))

    def _go_on(self) -> None:
        """With a long file, while others have their turn."""
        self._reading = False
        if self.file is not None:
            self._follow(self.file, self.file.go_on)

    def _follow(self, file: TokenFile, step: Callable[[], None]) -> None:
        before = file.grants
        step()
        if file.grants is not before:
            self._forget(before - file.grants)
        self._close_for_good()
        if file.reading:
            if not self._reading:
                self._reading = True
                get_running_loop().call_soon(self._go_on)
        elif self._trouble is not None and file.error is not None:
            self._trouble.lasts(file.error)
        elif self._trouble is not None:
            self._trouble.is_over()

    def _close_for_good(self) -> None:
        """From the first token on: who takes out the last one does not mean to open the door."""
        if (
            self._openness is AnonymousAccess.LOOPBACK
            and self.file is not None
            and (self.file or self.file.error or self.file.reading)
        ):
            self._openness = AnonymousAccess.UNAUTHENTICATED

    def _forget(self, gone: Collection[Grant]) -> None:
        self._known = {token: grant for token, grant in self._known.items() if grant not in gone}
        self._shown = {shown: grant for shown, grant in self._shown.items() if grant not in gone}
        for guest in [guest for guest, grant in self._guests.items() if grant in gone]:
            self.unregister(guest)
            guest.revoke()


T = TypeVar("T", str, bytes)


def _remember(known: dict[T, Grant], what: T, grant: Grant) -> None:
    """Forget the oldest when there are too many."""
    if len(known) >= MAX_KNOWN:
        del known[next(iter(known))]
    known[what] = grant
