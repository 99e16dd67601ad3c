"""One pull request: it takes the messages that are ready, or waits for the first that become so."""

from asyncio import Event, timeout

from ..fanout.presence import arrive
from ..messages.lease import Lease
from ..storage.engine import PAGE_BYTES
from .dispatcher import GroupDispatcher


class PullRequest:
    """Up to `count` messages and about 1 MiB."""

    bound = False  # its leases outlive the connection, which may end with the response

    def __init__(
        self, dispatcher: GroupDispatcher, count: int, lease: float | None, client: str | None = None, holder: str = ""
    ) -> None:
        self.client = client
        self.holder = holder
        self.presence = arrive(holder)
        self.leases: list[Lease] = []
        self.lease = lease
        self.reason = ""  # why it was ended, if it was
        self._dispatcher = dispatcher
        self._count = count
        self._nbytes = 0
        self._done = Event()

    async def wait(self, seconds: float) -> None:
        """Wait until it has leases, or for so many seconds; 0: take what is ready."""
        self.leases = await self._dispatcher.claim(self._count, self.lease, self.holder)
        if self.leases or not seconds:
            return
        self._dispatcher.add_waiting(self)
        try:
            async with timeout(seconds):
                await self._done.wait()
        except TimeoutError:
            self._done.set()
        await self._dispatcher.wait_for_claim(self)

    @property
    def capacity(self) -> int:
        return 0 if self._done.is_set() or self._nbytes >= PAGE_BYTES else self._count - len(self.leases)

    @property
    def leased(self) -> int:
        return len(self.leases)

    def deliver(self, leases: list[Lease]) -> None:
        self.leases += leases
        self._nbytes += sum(len(lease.message.data) for lease in leases)
        if not self.capacity:
            self._done.set()

    def exhausted(self) -> None:
        if self.leases:
            self._done.set()

    def end(self, reason: str) -> None:
        self.reason = reason
        self._done.set()
