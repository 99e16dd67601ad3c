"""One request for work: it takes what is there, or waits for the first that comes."""

from asyncio import Event, timeout

from ..messages.lease import Lease
from ..storage.engine import PAGE_BYTES
from .dispatcher import GroupDispatcher


class PullRequest:
    """Up to `count` messages and about 1 MiB."""

    bound = False  # the answer ends its connection, perhaps, and no lease

    def __init__(self, dispatcher: GroupDispatcher, count: int, lease: float | None, client: str | None = None) -> None:
        self.client = client
        self.leases: list[Lease] = []
        self.lease = lease
        self.reason = ""  # why it was ended
        self._dispatcher = dispatcher
        self._count = count
        self._octets = 0
        self._over = Event()

    async def wait(self, seconds: float) -> None:
        """Until it has what it gets, or the time is over."""
        self.leases = await self._dispatcher.claim(self._count, self.lease)
        if self.leases or not seconds:
            return
        self._dispatcher.wait(self)
        try:
            async with timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            self._over.set()
        await self._dispatcher.answered(self)

    @property
    def capacity(self) -> int:
        return 0 if self._over.is_set() or self._octets >= PAGE_BYTES else self._count - len(self.leases)

    def deliver(self, leases: list[Lease]) -> None:
        self.leases += leases
        self._octets += sum(len(lease.message.data) for lease in leases)
        if not self.capacity:
            self._over.set()

    def exhausted(self) -> None:
        if self.leases:
            self._over.set()

    def end(self, reason: str) -> None:
        self.reason = reason
        self._over.set()
