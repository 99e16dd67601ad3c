"""Several nodes on one journal in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from app.log.level import LEVEL
from app.log.topic_log import Limits
from app.storage.clock import LogClock
from app.storage.replicated.engine import ReplicatedEngine
from tests.engines.conftest import Clock, Opened, after
from tests.engines.local_journal import LocalJournal, SharedLog
from tests.log.commands.state_dump import dump

TURNS = (
    30  # of the event loop, in which an entry comes from one node to the others, and what follows from it comes back
)


class Node(Opened):
    """One of the nodes."""

    engine: ReplicatedEngine

    def __init__(self, engine: ReplicatedEngine, clock: Clock, journal: LocalJournal, log: SharedLog) -> None:
        super().__init__(engine, clock)
        self.journal = journal
        self._log = log
        self.offered: list[str] = []

    def cut(self, cut: bool = True) -> None:
        """The node no longer reaches the journal, as if it were dead."""
        if cut:
            self.journal.lose()
        self.journal.cut = cut
        self._log.wake()

    def hold(self, held: bool) -> None:
        """Entries arrive late: not before it is held no more."""
        self.journal.held = held
        self._log.wake()

    @property
    def state(self) -> str:
        return dump(self.engine._core)


class Nodes:
    """They share a clock, which the test moves."""

    def __init__(self, limits: Limits, stack: AsyncExitStack) -> None:
        self._limits = limits
        self._stack = stack
        self.clock = Clock()
        self.log = SharedLog(LogClock(self.clock).now)
        self.started: list[Node] = []

    async def start(self, limits: Limits | None = None, level: int = LEVEL) -> Node:
        """`level`: the newest that it knows."""
        journal = LocalJournal(self.log)
        engine = ReplicatedEngine(limits or self._limits, self.clock, journal, level)
        node = Node(engine, self.clock, journal, self.log)
        await engine.open(node.deliver, node, node.offered.append)
        self.started.append(node)
        self._stack.push_async_callback(engine.close)
        return node


@asynccontextmanager
async def nodes(limits: Limits | None = None) -> AsyncIterator[Nodes]:
    async with AsyncExitStack() as stack:
        yield Nodes(limits or Limits(), stack)


async def settled() -> None:
    """Every node has carried out what was appended, and what followed from it."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    after(TURNS, done.set_result, None)
    await done
