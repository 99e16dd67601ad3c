"""Group events: what happened in groups that consumers have to learn."""

from typing import Final, Protocol

import msgspec

from ...messages.lease import LeaseId


class GroupObserver(Protocol):
    """Dispatches messages to consumers, and is notified when a group may have some."""

    def ready(self, topic: str, group: str) -> None:
        """The group may have messages to hand out, or it was deleted."""

    def on_lease_over(self, topic: str, group: str, lease: LeaseId) -> None:
        """The lease is over, for whatever reason. Called once for each lease; its id always has the attempt."""


class GroupEvents(msgspec.Struct):
    """`ended`: leases that are over (topic, group, lease). `ready`: groups that may have messages to hand out."""

    ended: list[tuple[str, str, LeaseId]] = msgspec.field(default_factory=list)
    ready: dict[tuple[str, str], None] = msgspec.field(default_factory=dict)

    def notify(self, observer: GroupObserver) -> None:
        for topic, group, lease in self.ended:
            observer.on_lease_over(topic, group, lease)
        for topic, group in self.ready:
            observer.ready(topic, group)


NO_EVENTS: Final = GroupEvents()
