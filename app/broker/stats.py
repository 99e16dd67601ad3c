"""Statistics: what the server does now. A sample is taken every second while somebody watches, and every ten seconds
otherwise, so that a page that opens has a history to draw. All viewers share one sample and its bytes.
"""

from asyncio import AbstractEventLoop, Event, Task, sleep, timeout
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import time
from typing import Final, Protocol

import msgspec

from ..log.totals import Totals
from ..messages.message import rfc3339
from .activity import Activity, ActivitySource, Counts, activity_of
from .attention import Health, Matters, matters
from .siblings import Siblings

INTERVAL: Final = 1.0  # seconds between two samples while somebody watches
LEAST: Final = 0.9  # seconds that a rate is taken over: timers are not exact
RECENT: Final = 300.0  # seconds for which failures of the disk and disconnected subscribers need attention
IDLE_INTERVAL: Final = 10.0  # otherwise: with 10,000 topics a sample takes some 10 ms, in slices
HISTORY: Final = 300  # samples: five minutes that were watched, or fifty that were not; some 100 KB


class Sample(msgspec.Struct, frozen=True):
    """`published` to `refused` are rates: a second, since the sample before. `subscribers` includes consumers. `ready`,
    `leased`, `delayed` and `dead` count messages over all groups. `memory` counts against `memory_limit`, in bytes.
    `loop_delay` and `commit_time` (None without commits) are in seconds."""

    time: str
    published: float
    delivered: float
    acked: float
    refused: float
    subscribers: int
    consumers: int
    connections: int
    topics: int
    messages: int
    bytes: int
    groups: int
    ready: int
    leased: int
    delayed: int
    dead: int
    memory: int
    memory_limit: int
    loop_delay: float
    commit_time: float | None
    evicted: int
    gaps: int
    engine_failures: int


class StatsSource(ActivitySource, Protocol):
    """The broker, as statistics see it."""

    siblings: Siblings

    @property
    def published(self) -> int: ...

    async def totals(self) -> Totals | None: ...


class Watcher(Protocol):
    def show(self, sample: bytes) -> None:
        """A new sample, as JSON."""

    def end(self, reason: str) -> None: ...


class Reading(msgspec.Struct, frozen=True):
    """The counters at one moment (on the loop's clock), for the rates of the next sample."""

    at: float
    published: int
    acked: int
    counts: Counts


class Snapshot(msgspec.Struct, frozen=True):
    """What the server does, and what needs attention. `now`: None if the engine cannot be asked."""

    now: Sample | None
    matters: Matters


class Stats:
    """Samples the broker from start() until stop()."""

    def __init__(
        self, source: StatsSource, loop: AbstractEventLoop, report: Callable[[str, BaseException], None]
    ) -> None:
        """`report` is called with a fault of the server that costs a sample."""
        self.history: deque[Sample] = deque(maxlen=HISTORY)
        self._watchers: dict[Watcher, None] = {}
        self._watched = Event()  # set while somebody watches
        self._source = source
        self._loop = loop
        self._report = report
        self._readings: deque[Reading] = deque()  # of the last minutes
        self._matters = Matters([], 0)  # at the newest sample
        self._task: Task[None] | None = None

    def start(self) -> None:
        self._task = self._loop.create_task(self._run())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def latest(self) -> Snapshot:
        """A sample of this moment. Its rates are since the newest recorded sample that is at least a second old."""
        totals, activity = await self._source.totals(), await self.activity()
        sample = None if totals is None else self._sample(totals, self._read(totals, activity), activity)
        return Snapshot(sample, matters(self._health(activity), totals))

    async def activity(self) -> Activity:
        """Of all workers."""
        own = msgspec.msgpack.encode(activity_of(self._source))
        return msgspec.msgpack.decode(await self._source.siblings.merged("activity", own), type=Activity)

    def watch(self, watcher: Watcher) -> None:
        """Show it each sample from now on."""
        self._watchers[watcher] = None
        self._watched.set()

    def unwatch(self, watcher: Watcher) -> None:
        """Idempotent."""
        self._watchers.pop(watcher, None)
        if not self._watchers:
            self._watched.clear()

    def end_all(self, reason: str) -> list[Callable[[], None]]:
        """For every watcher, a function that ends it."""
        return [partial(watcher.end, reason) for watcher in self._watchers]

    async def _run(self) -> None:
        while True:
            try:
                await self._record()
                self._show()
            except Exception as error:
                self._report("no statistics were taken", error)
            if self._watchers:
                await sleep(INTERVAL)
            else:
                with suppress(TimeoutError):
                    async with timeout(IDLE_INTERVAL):
                        await self._watched.wait()

    def _show(self) -> None:
        if self._watchers and self.history:
            fields = msgspec.structs.asdict(self.history[-1]) | msgspec.structs.asdict(self._matters)
            sample = msgspec.json.encode(fields)
            for watcher in (*self._watchers,):
                watcher.show(sample)

    async def _record(self) -> None:
        totals, activity = await self._source.totals(), await self.activity()
        self._matters = matters(self._health(activity), totals)
        if totals is not None:
            reading = self._read(totals, activity)
            self.history.append(self._sample(totals, reading, activity))
            self._readings.append(reading)
            while reading.at - self._readings[0].at > RECENT:
                self._readings.popleft()

    def _health(self, activity: Activity) -> Health:
        source, now = self._source, activity.counts
        before = self._readings[0].counts if self._readings else Counts()
        return Health(
            source.log.unready,
            source.log.journal is not None and not source.log.journal.connected,
            source.admission.draining,
            now.evicted - before.evicted,
            now.failures - before.failures,
            activity.loop_delay,
        )

    def _read(self, totals: Totals, activity: Activity) -> Reading:
        return Reading(self._loop.time(), self._source.published, totals.acked_total, activity.counts)

    def _sample(self, totals: Totals, now: Reading, activity: Activity) -> Sample:
        before = next((old for old in reversed(self._readings) if now.at - old.at >= LEAST), now)
        seconds, counts, levels = max(now.at - before.at, INTERVAL), now.counts, activity.levels
        commits = counts.commits - before.counts.commits
        commit_seconds = counts.commit_seconds - before.counts.commit_seconds
        return Sample(
            time=rfc3339(time()),
            published=round((now.published - before.published) / seconds, 2),
            delivered=round((counts.delivered - before.counts.delivered) / seconds, 2),
            acked=round((now.acked - before.acked) / seconds, 2),
            refused=round((counts.refused - before.counts.refused) / seconds, 2),
            subscribers=levels.subscribers,
            consumers=levels.consumers,
            connections=levels.http + levels.line,
            topics=totals.topics,
            messages=totals.messages,
            bytes=totals.bytes,
            groups=totals.groups,
            ready=totals.ready,
            leased=totals.leased,
            delayed=totals.delayed,
            dead=totals.dead,
            memory=totals.cost,
            memory_limit=totals.cost_limit,
            loop_delay=round(activity.loop_delay, 4),
            commit_time=round(commit_seconds / commits, 6) if commits else None,
            evicted=counts.evicted,
            gaps=counts.gaps,
            engine_failures=counts.failures,
        )
