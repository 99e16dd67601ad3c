"""The SQLite engine: the log survives the process. One thread does everything with the file, in the order of requests.

    requests ─▶ writer thread: all that wait, in ONE transaction ─▶ COMMIT ─▶ event loop: deliver, then answer

Requests that arrive during a commit form the next transaction (`group_commit`). So many publishers share the time of
the disk, and subscribers get many messages in one write. Nothing is delivered or answered before the disk has it. If
the commit fails, everything in the transaction is refused and undone."""

from asyncio import Future, get_running_loop
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

from ...errors import Draining, StorageFailed
from ...log.commands.command import Command, Effect, Publish, SlicedChange
from ...log.commands.delivery import GiveBack
from ...log.commands.publishing import SetResult
from ...log.epochs import new_epoch
from ...log.groups.events import GroupObserver
from ...log.slices import Slices
from ...log.state import Outbox
from ...log.topic_log import Limits
from ...messages.message import Receipt
from ..clock import Clock
from ..engine import Deliver, ignore_unclaimed
from ..local import LocalEngine
from ..turns import Operation
from .disk_health import DiskHealth
from .file import Synchronous
from .group_commit import GroupCommit
from .request import Request, SlicedRequest
from .writer import Writer


class SqliteEngine(LocalEngine):
    """The part of the engine that runs in the event loop."""

    def __init__(
        self, limits: Limits, clock: Clock, path: Path, synchronous: Synchronous = "full", min_free_disk: int = 0
    ) -> None:
        """`min_free_disk`: in bytes; with less on the disk, publishes are refused."""
        self.durability = "disk" if synchronous == "full" else "disk:relaxed"
        self.epoch = ""  # known once the log is open
        self._health = DiskHealth(min_free_disk)
        self._server_run = new_epoch()
        self._writer = Writer(limits, clock, path, synchronous, self._health, server_run=self._server_run)
        self.commits = self._writer.commits
        self._open = False
        self._closed: Exception = Draining("the log is closed")

    @property
    def unready(self) -> str:
        return self._health.unready

    @property
    def failures(self) -> int:
        return self._health.failures

    async def open(
        self, deliver: Deliver, group_observer: GroupObserver, offer_unclaimed: Callable[[str], None] = ignore_unclaimed
    ) -> Self:
        self._loop = get_running_loop()
        self._deliver, self._group_observer, self._offer_unclaimed = deliver, group_observer, offer_unclaimed
        self._group_commit = GroupCommit(self._loop, self._writer.put)
        self._enqueue = self._group_commit.add
        self._open = True  # before the writer starts: it may fail before this task goes on
        self.epoch, self.head = await self._writer.start(self._loop, self._on_committed, self._on_writer_failed)
        return self

    async def close(self) -> None:
        if self._open:
            self._open = False
            self._group_commit.send_all()
            self._writer.put(None)
        await self._writer.join()

    def _do(self, command: Command) -> "Future[Any]":
        """The future of an effect is done once the disk has it, however long that takes."""
        future: Future[Any] = self._loop.create_future()
        if isinstance(command, Publish):
            operation = partial(self._health.unless_full, command.carry_out)
            return self._submit(Request(operation, future, "append", command.size), future)
        if isinstance(command, Effect):
            return self._submit(Request(command.carry_out, future, "effect", 0), future)
        if isinstance(command, SlicedChange):
            return self._submit(SlicedRequest(command.carry_out, future, "other"), future)
        return self._submit(Request(command.carry_out, future), future)

    def _ask(self, question: Operation[Any]) -> "Future[Any]":
        future: Future[Any] = self._loop.create_future()
        return self._submit(Request(question, future, "read"), future)

    def _ask_in_slices(self, question: Operation[Slices[Any]]) -> "Future[Any]":
        future: Future[Any] = self._loop.create_future()
        return self._submit(SlicedRequest(question, future, "read"), future)

    def _submit(self, request: Request, future: "Future[Any]") -> "Future[Any]":
        if self._open:
            self._enqueue(request)
        elif request.kind != "effect":  # what has happened cannot be refused
            future.set_exception(self._closed)
        return future

    def _on_committed(self, batch: Sequence[Request], answered: Sequence[Request], outbox: Outbox) -> None:
        """The transaction is on the disk: deliver, and answer the requests."""
        if batch:
            self._group_commit.on_writer_free(batch)
        receivers = self._deliver(outbox.runs)
        if outbox.for_one:
            self._do(GiveBack(outbox.undelivered(receivers)))
        for request in answered:
            accepted = request.answer(receivers)
            if accepted is not None and accepted.idempotency_key is not None:
                receipt = accepted.receipt(receivers)
                if isinstance(receipt, Receipt):
                    self._do(SetResult(receipt, accepted.idempotency_key))
        outbox.group_events.notify(self._group_observer)
        for topic in outbox.unclaimed:
            self._offer_unclaimed(topic)

    def _on_writer_failed(self, error: BaseException, requests: list[Request]) -> None:
        """The writer thread has failed by a bug: refuse all requests, waiting and future ones."""
        self._open = False
        self._health.failures += 1
        self._health.unready = "the log has failed; the server must be restarted"
        self._closed = StorageFailed(self.unready)
        self._loop.call_exception_handler({"message": "the log has failed", "exception": error})
        for request in requests:
            request.committed = True  # perhaps: the thread was at it
        for request in [*requests, *self._writer.unanswered(), *self._group_commit.take_all()]:
            request.refuse(self._closed, self.unready)
            request.answer({})
