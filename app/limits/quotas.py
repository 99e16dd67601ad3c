"""How much one client may do, so that it leaves something for the others.

A client is a token, by its name, or an anonymous address: one with a token is known by it, since behind a proxy all
share an address. Who is anonymous on this very machine is not limited: he could as well stop the server.
"""

import time
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

import msgspec

from ..errors import RateLimited, SubscriberLimit
from .rates import Buckets

MINUTE: Final = 60.0
PLACE: Final = 16 << 10  # bytes of memory: what a subscriber's topics and patterns may take for one place
NETWORK: Final = 64  # bits of an IPv6 address that tell customers apart: one has all addresses of such a network


def places(nbytes: int) -> int:
    """As how many a subscriber counts whose topics and patterns take so much memory."""
    return max(-(-nbytes // PLACE), 1)


def counts_as(count: int) -> str:
    """The end of a sentence that says why one more is too many."""
    return f": one with so many topics and patterns counts as {count}" if count > 1 else ""


class Shares(msgspec.Struct, frozen=True):
    """One client's: publishes a second, and how many at once after a pause; places of subscribers at a time. 0 is no
    limit."""

    publish_rate: int = 1_000
    publish_burst: int = 2_000
    subscribers: int = 1_000


def client_of(token: str | None, address: str | None) -> str | None:
    """The client's name in quotas and in sentences. None: it has no limit. `address`: as the socket tells it, or None
    where there is none."""
    return _named(token) if token is not None else _anonymous(address)


@lru_cache(maxsize=4_096)
def _named(token: str) -> str:
    return f"token {token!r}"


@lru_cache(maxsize=4_096)
def _anonymous(address: str | None) -> str | None:
    try:
        ip = ip_address((address or "").partition("%")[0])
    except ValueError:
        return None  # a Unix socket
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_loopback:
        return None
    if isinstance(ip, IPv6Address):
        return f"address {ip_network((ip, NETWORK), strict=False)}"
    return f"address {ip}"


class Quotas:
    """What the clients have of their shares."""

    def __init__(self, shares: Shares = Shares(), clock: Callable[[], float] = time.monotonic) -> None:  # noqa: B008
        self._shares = shares
        self._clock = clock
        self._publishes = _buckets(shares.publish_rate, shares.publish_burst)
        self._seats: Counter[str] = Counter()

    def publish(self, client: str | None, count: int = 1) -> None:
        """It publishes so many messages, all or none. Raises RateLimited."""
        if client is None or self._publishes is None:
            return
        if wait := self._publishes.take(client, count, self._clock()):
            raise RateLimited(
                f"{client} publishes more than {self._shares.publish_rate} messages a second: "
                f"nothing was stored; try again in {wait:.1f} seconds",
                wait,
            )

    def take_seats(self, client: str | None, count: int = 1) -> None:
        """It subscribes, and takes so many places. Raises SubscriberLimit."""
        if client is None:
            return
        taken = self._seats[client]
        if 0 < self._shares.subscribers < taken + count:
            raise SubscriberLimit(f"{client} has {taken} subscribers, as many as one client may have{counts_as(count)}")
        self._seats[client] += count

    def leave_seats(self, client: str | None, count: int = 1) -> None:
        if client is not None:
            self._seats[client] -= count
            if not self._seats[client]:
                del self._seats[client]


def _buckets(rate: float, burst: int) -> Buckets | None:
    return Buckets(rate, max(burst, 1)) if rate else None


class FailedLogins:
    """The authenticator's attempts: so many from one address in a minute, then more are told to wait. Only what was
    found to be not good counts, so who works is not locked out by others at his address."""

    def __init__(self, most: int = 10, clock: Callable[[], float] = time.monotonic) -> None:
        """0 is no limit."""
        self._most = most
        self._clock = clock
        self._buckets = _buckets(most / MINUTE, most)

    def failed(self, address: str) -> None:
        """Raises RateLimited, in place of what went wrong."""
        if self._buckets is not None and (wait := self._buckets.take(_place(address), 1, self._clock())):
            raise RateLimited(
                f"{_place(address)} has failed to log in {self._most} times in a minute: "
                f"try again in {wait:.0f} seconds",
                wait,
            ) from None


def _place(address: str) -> str:
    """Also of this machine."""
    return _anonymous(address) or f"address {address}"
