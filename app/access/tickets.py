"""Tickets: an EventSource cannot send a header, so it presents a ticket instead of a token. A ticket is part of a URL,
which logs and histories keep: so by itself it opens one stream, within a short time. A stream that is lost right after
its begin may never have reached its client, who then has no pass: so its ticket may open another one.

EventSource reconnects by itself to the same URL, with its last event id in a header that logs do not keep. So the ids
of a stream that was opened with a ticket end in a pass: `k3f9a2xq-42~Vb1x...`. The ticket and the pass together open
that stream again, and no other, as long as the token is valid. One of them alone opens nothing.

    ticket = its claims, signed with the server's key and the token's Grant.origin
    pass   = the same signature of the stream's address

The server remembers only which tickets are spent, in memory and for as long as they would be valid. So a ticket opens a
new stream only at the server that made it, and not after a restart. With its pass it is accepted by any server that has
the key and the tokens.

Servers that share a log tell each other through it which tickets are spent, and their tickets go by its clock: so a
ticket of one opens one stream at any. They do not ask before, since streams are opened while the journal is away, too:
two requests that reach two servers in the same moment may both be answered.
"""

import hmac
import logging
from base64 import b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Iterable
from hashlib import sha256
from itertools import islice, takewhile
from pathlib import Path
from secrets import randbits, token_bytes
from time import monotonic
from typing import Final, Protocol

import msgspec

from ..errors import PlainmqError, Unauthorised
from .claims import Rights
from .grant import MAX_PATTERNS, Grant
from .private_files import FileInvalid, read_private, write_private
from .spent_tickets import LIFETIME, MAX_SPENT, SpentTickets

ARRIVED: Final = 2.0  # seconds that a stream has been open when its client surely has its first id, through any proxy
KEY_BYTES: Final = 32  # bytes

_LOG: Final = logging.getLogger(__name__)
_MAC: Final = 16  # bytes of a ticket's signature
_PASS: Final = 12  # bytes, 16 letters: every id of the stream has them
_encode: Final = msgspec.msgpack.Encoder().encode


class Ticket(msgspec.Struct, frozen=True):
    """`expires` is in Unix seconds."""

    ticket: str
    expires: float


class TicketClaims(msgspec.Struct, frozen=True, array_like=True):
    """What is signed in a ticket. `epoch`: a random number of the server's current life; `expires` is in seconds since
    it began. `rights` and `until` are those of a signed token; those of a stored token are looked up."""

    number: int
    expires: float
    name: str
    rights: Rights | None = None
    until: float | None = None
    epoch: int = 0


class PresentedTicket(msgspec.Struct, frozen=True):
    """A ticket as a client presents it: its claims, and the signed bytes."""

    claims: TicketClaims
    body: bytes
    mac: bytes


class TicketLog(Protocol):
    """A log that servers share, as their tickets see it."""

    on_ticket: Callable[[int, bool], None]
    """Called with the number of a ticket that was spent at another server, or that is unspent again (False)."""

    @property
    def origin(self) -> str:
        """A name that no other log has."""
        ...

    def now(self) -> float:
        """Seconds, about the same at all servers. It goes on while the journal is away."""
        ...

    def tell_ticket(self, number: int, spent: bool) -> None:
        """Tell the other servers."""


class Tickets:
    """`path`: of the key, which is made when it is needed. If it cannot be stored, passes end with this process.
    `clock`: monotonic, in seconds."""

    def __init__(self, path: Path | None = None, clock: Callable[[], float] = monotonic) -> None:
        self._path = path
        self._loaded_key: bytes | None = None
        self._clock = clock
        self._log: TicketLog | None = None
        self._new_epoch()

    def share(self, log: TicketLog) -> None:
        """Share tickets with the other servers of the log. To be called before there are any."""
        self._log, self._clock = log, log.now
        log.on_ticket = self._on_told
        self._new_epoch()

    def _new_epoch(self) -> None:
        """Begin an epoch. Which tickets of earlier epochs are spent is unknown, so they open no new stream. Servers
        that share a log share one epoch, and each knows the tickets that are made from now on."""
        now = self._clock()
        self._own_epoch = randbits(63)
        self._epoch_start = 0.0 if self._log else now
        self._unknown = now - self._epoch_start + LIFETIME  # so long a ticket lives that was made before
        self._spent, self._spent_elsewhere = SpentTickets(now), SpentTickets(now)
        self._young: dict[object, tuple[int, float]] = {}  # streams that may not have arrived: number, and when opened

    @property
    def _epoch(self) -> int:
        if self._log is None:
            return self._own_epoch
        return int.from_bytes(sha256(self._log.origin.encode()).digest()[:8]) >> 1

    def make(self, grant: Grant, now: float) -> Ticket:
        """`now`: the time of day in Unix seconds."""
        signed = not grant.stored
        claims = TicketClaims(
            randbits(63),
            self._clock() - self._epoch_start + LIFETIME,
            grant.name,
            _rights_of(grant) if signed else None,
            grant.expires if signed else None,
            self._epoch,
        )
        body = _encode(claims)
        return Ticket(_base64(body + self._mac(grant.origin, body)[:_MAC]), now + LIFETIME)

    def grant_of(self, ticket: PresentedTicket, grants: Iterable[Grant]) -> Grant | None:
        """The grant among these that the ticket was made for."""
        return next((grant for grant in grants if self._is_signed_for(ticket, grant)), None)

    def _is_signed_for(self, ticket: PresentedTicket, grant: Grant) -> bool:
        return hmac.compare_digest(self._mac(grant.origin, ticket.body)[:_MAC], ticket.mac)

    def is_unspent(self, claims: TicketClaims) -> bool:
        """True if the ticket can open a new stream."""
        now = self._clock()
        is_known = claims.epoch == self._epoch and (self._log is None or claims.expires > self._unknown)
        in_time = now < self._epoch_start + claims.expires
        return is_known and in_time and not any(spent.has(claims.number, now) for spent in self._all_spent)

    @property
    def _all_spent(self) -> tuple[SpentTickets, SpentTickets]:
        return self._spent, self._spent_elsewhere

    def spend(self, claims: TicketClaims, stream: object) -> None:
        """Mark the ticket as spent, for this stream. Raises Unauthorised if it cannot open a new stream."""
        if not self.is_unspent(claims):
            raise ticket_refused()
        now = self._clock()
        for old in [*takewhile(lambda stream: now >= self._young[stream][1] + ARRIVED, self._young)]:
            del self._young[old]
        self._young[stream] = claims.number, now
        self._spent.add(claims.number, now)
        self._tell(claims.number, True)
        self._check_room()

    def _on_told(self, number: int, spent: bool) -> None:
        if spent:
            self._spent_elsewhere.add(number, self._clock())
            self._check_room()
        else:
            self._spent_elsewhere.discard(number)

    def _tell(self, number: int, spent: bool) -> None:
        if self._log is not None:
            self._log.tell_ticket(number, spent)

    def _check_room(self) -> None:
        if sum(map(len, self._all_spent)) >= MAX_SPENT:
            self._new_epoch()

    def ended(self, stream: object, *, lost: bool) -> None:
        """The ticket of a stream that was lost before it arrived is unspent again."""
        young = self._young.pop(stream, None)  # usually None: few streams have a ticket
        if young is None or not lost:
            return
        number, opened = young
        if (now := self._clock()) < opened + ARRIVED:
            self._spent.discard(number)
            if not self._spent_elsewhere.has(number, now):
                self._tell(number, False)

    def pass_for(self, grant: Grant, address: str) -> str:
        """The pass to the stream at this address: the same for all clients of one token."""
        return _base64(self._mac(grant.origin, f"pass\0{grant.name}\0{address}".encode())[:_PASS])

    def _mac(self, origin: bytes, data: bytes) -> bytes:
        return hmac.digest(self._key, origin + b"\0" + data, "sha256")

    @property
    def _key(self) -> bytes:
        if self._loaded_key is None:
            self._loaded_key = token_bytes(KEY_BYTES) if self._path is None else self._load_key(self._path)
        return self._loaded_key

    def _load_key(self, path: Path) -> bytes:
        try:
            return _read_key(path) if path.exists() else _make_key(path)
        except (FileInvalid, OSError) as error:
            _LOG.warning("the key of tickets is not kept, so they end with this server: %s", error)
            return token_bytes(KEY_BYTES)


def _rights_of(grant: Grant) -> Rights:
    """The rights that open streams. In a ticket the rights to view and to admin are one."""
    view = dict.fromkeys((*grant.view.names, *grant.admin.names))
    return Rights(
        subscribe=[*grant.subscribe.names], consume=[*grant.consume.names], view=[*islice(view, MAX_PATTERNS)]
    )


def parse_ticket(text: str) -> PresentedTicket:
    """Raises Unauthorised."""
    try:
        data = b64decode(text.encode() + b"=" * (-len(text) % 4), b"-_", validate=True)
        claims = msgspec.msgpack.decode(data[:-_MAC], type=TicketClaims)
    except (NotBase64, ValueError, msgspec.DecodeError, RecursionError):
        raise ticket_refused() from None
    return PresentedTicket(claims, data[:-_MAC], data[-_MAC:])


def ticket_refused() -> Unauthorised:
    return Unauthorised(
        f"the ticket is not valid: a ticket opens one stream, within {LIFETIME:.0f} seconds and before the server "
        f"restarts, and reopens it with its last id; ask the server for another one (POST /tickets)"
    )


def signed_grant(claims: TicketClaims, origin: bytes) -> Grant | None:
    """The grant of a signed token's ticket, if the key of `origin` signed that token."""
    if claims.rights is None:
        return None
    try:
        return msgspec.structs.replace(claims.rights.grant(claims.name, claims.until), origin=origin)
    except PlainmqError:
        return None


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _read_key(path: Path) -> bytes:
    key = read_private(path)
    if len(key) != KEY_BYTES:
        raise FileInvalid(
            f"{path} has {len(key)} bytes: expected {KEY_BYTES} random ones; delete it, and it is made anew"
        )
    return key


def _make_key(path: Path) -> bytes:
    """Two servers that make it at the same time get the same key."""
    write_private(path, token_bytes(KEY_BYTES), replace=False)
    return _read_key(path)
