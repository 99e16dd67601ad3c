"""The subscriptions of one client of the line port: at most one for each topic or pattern, and one push consumer for
each group of a topic."""

from collections.abc import Collection
from typing import Final

from ..consumers.push import PushConsumer
from ..errors import SubscriberLimit
from ..fanout.subscriber import Subscriber
from .connection import Connection
from .dialects.base import Dialect

MAX_SUBSCRIPTIONS: Final = 1_000  # of one connection, so that a single client cannot take every subscriber's slot

Key = tuple[str, str | None]  # a topic or pattern, and the group, if any


class Subscriptions:
    """The subscriptions of one connection, by key. This object owns them: each is detached when it is removed."""

    __slots__ = ("_by_key",)

    def __init__(self) -> None:
        self._by_key: dict[Key, Subscriber | PushConsumer] = {}

    @property
    def keys(self) -> Collection[Key]:
        return self._by_key.keys()

    def add(self, key: Key, subscription: Subscriber | PushConsumer) -> None:
        """Call make_room() before the subscription is made."""
        self._by_key[key] = subscription

    def make_room(self, key: Key) -> None:
        """A new subscription replaces an earlier one with the same key. Raises SubscriberLimit."""
        self.remove(key)
        if len(self._by_key) >= MAX_SUBSCRIPTIONS:
            raise SubscriberLimit(f"a connection has at most {MAX_SUBSCRIPTIONS} subscriptions")

    def remove(self, key: Key) -> None:
        """End the subscription, if there is one: earlier messages are written first, and leases are returned."""
        if subscription := self._by_key.pop(key, None):
            if isinstance(subscription, Subscriber):
                subscription.cohort.flush()
            subscription.detach()

    def remove_all(self) -> None:
        for key in tuple(self._by_key):
            self.remove(key)

    def detach(self) -> None:
        """The client has disconnected: end all of them, and write nothing."""
        for subscription in self._by_key.values():
            subscription.detach()
        self._by_key.clear()

    def pause(self) -> None:
        for subscription in self._by_key.values():
            subscription.pause()

    def resume(self, connection: Connection) -> None:
        """Resume them until the socket is full again. Those that are resumed go to the end: the others come first next
        time."""
        for key, subscription in tuple(self._by_key.items()):
            if connection.paused:
                break
            self._by_key[key] = self._by_key.pop(key)
            subscription.resume()

    def excuse(self) -> None:
        """The server ends the connection: the attempts that consumers hold do not count as failures."""
        for subscription in self._by_key.values():
            if isinstance(subscription, PushConsumer):
                subscription.excuse()

    def has(self, dialect: Dialect) -> bool:
        """True if a subscription was made in this dialect."""
        encoders = dialect.encoder, dialect.lease_encoder
        return any(_encoder(subscription) in encoders for subscription in self._by_key.values())


def _encoder(subscription: Subscriber | PushConsumer) -> object:
    return subscription.cohort.encoder if isinstance(subscription, Subscriber) else subscription.encoder
