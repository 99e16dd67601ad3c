"""Admission: whether the server accepts requests, and how many subscribers and consumers it serves at a time."""

from typing import Final

from ..errors import Draining, SubscriberLimit
from ..telemetry.loop_lag import LoopLag
from .quotas import Quotas, counts_as

HALF: Final = 0.5  # of the slots, or of a second that the loop is late: from here on refused clients stay away longer


class Admission:
    """`slots`: taken by subscribers and consumers, those with many topics take several (app/limits/quotas.py)."""

    def __init__(self, max_slots: int, quotas: Quotas, loop_lag: LoopLag) -> None:
        self.draining = False
        self.slots = 0
        self._max_slots = max_slots
        self._quotas = quotas
        self._loop_lag = loop_lag

    def refuse_when_draining(self) -> None:
        """Raises Draining."""
        if self.draining:
            raise Draining("the server is stopping; try again in a few seconds")

    def check_slots(self, count: int = 1) -> None:
        """Raises Draining, SubscriberLimit."""
        self.refuse_when_draining()
        if self.slots + count > self._max_slots:
            raise SubscriberLimit(
                f"there are {self.slots} subscribers, as many as this server has room for{counts_as(count)}"
            )

    def take_slots(self, client: str | None, count: int = 1) -> None:
        """Take slots for a new subscriber or consumer; release_slots() has to be called when it leaves. Raises
        Draining, SubscriberLimit."""
        self.check_slots(count)
        self._quotas.take_slots(client, count)
        self.slots += count

    def release_slots(self, client: str | None, count: int = 1) -> None:
        self.slots -= count
        self._quotas.release_slots(client, count)

    @property
    def pressure(self) -> float:
        """How long refused clients should stay away, 0 to 1. It rises from 0 when half of the slots are taken (1: all),
        or when the event loop is half a second late (1: a second)."""
        full = max(self.slots / self._max_slots, self._loop_lag.latest)
        return 0.0 if full <= HALF else min((full - HALF) / (1 - HALF), 1.0)
