"""The batches of this node: the one that collects commands, and those on their way through the journal."""

from asyncio import AbstractEventLoop, Future, TimerHandle
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Any, Final

from ...errors import Draining, OutcomeUnknown, PlainmqError, StorageFailed
from ...log.commands.command import Command
from ...messages.attendance import Attendance
from ...telemetry.histogram import Histogram
from .batch import Batch, must_be_done
from .contents import TicketNote, Writer
from .journal import JournalLost
from .lost_answers import returns

MAX_WINDOW: Final = 4  # entries on their way: more would gain little, and those behind them wait
READ_WAIT: Final = 1.0  # seconds of a question behind commands: no working journal takes so long
MAX_TICKETS: Final = 10_000  # of which others are told when the journal can be reached: those of half a minute

_UNKNOWN: Final = (
    "the connection to the journal was lost: it is unknown whether this request was carried out. Repeat it; a publish "
    "with the same Idempotency-Key"
)
_NOT_SENT: Final = "the journal cannot be reached: nothing was stored; try again in a few seconds"


class Outgoing:
    def __init__(
        self,
        loop: AbstractEventLoop,
        append: Callable[[bytes, bytes], "Future[None]"],
        writer: Writer,
        position: Callable[[], tuple[int, int]],
    ) -> None:
        """`position`: where this node is."""
        self._loop = loop
        self._writer = writer
        self._position = position
        self._append = append
        self._waiting: deque[Batch] = deque()
        self._sent: dict[bytes, Batch] = {}  # by link, in the order of the journal
        self._unconfirmed = 0  # entries that the journal has not confirmed
        self._late: TimerHandle | None = None  # set while questions wait
        self._turn_scheduled = False  # _send() will be called
        self.attendance: Attendance | None = None  # for the next entry
        self.tickets: deque[TicketNote] = deque(maxlen=MAX_TICKETS)  # likewise
        self._lag = 0.0
        self.appends = Histogram()  # seconds from sending an entry until the journal has confirmed it
        self._lost = True  # the journal cannot be reached
        self._effects: list[tuple[Command, Future[Any]]] = []  # to append when it can be reached again

    @property
    def lost(self) -> bool:
        return self._lost

    def resume(self) -> None:
        """The journal can be reached, and this node knows all that is in it."""
        self._lost = False
        self._put_effects()

    def _put_effects(self) -> None:
        effects, self._effects = self._effects, []
        for command, future in effects:
            self._put(command, future)

    def add(self, command: Command) -> "Future[Any]":
        future: Future[Any] = self._loop.create_future()
        if not self._lost:
            self._put(command, future)
        elif must_be_done(command):
            self._effects.append((command, future))
        else:
            future.set_exception(StorageFailed(_NOT_SENT))
        return future

    def _put(self, command: Command, future: "Future[Any]") -> None:
        if not self._waiting or self._waiting[-1].is_closed:
            self._waiting.append(Batch())
        self._waiting[-1].add(command, future)
        if not self._turn_scheduled:
            self._turn_scheduled = True
            self._loop.call_soon(self._send)

    def ask_behind(self, ask: Callable[[], None]) -> bool:
        """Call `ask` when all that this node has asked so far is carried out here, or READ_WAIT is over. False: it is
        already, or the journal is silent for as long."""
        last = self._waiting[-1] if self._waiting else next(reversed(self._sent.values()), None)
        if last is None or self._is_silent:
            return False
        if not last.questions:
            last.asked_at = self._loop.time()
        last.questions.append(ask)
        if self._late is None:
            self._late = self._loop.call_later(READ_WAIT, self._ask_late)
        return True

    @property
    def _is_silent(self) -> bool:
        oldest = next(iter(self._sent.values()), None)
        return oldest is not None and monotonic() - oldest.sent_at > READ_WAIT

    def _ask_late(self) -> None:
        """Answer what has waited for long from what is known."""
        self._late = None
        now = self._loop.time()
        for batch in [batch for batch in (*self._sent.values(), *self._waiting) if batch.questions]:
            if batch.asked_at + READ_WAIT <= now:
                batch.ask()
            elif self._late is None:
                self._late = self._loop.call_at(batch.asked_at + READ_WAIT, self._ask_late)

    def arrived(self, link: bytes) -> Batch | None:
        """The batch of an entry; None if it is of another node."""
        batch = self._sent.pop(link, None)
        if batch is not None:
            self._lag = monotonic() - batch.sent_at
        return batch

    def lag(self) -> float:
        """Seconds from sending an entry until it was carried out here: of the newest, or so far of one that is late."""
        oldest = next(iter(self._sent.values()), None)
        return self._lag if oldest is None else max(self._lag, monotonic() - oldest.sent_at)

    def carried_out(self, batch: Batch, results: Sequence[Any]) -> None:
        batch.results = results
        if batch.refused:
            self.take_back(batch.commands, results)
        batch.answer()
        batch.ask()

    def take_back(self, commands: Sequence[Command], results: Sequence[Any]) -> None:
        """Nobody was told the results."""
        for command in returns(commands, results):
            self.add(command).add_done_callback(Future.exception)  # such as: the group is deleted

    def close(self) -> None:
        """As lose(), and for ever."""
        self.lose()
        if self._late is not None:
            self._late.cancel()
        for _, future in self._effects:
            if not future.done():
                future.set_exception(Draining("the log is closed"))
                future.exception()  # of most, nobody asks for it

    def lose(self) -> None:
        """The journal cannot be reached: fail what is on its way, and what waits."""
        self._lost = True
        sent, waiting, self._sent, self._waiting = [*self._sent.values()], [*self._waiting], {}, deque()
        for batch in sent:
            self._effects += batch.fail(OutcomeUnknown(_UNKNOWN))
        for batch in waiting:
            self._effects += batch.fail(StorageFailed(_NOT_SENT))

    @property
    def is_quiet(self) -> bool:
        """Nothing is on its way, and nothing waits."""
        return not (self._waiting or self._sent)

    def _send(self) -> None:
        self._turn_scheduled = False
        while self._waiting and self._unconfirmed < MAX_WINDOW:
            batch = self._waiting.popleft()
            self._sent[batch.link] = batch
            batch.sent_at = monotonic()
            self._unconfirmed += 1
            attendance, self.attendance = self.attendance, None
            data = self._writer.encode(
                batch.commands, attendance=attendance, tickets=[*self.tickets], position=self._position()
            )
            self.tickets.clear()
            appended = self._append(batch.link, data)
            appended.add_done_callback(partial(self._on_appended, batch))

    def _on_appended(self, batch: Batch, done: "Future[None]") -> None:
        self._unconfirmed -= 1
        error = None if done.cancelled() else done.exception()
        if isinstance(error, JournalLost):
            self._refuse(batch, OutcomeUnknown(_UNKNOWN))
            return
        if isinstance(error, OutcomeUnknown):  # it is in the journal, and will be carried out
            self._refuse(batch, error)
        elif isinstance(error, PlainmqError):
            self._sent.pop(batch.link, None)
            self._effects += batch.fail(error)
        elif error is None and not done.cancelled():
            self.appends.add(monotonic() - batch.sent_at)
            batch.confirmed = True
            batch.answer()
            self._put_effects()
        else:
            return
        self._send()

    def _refuse(self, batch: Batch, error: OutcomeUnknown) -> None:
        batch.refuse(error)
        if batch.results is not None:
            self.take_back(batch.commands, batch.results)
