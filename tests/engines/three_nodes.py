"""Three nodes on one journal, behind one face: each request goes to the next node, which has read all before it.

A client that has an answer of one node and asks another is in the same place: it comes with an id, and the node waits
until it knows it. Here every request does. What the nodes deliver comes out once.
"""

import asyncio
from asyncio import Future
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any, Final, Self

from app.log.groups.events import GroupObserver
from app.log.run import Run
from app.log.topic_log import Limits
from app.messages.lease import LeaseId
from app.messages.topic import TopicFilter
from app.storage.clock import Clock, LogClock
from app.storage.engine import Deliver, Engine, ignore_unclaimed
from app.storage.replicated.engine import ReplicatedEngine
from app.storage.replicated.sessions import SESSION
from app.telemetry.histogram import Histogram
from tests.engines.local_journal import LocalJournal, SharedLog

COUNT: Final = 3
MAX_STEPS: Final = 100  # in which time passes: of days, sessions are lost


class Node:
    """One of the nodes, and how far it is with what all of them say."""

    def __init__(self, face: "ThreeNodes", engine: ReplicatedEngine) -> None:
        self.engine = engine
        self._face = face
        self._said = 0  # events of groups, and offers

    def deliver(self, runs: Sequence[Run]) -> dict[int, int]:
        return self._face.deliver_once(runs)

    def ready(self, topic: str, group: str) -> None:
        self._say(lambda: self._face.observer.ready(topic, group))

    def on_lease_over(self, topic: str, group: str, lease: LeaseId) -> None:
        self._say(lambda: self._face.observer.on_lease_over(topic, group, lease))

    def offer(self, topic: str) -> None:
        self._say(lambda: self._face.offer_unclaimed(topic))

    def _say(self, say: Callable[[], None]) -> None:
        """All nodes say the same: the first that does is heard."""
        self._said += 1
        if self._said > self._face.said:
            self._face.said = self._said
            say()


class ThreeNodes(Engine):
    durability = "memory"

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self.commits = Histogram()
        self._clock = LogClock(clock).now
        self._time = self._clock()
        self._steps = False  # time passes in steps
        self.log = SharedLog(self._now)
        self.nodes = [Node(self, ReplicatedEngine(limits, clock, LocalJournal(self.log))) for _ in range(COUNT)]
        self.said = 0
        self._turn = cycle(self.nodes)
        self._receivers: dict[int, int] = {}  # by seq, of what was delivered
        self._requests: deque[tuple[Callable[[ReplicatedEngine], Any], Future[Any]]] = deque()
        self._serving: asyncio.Task[None] | None = None

    @property
    def epoch(self) -> str:  # type: ignore[override]
        return self.nodes[0].engine.epoch

    async def open(
        self, deliver: Deliver, group_observer: GroupObserver, offer_unclaimed: Callable[[str], None] = ignore_unclaimed
    ) -> Self:
        self._deliver, self.observer, self.offer_unclaimed = deliver, group_observer, offer_unclaimed
        for node in self.nodes:
            await node.engine.open(node.deliver, node, node.offer)
        return self

    async def close(self) -> None:
        if self._serving is not None:
            await asyncio.wait([self._serving])
        for node in self.nodes:
            await node.engine.close()

    def deliver_once(self, runs: Sequence[Run]) -> dict[int, int]:
        new = [run for run in runs if run.seq not in self._receivers]
        if new:
            given = self._deliver(new)
            self._receivers |= {seq: given.get(seq, 0) for run in new for seq in range(run.first, run.seq + 1)}
        every = {seq: self._receivers[seq] for run in runs for seq in range(run.first, run.seq + 1)}
        return {seq: count for seq, count in every.items() if count}

    def has_unclaimed(self, topic_filter: TopicFilter) -> bool:
        return any(node.engine.has_unclaimed(topic_filter) for node in self.nodes)

    def ask(self, request: Callable[[ReplicatedEngine], Any]) -> "Future[Any]":
        future: Future[Any] = asyncio.get_running_loop().create_future()
        self._requests.append((request, future))
        if self._serving is None:
            self._serving = asyncio.get_running_loop().create_task(self._serve())
        return future

    async def _serve(self) -> None:
        """One request after the other: each is in the journal before the next is asked."""
        while self._requests:
            request, future = self._requests.popleft()
            engine = next(self._turn).engine
            await self._pass_time()
            await _level(engine, self.log)
            _link(request(engine), future)
            while engine._outgoing._waiting:  # noqa: ASYNC110  # until it is sent
                await asyncio.sleep(0)
        self._serving = None

    def _now(self) -> float:
        if not self._steps:
            self._time = self._clock()
        return self._time

    async def _pass_time(self) -> None:
        """However far the test has moved the clock, each node has kept its session meanwhile."""
        now, self._steps = self._clock(), True
        while self._time < now:
            self._time = min(self._time + max(SESSION / 2, (now - self._time) / MAX_STEPS), now)
            for node in self.nodes:
                node.engine._tick()
                await _level(node.engine, self.log)
        self._steps = False

    def taken(self, seqs: Sequence[int]) -> None:
        for engine, own in self._holders(seqs):
            engine.taken(own)

    def give_back(self, seqs: Sequence[int]) -> "Future[Any]":
        given = [engine.give_back(own) for engine, own in self._holders(seqs)]
        return asyncio.ensure_future(_all(given))

    def _holders(self, seqs: Sequence[int]) -> list[tuple[ReplicatedEngine, list[int]]]:
        """The nodes that have these messages in transit."""
        by_name = {node.engine._server_run: node.engine for node in self.nodes}
        furthest = max((node.engine for node in self.nodes), key=lambda engine: engine._fold.number)
        own: dict[str, list[int]] = defaultdict(list)
        for seq in seqs:
            own[furthest._core.log.single_delivery.nodes.get(seq, self.nodes[0].engine._server_run)].append(seq)
        return [(by_name[name], found) for name, found in own.items()]


async def _level(engine: ReplicatedEngine, log: SharedLog) -> None:
    while engine._outgoing._waiting or engine._fold.number < log.number:  # noqa: ASYNC110
        await asyncio.sleep(0)


async def _all(futures: Sequence["Future[Any]"]) -> None:
    for future in futures:
        await future


def _link(inner: "Future[Any]", outer: "Future[Any]") -> None:
    def on_done(done: "Future[Any]") -> None:
        error = done.exception()
        if outer.done():
            return
        if error is None:
            outer.set_result(done.result())
        else:
            outer.set_exception(error)

    if inner.done():
        on_done(inner)
    else:
        inner.add_done_callback(on_done)


def _anywhere(name: str) -> Callable[..., "Future[Any]"]:
    def request(self: ThreeNodes, *args: Any, **options: Any) -> "Future[Any]":
        return self.ask(lambda engine: getattr(engine, name)(*args, **options))

    return request


for _name in [*ThreeNodes.__abstractmethods__]:
    setattr(ThreeNodes, _name, _anywhere(_name))
ThreeNodes.__abstractmethods__ = frozenset()
