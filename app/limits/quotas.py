"""Quotas of one client: publishes a second, subscribers at a time, and failed log-ins.

A client is identified by the name of its token, or, if it is anonymous, by its address. The token comes first, since
all clients behind a proxy share an address. Anonymous clients on a loopback address have no quota: they could as well
stop the server.
"""

import time
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from math import ceil
from typing import Final

import msgspec

from ..errors import RateLimited, SubscriberLimit
from .rates import Buckets

MINUTE: Final = 60.0
SLOT_MEMORY: Final = 16 << 10  # bytes that a subscriber's topics and patterns may use for one slot
NETWORK: Final = 64  # bits of an IPv6 address that identify a client: one customer has all addresses of a /64


def slots_for(nbytes: int) -> int:
    """The number of slots of a subscriber whose topics and patterns use so much memory."""
    return max(-(-nbytes // SLOT_MEMORY), 1)


def counts_as(count: int) -> str:
    """The end of an error sentence: why one subscriber took several slots."""
    return f": one with so many topics and patterns counts as {count}" if count > 1 else ""


class QuotaLimits(msgspec.Struct, frozen=True):
    """The limits of one client: publishes a second, publishes in a burst, subscriber slots. 0 is no limit."""

    publish_rate: int = 1_000
    publish_burst: int = 2_000
    subscribers: int = 1_000


def client_of(token: str | None, address: str | None) -> str | None:
    """The client's name in quotas and error sentences; None if it has no limit. `address` is the peer's; a Unix socket
    has none."""
    return _named(token) if token is not None else _anonymous(address)


def holder_name(token: str | None, address: str | None) -> str:
    """Who holds a lease, for people: the name of the token, or else the peer's address; `local` for a Unix socket."""
    return token or address or "local"


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
    """What each client has used of its quotas."""

    def __init__(
        self,
        limits: QuotaLimits = QuotaLimits(),  # noqa: B008
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._publishes = _buckets(limits.publish_rate, limits.publish_burst)
        self._slots: Counter[str] = Counter()

    def count_publishes(self, client: str | None, count: int = 1) -> None:
        """All or none. Raises RateLimited."""
        if client is None or self._publishes is None:
            return
        if wait := self._publishes.take(client, count, self._clock()):
            raise RateLimited(
                f"{client} publishes more than {self._limits.publish_rate} messages a second: "
                f"nothing was stored; try again in {wait:.1f} seconds",
                wait,
            )

    def take_slots(self, client: str | None, count: int = 1) -> None:
        """Take slots for a new subscriber. Raises SubscriberLimit."""
        if client is None:
            return
        taken = self._slots[client]
        if 0 < self._limits.subscribers < taken + count:
            raise SubscriberLimit(f"{client} has {taken} subscribers, as many as one client may have{counts_as(count)}")
        self._slots[client] += count

    def release_slots(self, client: str | None, count: int = 1) -> None:
        if client is not None:
            self._slots[client] -= count
            if not self._slots[client]:
                del self._slots[client]


def _buckets(rate: float, burst: int) -> Buckets | None:
    return Buckets(rate, max(burst, 1)) if rate else None


class FailedLogins:
    """Failed log-ins by address: above `most` in a minute, further failures are refused with a time to wait. Only
    failures count, so that valid clients are not locked out by others at their address."""

    def __init__(self, most: int = 10, clock: Callable[[], float] = time.monotonic) -> None:
        """0 is no limit."""
        self._most = most
        self._clock = clock
        self._buckets = _buckets(most / MINUTE, most)

    def failed(self, address: str) -> None:
        """Count a failure. Raises RateLimited, which replaces the error of the log-in."""
        if self._buckets is not None and (wait := self._buckets.take(_origin(address), 1, self._clock())):
            raise RateLimited(
                f"{_origin(address)} has failed to log in {self._most} times in a minute: "
                f"try again in {ceil(wait)} seconds",
                wait,
            ) from None


def _origin(address: str) -> str:
    """The name of an address; unlike _anonymous, loopback addresses have one too."""
    return _anonymous(address) or f"address {address}"
