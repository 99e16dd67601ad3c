"""Work queues: jobs are taken, and settled."""

from collections.abc import AsyncGenerator, Iterable
from functools import partial
from typing import Final, Literal

from .answers import Gap, Job, Jobs, Result, Settled
from .connection import Connection
from .errors import ClientError, LeaseExpired
from .wire import Duration, durations, given, topic_path

WAIT: Final = "20s"  # of a worker's pull: many proxies give up on what is silent for half a minute

Verb = Literal["ack", "nack", "extend"]
Ids = str | Job | Iterable[str | Job]


class WorkQueue:
    """What one group has of one topic."""

    def __init__(self, connection: Connection, topic: str, group: str) -> None:
        self.connection = connection
        self._path = partial(topic_path, topic, "groups", group)

    async def pull(self, most: int, wait: Duration | None, lease: Duration | None, patience: float | None) -> Jobs:
        query = {"max": most, **durations(wait=wait, lease=lease)}
        waits = self.connection.waits(patience)
        long_poll = wait is not None
        return await self.connection.read(
            Jobs, "POST", self._path("pull"), params=query, waits=waits, long_poll=long_poll
        )

    async def settle(
        self, verb: Verb, ids: Ids, patience: float | None, *, reason: str | None = None, **options: Duration | None
    ) -> dict[str, Result]:
        """`options`: the `delay` of a nack, the `lease` of an extend. `reason`: of a nack. Raises
        LeaseExpired when every lease is over."""
        several = [ids] if isinstance(ids, str | Job) else ids
        names = [item.lease if isinstance(item, Job) else item for item in several]
        request = {"params": durations(**options), "json": {"ids": names, **given(reason=reason)}}
        waits = self.connection.waits(patience)
        return (await self.connection.read(Settled, "POST", self._path(verb), waits=waits, **request)).results


class Work:
    """What one worker does: it takes a job, and settles it before it takes the next."""

    def __init__(self, queue: WorkQueue, lease: Duration | None, patience: float | None) -> None:
        self._queue = queue
        self._lease = lease
        self._patience = patience
        self._job: Job | None = None  # not settled

    async def jobs(self) -> AsyncGenerator[list[Job | Gap], None]:
        """One after the other. Who asks for the next one has done the one before. A gap is told once."""
        told = False
        while True:
            await self.settle("ack")
            pulled = await self._queue.pull(1, WAIT, self._lease, self._patience)
            self._job = next(iter(pulled), None)
            gap: list[Job | Gap] = [pulled.gap] if pulled.gap and not told else []
            told = told or bool(gap)
            if items := gap + pulled.messages:
                yield items

    @property
    def in_hand(self) -> bool:
        return self._job is not None

    async def settle(self, verb: Verb, *, reason: str | None = None, **options: Duration | None) -> None:
        """Settle the job in hand, if there is one. A lease that is over is told, and no error: the job is somebody
        else's now."""
        await self._settle(verb, self._patience, reason=reason, **options)

    async def finish(self) -> None:
        """The job in hand is done, and no other is asked for: with the patience of a single call, not of a worker."""
        await self._settle("ack", self._queue.connection.retry_for)

    async def give_back(self) -> None:
        """Nack the job in hand because of an exception, which no other shall hide."""
        try:
            await self._settle("nack", self._queue.connection.retry_for)
        except ClientError as error:
            self._queue.connection.tell(
                f"a job could not be given back; it comes again when its lease is over: {error}"
            )

    async def _settle(
        self, verb: Verb, patience: float | None, *, reason: str | None = None, **options: Duration | None
    ) -> None:
        if (job := self._job) is None:
            return
        try:
            results = await self._queue.settle(verb, job, patience, reason=reason, **options)
        except LeaseExpired as error:
            results = error.results
        if verb != "extend":
            self._job = None
        if results.get(job.lease) != "done":
            self._queue.connection.tell(
                f"the lease of {job.id} was over before its {verb}: somebody else may have got it"
            )
