"""The doorkeeper knows whose a token is. All doors ask the same one, and keep the grant that they are told.

token ──▶ known before? ──▶ a static one? ──▶ signed with one of the keys? ──▶ Grant
                                                                └── no ──▶ attempts.failed(), Unauthorised
"""

import logging
import re
import time
from asyncio import TimerHandle, get_running_loop
from collections.abc import Callable, Collection, Iterable
from enum import Enum, auto
from typing import Final, NoReturn, Protocol

from ..errors import Unauthorised
from ..net.sockets import is_loopback
from .files import FileInvalid
from .grant import ANYBODY, NOBODY, Grant, Right
from .tickets import Ticket, Tickets
from .tokens import TokenFile

MAX_TOKEN: Final = 4_000  # bytes: one that fits into a cookie
MAX_KNOWN: Final = 4_096  # tokens whose grants are remembered: what is checked at each request costs a look-up
LOOK: Final = 1.0  # seconds from one look at the file of tokens to the next: so soon what was taken out is not good
SCHEME: Final = b"Bearer "

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, section 2.1
_LOG: Final = logging.getLogger(__name__)


class Openness(Enum):
    """Who is let in without a token."""

    NOBODY = auto()
    LOOPBACK = auto()  # who has come to an address that only this machine can reach
    HERE = auto()  # anybody, since only this machine can reach the server
    ANYBODY = auto()


class Attempts(Protocol):
    """Counts failed log-ins by the address they come from."""

    def check(self, address: str) -> None:
        """Raises when there were too many, before another token is looked at."""

    def failed(self, address: str) -> None:
        """A token or a ticket from there was not good."""


class Uncounted:
    """As many as they like."""

    def check(self, address: str) -> None:
        pass

    def failed(self, address: str) -> None:
        pass


class Keys(Protocol):
    """Those that tokens may be signed with."""

    def verify(self, token: str, now: float) -> Grant:
        """Raises Unauthorised."""


class Guest(Protocol):
    """Who is in by a token, and stays."""

    def dismiss(self) -> None:
        """Its token is not good any more."""


class Doorkeeper:
    """`file` is read at once. `clock` is the time of day in Unix seconds: tokens expire by it. Raises FileInvalid."""

    def __init__(
        self,
        openness: Openness = Openness.NOBODY,
        file: TokenFile | None = None,
        keys: Keys | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.open = openness in {Openness.ANYBODY, Openness.HERE}
        self.wary = openness in {Openness.LOOPBACK, Openness.HERE}  # what a proxy passes on is not from this machine
        self._told = False
        self.attempts: Attempts = Uncounted()
        self.clock = clock
        self._openness = openness
        self._file = file
        self._keys = keys
        self._tickets = Tickets()
        self._known: dict[str, Grant] = {}  # by their token
        self._guests: dict[Guest, Grant] = {}
        self._watch: TimerHandle | None = None
        self._next_look = clock() + LOOK
        if file is not None:
            file.refresh()

    def renew(self, keys: Keys) -> None:
        """These in place of those there were. Who came in by one of them has to come again."""
        self._keys = keys
        self._tickets = Tickets()
        self._forget({grant for grant in self._guests.values() if not grant.stored})

    def is_open_at(self, host: str | None) -> bool:
        """Whether nobody is asked for a token who has come to this address of ours (None: it is not known)."""
        if self._openness is not Openness.LOOPBACK:
            return self.open
        self._look(self.clock())
        return not self._file and host is not None and is_loopback(host)

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

    def admit(self, token: str, address: str) -> Grant:
        """Whose it is. `address` is where it comes from. Raises Unauthorised, and what `attempts` raises."""
        known = self._live(token)
        if known is not None:
            return known
        self.attempts.check(address)
        try:
            grant = self._judge(token)
        except Unauthorised:
            self.attempts.failed(address)
            raise
        if len(self._known) >= MAX_KNOWN:
            del self._known[next(iter(self._known))]  # the oldest
        self._known[token] = grant
        return grant

    def holder(self, shown: bytes | None, right: Right, names: Iterable[str]) -> Grant | None:
        """Whose request it is that shows this `Authorization`, if it has the right to all of these topics and patterns;
        None when that has to be found out, or is refused. It costs a look-up or two, and no cryptography."""
        if self.open:
            return ANYBODY
        if shown is None or not shown.startswith(SCHEME):
            return None
        grant = self._live(shown[len(SCHEME) :].decode("latin-1"))
        return grant if grant is not None and grant.allows_all(right, names) else None

    def make_ticket(self, grant: Grant) -> Ticket:
        """Raises TicketLimit."""
        return self._tickets.make(grant, self.clock())

    def take_ticket(self, ticket: str, address: str) -> Grant:
        """Whose it is. Raises Unauthorised, and what `attempts` raises."""
        self._look(self.clock())
        self.attempts.check(address)
        try:
            return self._checked(self._tickets.take(ticket, self.clock()))
        except Unauthorised:
            self.attempts.failed(address)
            raise

    def enter(self, guest: Guest, grant: Grant) -> None:
        """The guest is told when its token is good no more, until it leaves; of its age it knows itself."""
        if grant is ANYBODY or grant is NOBODY:
            return
        if grant.stored and self._file is not None and grant not in self._file.grants:
            get_running_loop().call_soon(guest.dismiss)  # it was taken out on the way here
            return
        self._guests[guest] = grant
        self._watch = self._watch or get_running_loop().call_later(LOOK, self._look_after_guests)

    def leave(self, guest: Guest) -> None:
        """Idempotent."""
        self._guests.pop(guest, None)

    def _look_after_guests(self) -> None:
        self._look(self.clock())
        self._watch = get_running_loop().call_later(LOOK, self._look_after_guests) if self._guests else None

    def left(self, grant: Grant) -> float | None:
        """Seconds until it expires; None when it does not."""
        return None if grant.expires is None else max(grant.expires - self.clock(), 0.0)

    def _live(self, token: str) -> Grant | None:
        """The grant of a token that is known and still good."""
        now = self.clock()
        if now >= self._next_look:
            self._look(now)
        grant = self._known.get(token)
        if grant is not None and grant.expires is not None and grant.expires <= now:
            del self._known[token]
            return None
        return grant

    def _judge(self, token: str) -> Grant:
        if len(token) > MAX_TOKEN or not _TOKEN.fullmatch(token):
            raise Unauthorised(f"a token is 1 to {MAX_TOKEN} letters, digits and -._~+/, with = at the end at most")
        now = self.clock()
        self._look(now)  # it may have been made a moment ago
        if self._file is not None and (grant := self._file.find(token)) is not None:
            return self._checked(grant)
        if self._keys is None or token.count(".") != 2:
            raise Unauthorised("the token is not one of this server's")
        return self._keys.verify(token, now)

    def _checked(self, grant: Grant) -> Grant:
        if grant.expires is not None and grant.expires <= self.clock():
            raise Unauthorised("the token has expired")
        return grant

    def _look(self, now: float) -> None:
        """Who is known may have been taken out of the file."""
        self._next_look = now + LOOK
        if self._file is None:
            return
        before = self._file.grants
        try:
            if self._file.refresh():
                self._forget(before - self._file.grants)
        except FileInvalid as error:
            _LOG.error("the tokens stay as they were: %s", error)

    def _forget(self, gone: Collection[Grant]) -> None:
        self._known.clear()
        self._tickets.forget(gone)
        for guest in [guest for guest, grant in self._guests.items() if grant in gone]:
            self.leave(guest)
            guest.dismiss()


OPEN: Final = Doorkeeper(Openness.ANYBODY)  # asks nobody
