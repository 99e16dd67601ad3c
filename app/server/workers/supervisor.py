"""The supervisor: the first process of a server with several workers. It serves no client.

The kernel divides connections among the sockets of a port by their addresses, evenly. The supervisor holds all these
sockets, so a connection that was given to a worker which has died waits; another worker accepts from that socket until
a new one is ready.
"""

import asyncio
from asyncio import Task, get_running_loop
from contextlib import suppress
from logging import WARNING
from tempfile import TemporaryFile
from time import monotonic, time
from typing import Final

from ...settings import Loaded
from ...telemetry.log import LOG_WRITER, log_event
from ..build import Sockets
from ..signals import Signals
from .exchange import Exchange
from .messages import Accept, Ask, Merged
from .worker_process import WorkerNotStarted, WorkerProcess

FIRST_PAUSE: Final = 0.5  # seconds until a worker that has ended is started again; it doubles each time
LONGEST_PAUSE: Final = 30.0
STEADY: Final = 60.0  # seconds: a worker that has lived for so long is not one that always fails
KILLED_BY_STOP: Final = -15  # the exit status of a worker that was stopped while it started


class Supervisor:
    def __init__(self, loaded: Loaded, sockets: Sockets) -> None:
        self._loaded = loaded
        self._sockets = sockets
        self._count = loaded.settings.workers
        self._begun = time()
        self._workers: dict[int, WorkerProcess] = {}  # by number
        self._exchange = Exchange()
        self._stopping = asyncio.Event()
        self._tasks: set[Task[None]] = set()

    async def run(self) -> int:
        """Until a signal; returns the exit status. Raises WorkerNotStarted."""
        signals = Signals(self._stop, self._reload, self._kill)
        with TemporaryFile() as turns, LOG_WRITER.taking_turns(turns.fileno()), signals.handled():
            self._turns = turns.fileno()
            try:
                return await self._run()
            finally:
                self._kill()
                await asyncio.gather(*(worker.wait() for worker in self._workers.values()))

    async def _run(self) -> int:
        try:
            await self._start_all()
        except WorkerNotStarted:
            if not self._stopping.is_set():
                raise
        keepers = [asyncio.create_task(self._keep(number)) for number in self._workers]
        try:
            return max(await asyncio.gather(*keepers), default=0)
        finally:
            for keeper in keepers:
                keeper.cancel()

    async def _start_all(self) -> None:
        """The first one alone: it makes what all need, such as a first token, and shows what the user has to know."""
        started = await (await self._start(1, quiet=False)).ready
        others = [await self._start(number, quiet=True) for number in range(2, self._count + 1)]
        await asyncio.gather(*(worker.ready for worker in others))
        started.announce()

    async def _start(self, number: int, *, quiet: bool) -> WorkerProcess:
        """`quiet`: another worker shows the sentences for the user."""
        worker = WorkerProcess(number, self._divide, self._on_ask)
        await worker.start(self._loaded, self._sockets, self._turns, quiet=quiet, begun=self._begun)
        self._workers[number] = worker
        if self._stopping.is_set():
            worker.stop()
        return worker

    async def _keep(self, number: int) -> int:
        """Start the worker again whenever it ends. Returns 1 if it has not ended well when all were stopped. Raises
        WorkerNotStarted if no worker can start."""
        pause = FIRST_PAUSE
        while True:
            worker = self._workers[number]
            status = await worker.wait()
            if self._stopping.is_set():
                return int(status not in {0, KILLED_BY_STOP})
            self._exchange.ended(worker)
            self._divide()
            if not worker.has_started and not any(other.serves for other in self._workers.values()):
                worker.ready.result()
            if monotonic() - worker.begun > STEADY:
                pause = FIRST_PAUSE
            log_event(
                "worker ended", WARNING, worker=number, pid=worker.pid, status=status, **worker.failure, again_in=pause
            )
            await self._wait(pause)
            if self._stopping.is_set():
                return 0
            pause = min(2 * pause, LONGEST_PAUSE)
            await self._start(number, quiet=False)

    async def _wait(self, seconds: float) -> None:
        """Or until all are stopped."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _divide(self) -> None:
        """Let each worker that serves accept from its own sockets, and from those of the workers before it that do
        not."""
        serving = [number for number, worker in self._workers.items() if worker.serves]
        if not serving or self._stopping.is_set():
            return
        takers = {place: next((n for n in serving if n > place), serving[0]) for place in range(self._count)}
        for number, worker in self._workers.items():
            worker.send(Accept([place for place, taker in takers.items() if taker == number]))

    def _on_ask(self, worker: WorkerProcess, ask: Ask) -> None:
        task = get_running_loop().create_task(self._answer(worker, ask))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, worker: WorkerProcess, ask: Ask) -> None:
        others = [other for other in self._workers.values() if other is not worker and other.can_answer]
        worker.send(Merged(ask.number, await self._exchange.merged(ask, worker, others)))

    # On signals

    def _stop(self) -> None:
        self._stopping.set()
        self._sockets.close()
        for worker in self._workers.values():
            worker.stop()

    def _reload(self) -> None:
        for worker in self._workers.values():
            worker.reload()

    def _kill(self) -> None:
        for worker in self._workers.values():
            worker.kill()
