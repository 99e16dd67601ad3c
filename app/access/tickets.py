"""Tickets: what an EventSource shows in place of a token, since it can send no header. A ticket stands in a URL, where
logs and histories keep it: so by itself it opens one stream, within a short time.

EventSource comes back by itself to the same URL, with the id that it saw last, in a header that no log keeps. So the
ids of a stream that was opened with a ticket have a second half, the pass: `k3f9a2xq-42~Vb1x...`. Ticket and pass
together open that stream again, as long as the token is good, and no other; one of them alone opens nothing.

    ticket = what it says, signed with the server's key and with what the token is known by (Grant.origin)
    pass   = the same signature on the stream's address

So nothing is kept of a ticket but that it is spent, and that for as long as it could be used again, in the memory of
the server that made it. Only there it opens a new stream, and not after a restart, when nobody knows what was spent.
With its pass it comes back to any server that has the key and the tokens.
"""

import hmac
import logging
from base64 import b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Iterable
from pathlib import Path
from secrets import randbits, token_bytes
from time import monotonic
from typing import Final

import msgspec

from ..errors import PlainmqError, Unauthorised
from .claims import Rights
from .grant import Grant
from .private_files import FileInvalid, read_private, write_private

LIFE: Final = 30.0  # seconds
MAX_SPENT: Final = 50_000  # in LIFE: far more streams than a server opens in that time; 80 bytes each
KEY: Final = 32  # bytes

_LOG: Final = logging.getLogger(__name__)
_MAC: Final = 16  # bytes of a ticket's signature
_PASS: Final = 12  # bytes of a pass, 16 letters: they stand in every message of its stream
_encode: Final = msgspec.msgpack.Encoder().encode


class Ticket(msgspec.Struct, frozen=True):
    """`expires` is in Unix seconds."""

    ticket: str
    expires: float


class Said(msgspec.Struct, frozen=True, array_like=True):
    """What a ticket says. `life`: which life of which server it was made in, and `expires` is in seconds since that one
    began. `rights` and `until` are those of a token that is signed; of one of the server's own they are looked up."""

    number: int
    expires: float
    name: str
    rights: Rights | None = None
    until: float | None = None
    life: int = 0


class Shown(msgspec.Struct, frozen=True):
    """A ticket that somebody shows: what it says, and what is signed."""

    said: Said
    body: bytes
    mac: bytes


class Tickets:
    """`path`: of the key, which is made when it is needed. Where it cannot be kept, tickets are good as long as we.
    `clock`: seconds that only go on, whoever sets the time of day."""

    def __init__(self, path: Path | None = None, clock: Callable[[], float] = monotonic) -> None:
        self._path = path
        self._known_key: bytes | None = None
        self._clock = clock
        self._begin()

    def _begin(self) -> None:
        """A life, which knows of no ticket from before whether it is spent, and so opens no new stream for it."""
        self._life = randbits(63)
        self._begun = self._renewed = self._clock()
        self._spent: tuple[set[int], set[int]] = set(), set()  # numbers: newer and older ones

    def make(self, grant: Grant, now: float) -> Ticket:
        """`now`: the time of day in Unix seconds."""
        signed = not grant.stored
        said = Said(
            randbits(63),
            self._clock() - self._begun + LIFE,
            grant.name,
            Rights(subscribe=[*grant.subscribe.names], consume=[*grant.consume.names]) if signed else None,
            grant.expires if signed else None,
            self._life,
        )
        body = _encode(said)
        return Ticket(_text(body + self._mac(grant.origin, body)[:_MAC]), now + LIFE)

    def holder(self, shown: Shown, grants: Iterable[Grant]) -> Grant | None:
        """The one of these that the ticket was made for."""
        return next((grant for grant in grants if self._is_for(shown, grant)), None)

    def _is_for(self, shown: Shown, grant: Grant) -> bool:
        return hmac.compare_digest(self._mac(grant.origin, shown.body)[:_MAC], shown.mac)

    def is_unspent(self, said: Said) -> bool:
        """Whether it opens a new stream."""
        now = self._clock()
        if now >= self._renewed + LIFE:
            self._spent, self._renewed = (set(), self._spent[0]), now
        in_time = said.life == self._life and now < self._begun + said.expires
        return in_time and not any(said.number in numbers for numbers in self._spent)

    def spend(self, said: Said) -> bool:
        """Use it for a new stream, if it is unspent."""
        if not self.is_unspent(said):
            return False
        self._spent[0].add(said.number)
        if len(self._spent[0]) >= MAX_SPENT:
            self._begin()
        return True

    def way_back(self, grant: Grant, address: str) -> str:
        """The pass to the stream at that address: the same for all whom the same token has let in there."""
        return _text(self._mac(grant.origin, f"pass\0{grant.name}\0{address}".encode())[:_PASS])

    def _mac(self, origin: bytes, data: bytes) -> bytes:
        return hmac.digest(self._key, origin + b"\0" + data, "sha256")

    @property
    def _key(self) -> bytes:
        if self._known_key is None:
            self._known_key = token_bytes(KEY) if self._path is None else self._kept(self._path)
        return self._known_key

    def _kept(self, path: Path) -> bytes:
        try:
            return _read_key(path) if path.exists() else _make_key(path)
        except (FileInvalid, OSError) as error:
            _LOG.warning("the key of tickets is not kept, so they end with this server: %s", error)
            return token_bytes(KEY)


def parse_ticket(text: str) -> Shown:
    """Raises Unauthorised."""
    try:
        data = b64decode(text.encode() + b"=" * (-len(text) % 4), b"-_", validate=True)
        said = msgspec.msgpack.decode(data[:-_MAC], type=Said)
    except (NotBase64, ValueError, msgspec.DecodeError, RecursionError):
        raise spent() from None
    return Shown(said, data[:-_MAC], data[-_MAC:])


def spent() -> Unauthorised:
    return Unauthorised(
        f"the ticket is not good: each is for one stream, begun within {LIFE:.0f} seconds and before the server starts "
        f"again, and for coming back to it with its last id; ask the server for another one (POST /tickets)"
    )


def signed_grant(said: Said, origin: bytes) -> Grant | None:
    """What a ticket of a signed token is worth, if it was signed by who made it."""
    if said.rights is None:
        return None
    try:
        return msgspec.structs.replace(said.rights.grant(said.name, said.until), origin=origin)
    except PlainmqError:
        return None


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _read_key(path: Path) -> bytes:
    key = read_private(path)
    if len(key) != KEY:
        raise FileInvalid(f"{path} has {len(key)} bytes: expected {KEY} random ones; delete it, and it is made anew")
    return key


def _make_key(path: Path) -> bytes:
    """Of two servers that make it at once both have the same."""
    write_private(path, token_bytes(KEY), replace=False)
    return _read_key(path)
