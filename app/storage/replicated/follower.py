"""The follower of a journal: it carries out all entries as they come, and keeps a fold level with the journal.

open ─▶ begin, if no node has ─▶ load a snapshot, if nothing is known ─▶ carry out entry after entry
  ▲                                                                             │
  └────────── the connection is lost; or the journal goes on otherwise ◀────────┘
"""

import asyncio
from asyncio import Future, Task, get_running_loop
from collections.abc import Callable, Sequence
from logging import ERROR, WARNING
from typing import Any, Final, Protocol

from ...log.commands.begin_epoch import BeginEpoch
from ...log.commands.set_limits import SetLimits
from ...log.epochs import Epochs, new_epoch
from ...log.state import LogStateMachine
from ...log.store import MemoryMessageStore
from ...log.topic_log import Limits
from ...telemetry.log import log_event
from ..turns import in_turns
from ..unusable import StoreUnusable
from .agreement import Agreement
from .batch import new_link
from .connection_log import ConnectionLog
from .contents import NewerVersion, Writer
from .fold import Fold, Fork, Trimmed
from .journal import Entry, Head, Journal, JournalLost
from .snapshots import Snapshots

RECONNECT: Final = 0.2  # seconds between attempts to reach the journal


class Differs(Fork):
    """The state is not that of the other nodes."""


class Listener(Protocol):
    """Whoever appends to the journal, and answers from the fold."""

    def on_carried_out(self, entry: Entry, results: Sequence[Any]) -> None:
        """An entry was carried out, and the outbox of the fold has what follows from it. `results`: of its commands."""

    def on_current(self, replaced: bool) -> None:
        """All that the journal had is carried out: this node may append. `replaced`: the fold is another one."""

    def on_lost(self) -> None:
        """The journal cannot be reached, or must be read again: this node may not append."""


class Follower:
    def __init__(self, journal: Journal, limits: Limits, steady: Callable[[], float], writer: Writer) -> None:
        self._journal = journal
        self._limits = limits
        self._steady = steady
        self._writer = writer
        self._offset = 0.0  # of the journal's clock to this node's steady one
        self._newest = 0  # the number of the newest entry that is known here
        self._current = False  # since the connection was made
        self._task: Task[None] | None = None
        self._was_ready = False
        self._ready: Future[None] | None = None  # not done while the fold is not that of the journal
        self.fold = self._new_fold()
        self.connection = ConnectionLog()
        self.snapshots = Snapshots(journal, writer.level)
        self._agreement = Agreement(writer.node)
        self.forks = 0
        self.mismatches = 0
        self.resyncs = 0
        self.failed = ""  # why this node can never go on

    def _new_fold(self) -> Fold:
        """Its limits and its level are those that the journal says, whatever this node was started with."""
        core = LogStateMachine(Limits(), Epochs(""), MemoryMessageStore())
        core.level = 1
        return Fold(core, self._writer.level)

    async def start(self, listener: Listener) -> None:
        """Done when the node is current. Raises StoreUnusable."""
        self._listener = listener
        loop = get_running_loop()
        self._ready = loop.create_future()
        self._task = loop.create_task(self._follow())
        self._task.add_done_callback(self._on_ended)
        await self._ready

    async def stop(self) -> None:
        """Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        await self.snapshots.close()

    @property
    def unready(self) -> str:
        """Why nothing can be asked; empty if it can."""
        return self.failed or ("" if self._is_ready else "the log is read again after a loss")

    @property
    def _is_ready(self) -> bool:
        return self._ready is None or self._ready.done()

    def now(self) -> float:
        """The log's time."""
        return max(self.fold.time, self._steady() + self._offset)

    @property
    def lag_entries(self) -> int:
        """Entries that are known here, and not carried out."""
        return max(self._newest - self.fold.number, 0)

    async def _follow(self) -> None:
        while True:
            try:
                await self._follow_once()
            except JournalLost as error:
                self.connection.lost(error)
                self._lose()
            except Fork as error:
                self._lose()
                self._start_again(error)
            await asyncio.sleep(RECONNECT)

    def _lose(self) -> None:
        self._current = False
        self._listener.on_lost()

    async def _follow_once(self) -> None:
        head = await self._opened()
        if not self.fold.number and (loaded := await self.snapshots.load()) is not None:
            self.fold = loaded
        if self.fold.is_ahead_of(head):
            raise Fork(f"the journal ends with entry {head.number}, and entry {self.fold.number} was carried out")
        self._newest = head.number
        if self.fold.number == head.number:
            self._become_current()
        async for entries in self._journal.tail(self.fold.number):
            self._newest = max(self._newest, entries[-1].number)
            for entry in entries:
                await self._carry_out(entry)
            if not self._current and self.fold.number >= head.number:
                self._become_current()

    async def _opened(self) -> Head:
        """The head of a journal that has begun. Raises JournalLost."""
        while not (head := await self._journal.open()).begun:
            if head.forgotten and self.fold.number > head.number:
                if not await self.snapshots.give_back(self.fold, head):
                    raise JournalLost("another node gives the journal back what it lacks")
            elif await self._begin(head):
                return await self._journal.open()
        return head

    async def _begin(self, head: Head) -> bool:
        """False: another node was first."""
        epoch = new_epoch()
        commands = [BeginEpoch(epoch)] if head.number else [BeginEpoch(epoch), SetLimits(self._limits)]
        if not await self._journal.begin(head, new_link(), self._writer.encode(commands)):
            return False
        log_event("a new epoch of the log has begun", epoch=epoch, entry=head.number + 1)
        return True

    def _become_current(self) -> None:
        self.connection.found()
        self._current = True
        replaced = not self._is_ready
        self._was_ready = True
        if self._ready is not None and replaced:
            self._ready.set_result(None)
        self._listener.on_current(replaced)

    def _start_again(self, error: Fork) -> None:
        """The journal does not go on from what was carried out here: carry out all that it has."""
        if isinstance(error, Differs):
            self.mismatches += 1
        elif isinstance(error, Trimmed):
            log_event("the journal has only a snapshot of the next entries", WARNING, entry=self.fold.number)
        else:
            self.forks += 1
            log_event("the journal has lost entries that this server had carried out", WARNING, entry=self.fold.number)
        self.resyncs += 1
        self.fold, self._agreement = self._new_fold(), Agreement(self._writer.node)
        if self._is_ready:
            self._ready = get_running_loop().create_future()

    def _on_ended(self, task: "Task[None]") -> None:
        """A fault in the fold: this node can never go on."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        self._lose()
        self.failed = f"the log has failed: {error}"
        if not self._was_ready and self._ready is not None:
            self._ready.set_exception(StoreUnusable(str(error)) if isinstance(error, NewerVersion) else error)
            return
        is_fault = not isinstance(error, NewerVersion | StoreUnusable)
        log_event("the log has failed", ERROR, error if is_fault else None, detail=str(error))

    async def _carry_out(self, entry: Entry) -> None:
        self._offset = entry.time - self._steady()
        results = await in_turns(self.fold.carry_out(entry))
        self.snapshots.count(entry)
        self._listener.on_carried_out(entry, results)
        if self._current:  # what nodes said before is over
            self._compare()
        if self._is_ready and self.snapshots.is_due:
            await self.snapshots.make(self.fold)

    def _compare(self) -> None:
        """Raises Differs."""
        fold, contents = self.fold, self.fold.contents
        agrees = fold.check.agrees(contents.position)
        verdict = self._agreement.heard(contents.node, contents.position[0], agrees, fold.sessions)
        if verdict is False:
            self._tell_position()
            raise Differs(f"at entry {fold.number}")
        if verdict:
            self.snapshots.hurry()  # the newest one may be of the node that has to read the log again

    def _tell_position(self) -> None:
        """The others must know that this node differs: the newest snapshot may be of it."""
        said = self._journal.append(new_link(), self._writer.encode([], position=self.fold.check.position))
        said.add_done_callback(lambda done: done.cancelled() or done.exception())
