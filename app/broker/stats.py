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

from ..limits.admission import Admission
from ..log.totals import Totals
from ..messages.message import rfc3339
from ..storage.engine import Queries
from ..telemetry.counters import Counters
from ..telemetry.loop_lag import LoopLag
from .attention import Health, Matters, matters

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


class StatsSource(Protocol):
    """The broker, as statistics see it."""

    log: Queries
    counters: Counters
    loop_lag: LoopLag
    admission: Admission

    @property
    def published(self) -> int: ...

    def subscribers(self) -> dict[str, int]: ...

    async def totals(self) -> Totals | None: ...


class Watcher(Protocol):
    def show(self, sample: bytes) -> None:
        """A new sample, as JSON."""

    def end(self, reason: str) -> None: ...


class Reading(msgspec.Struct, frozen=True):
    """The counters at one moment (on the loop's clock), for the rates of the next sample."""

    at: float
    published: int
    delivered: int
    acked: int
    refused: int
    commits: int
    commit_seconds: float
    evicted: int
    engine_failures: int


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
        totals = await self._source.totals()
        sample = None if totals is None else self._sample(totals, self._read(totals))
        return Snapshot(sample, matters(self._health(), totals))

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
        totals = await self._source.totals()
        self._matters = matters(self._health(), totals)
        if totals is not None:
            reading = self._read(totals)
            self.history.append(self._sample(totals, reading))
            self._readings.append(reading)
            while reading.at - self._readings[0].at > RECENT:
                self._readings.popleft()

    def _health(self) -> Health:
        source, before = self._source, self._readings[0] if self._readings else None
        evicted, failures = source.counters.evicted, source.log.failures
        return Health(
            source.log.unready,
            source.log.journal is not None and not source.log.journal.connected,
            source.admission.draining,
            evicted - (before.evicted if before else 0),
            failures - (before.engine_failures if before else 0),
            source.loop_lag.latest,
        )

    def _read(self, totals: Totals) -> Reading:
        source = self._source
        commits = source.log.commits
        return Reading(
            self._loop.time(), source.published, source.counters.delivered, totals.acked_total,
            source.counters.refusals.total(), commits.buckets()[-1][1], commits.sum, source.counters.evicted,
            source.log.failures,
        )  # fmt: skip

    def _sample(self, totals: Totals, now: Reading) -> Sample:
        before = next((old for old in reversed(self._readings) if now.at - old.at >= LEAST), now)
        source, seconds = self._source, max(now.at - before.at, INTERVAL)
        counters, commits = source.counters, now.commits - before.commits
        kinds = source.subscribers()
        return Sample(
            time=rfc3339(time()),
            published=round((now.published - before.published) / seconds, 2),
            delivered=round((now.delivered - before.delivered) / seconds, 2),
            acked=round((now.acked - before.acked) / seconds, 2),
            refused=round((now.refused - before.refused) / seconds, 2),
            subscribers=sum(kinds.values()),
            consumers=kinds["worker"],
            connections=sum(counters.connections.values()),
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
            loop_delay=round(source.loop_lag.latest, 4),
            commit_time=round((now.commit_seconds - before.commit_seconds) / commits, 6) if commits else None,
            evicted=now.evicted,
            gaps=counters.gaps,
            engine_failures=now.engine_failures,
        )
