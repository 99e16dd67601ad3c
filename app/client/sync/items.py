# Made from app/client/aio/items.py by `python -m tests.client.generate_sync`: change that.

"""What a client is iterated over with: messages and jobs, as they come."""

from collections import deque
from collections.abc import Callable
from contextlib import nullcontext, suppress
from types import TracebackType
from typing import Generic, Self, TypeVar

from ..answers import Gap, Job
from ..errors import Closed, MessagesLost
from ..feed import Feed
from ..runners import Runner
from ..wire import Duration
from ..working import Work

T = TypeVar("T")


class Stream(Generic[T]):
    """Items as they come, to iterate over. One task or thread asks at a time; any may close it. Where messages are gone
    it raises MessagesLost, unless there is an `on_gap`, and can be asked on."""

    def __init__(self, runner: Runner, feed: Feed[T | Gap], on_gap: Callable[[Gap], object] | None) -> None:
        self._runner = runner
        self._feed = feed
        self._on_gap = on_gap
        self._come: deque[T | Gap] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it at once, also for whoever waits for the next item."""
        with suppress(Closed):
            self._runner.run(self._feed.close)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        while not self._feed.closed:
            if not self._come:
                self._come.extend(self._runner.run(self._feed.next))
            if not self._come:
                break
            item = self._come.popleft()
            if not isinstance(item, Gap):
                return item
            if self._on_gap is None:
                raise MessagesLost(item)
            self._on_gap(item)
        raise StopIteration


class Worker(Stream[Job]):
    """Jobs as they come, to iterate over: see `Client.work`. `ack`, `nack` and `extend` are for the job in hand;
    one that is acked or given back is not acked again when the next one is asked for."""

    def __init__(
        self, runner: Runner, feed: Feed[Job | Gap], on_gap: Callable[[Gap], object] | None, work: Work
    ) -> None:
        super().__init__(runner, feed, on_gap)
        self._work = work

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._work.in_hand:
            with suppress(Closed) if error else nullcontext():
                self._runner.run(self._work.give_back if error else self._work.finish)
        self.close()

    def ack(self) -> None:
        """The job is done, before the next one is asked for."""
        self._runner.run(self._work.settle, "ack")

    def nack(self, *, delay: Duration | None = None, reason: str | None = None) -> None:
        """The job is not done: another worker shall try, after a time that grows with the failures, or `delay`.
        `reason` is for people, at most 200 characters."""
        self._runner.run(self._work.settle, "nack", delay=delay, reason=reason)

    def extend(self, *, lease: Duration | None = None) -> None:
        """The job takes longer: its lease ends `lease` from now, or after the group's `ack_timeout`."""
        self._runner.run(self._work.settle, "extend", lease=lease)
