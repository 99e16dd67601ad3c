"""The iterators of a client: over messages, and over jobs."""

from collections import deque
from collections.abc import Callable
from contextlib import nullcontext, suppress
from types import TracebackType
from typing import Generic, Self, TypeVar

from ..answers.jobs import Job
from ..answers.messages import Gap
from ..errors import Closed, MessagesLost
from ..feed import Feed
from ..runners import AsyncRunner
from ..wire import Duration
from ..working import Work

T = TypeVar("T")


class AsyncStream(Generic[T]):
    """Iterates over items as they arrive. One task or thread iterates at a time; any may close it. Where messages are
    gone, it calls `on_gap`, or raises MessagesLost, after which it can be used further."""

    def __init__(self, runner: AsyncRunner, feed: Feed[T | Gap], on_gap: Callable[[Gap], object] | None) -> None:
        self._runner = runner
        self._feed = feed
        self._on_gap = on_gap
        self._arrived: deque[T | Gap] = deque()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the iterator at once; a task or thread that waits for the next item gets none."""
        with suppress(Closed):
            await self._runner.run(self._feed.close)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._feed.closed:
            if not self._arrived:
                self._arrived.extend(await self._runner.run(self._feed.next))
            if not self._arrived:
                break
            item = self._arrived.popleft()
            if not isinstance(item, Gap):
                return item
            if self._on_gap is None:
                raise MessagesLost(item)
            self._on_gap(item)
        raise StopAsyncIteration


class AsyncWorker(AsyncStream[Job]):
    """Iterates over jobs as they arrive: see `AsyncClient.work`. `ack`, `nack` and `extend` settle the job in hand. A
    settled job is not acked again when the next one is asked for."""

    def __init__(
        self, runner: AsyncRunner, feed: Feed[Job | Gap], on_gap: Callable[[Gap], object] | None, work: Work
    ) -> None:
        super().__init__(runner, feed, on_gap)
        self._work = work

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._work.in_hand:
            with suppress(Closed) if error else nullcontext():
                await self._runner.run(self._work.give_back if error else self._work.finish)
        await self.aclose()

    async def ack(self) -> None:
        """Report the job in hand as done, without asking for the next one."""
        await self._runner.run(self._work.settle, "ack")

    async def nack(self, *, delay: Duration | None = None, reason: str | None = None) -> None:
        """The job is not done: another worker shall try, after a time that grows with the failures, or `delay`.
        `reason` is for people, at most 200 characters."""
        await self._runner.run(self._work.settle, "nack", delay=delay, reason=reason)

    async def extend(self, *, lease: Duration | None = None) -> None:
        """Extend the lease of the job in hand: it ends `lease` from now (default: the group's `ack_timeout`)."""
        await self._runner.run(self._work.settle, "extend", lease=lease)
