"""Work queues: jobs are pulled, and settled."""

from collections.abc import AsyncGenerator, Iterable
from functools import partial
from typing import Final, Literal

from .answers.jobs import Job, Jobs, Result, Settled
from .answers.messages import Gap
from .connection import Connection
from .errors import ClientError, LeaseExpired
from .wire import Duration, durations, given, topic_path

PULL_WAIT: Final = "20s"  # many proxies close a connection that is silent for half a minute

Verb = Literal["ack", "nack", "extend", "release", "skip"]
Ids = str | Job | Iterable[str | Job]


class WorkQueue:
    """The queue of one group on one topic."""

    def __init__(self, connection: Connection, topic: str, group: str) -> None:
        self.connection = connection
        self._path = partial(topic_path, topic, "groups", group)

    async def pull(self, count: int, wait: Duration | None, lease: Duration | None, retry_for: float | None) -> Jobs:
        query = {"max": count, **durations(wait=wait, lease=lease)}
        waits = self.connection.waits(retry_for)
        long_poll = wait is not None
        return await self.connection.read(
            Jobs, "POST", self._path("pull"), params=query, waits=waits, long_poll=long_poll
        )

    async def settle(
        self, verb: Verb, ids: Ids, retry_for: float | None, *, reason: str | None = None, **options: Duration | None
    ) -> dict[str, Result]:
        """`options`: the `delay` of a nack, the `lease` of an extend. `reason`: of a nack. Raises
        LeaseExpired when every lease is over."""
        several = [ids] if isinstance(ids, str | Job) else ids
        names = [item.lease if isinstance(item, Job) else item for item in several]
        request = {"params": durations(**options), "json": {"ids": names, **given(reason=reason)}}
        waits = self.connection.waits(retry_for)
        return (await self.connection.read(Settled, "POST", self._path(verb), waits=waits, **request)).results


class Work:
    """The work of one worker: it pulls a job, and settles it before it pulls the next."""

    def __init__(self, queue: WorkQueue, lease: Duration | None, retry_for: float | None) -> None:
        self._queue = queue
        self._lease = lease
        self._retry_for = retry_for
        self._job: Job | None = None  # pulled and not settled

    async def jobs(self) -> AsyncGenerator[list[Job | Gap], None]:
        """One job after the other; asking for the next one acks the one before. A gap is yielded once."""
        gap_seen = False
        while True:
            await self.settle("ack")
            pulled = await self._queue.pull(1, PULL_WAIT, self._lease, self._retry_for)
            self._job = next(iter(pulled), None)
            gap: list[Job | Gap] = [pulled.gap] if pulled.gap and not gap_seen else []
            gap_seen = gap_seen or bool(gap)
            if items := gap + pulled.messages:
                yield items

    @property
    def in_hand(self) -> bool:
        return self._job is not None

    async def settle(self, verb: Verb, *, reason: str | None = None, **options: Duration | None) -> None:
        """Settle the job in hand, if there is one. If its lease is over, that is reported and not raised: another
        worker may have the job now."""
        await self._settle(verb, self._retry_for, reason=reason, **options)

    async def finish(self) -> None:
        """Ack the job in hand, as the last one: with the retries of a single call, not those of a worker."""
        await self._settle("ack", self._queue.connection.retry_for)

    async def give_back(self) -> None:
        """Nack the job in hand because of an exception. Raises nothing that would hide the exception."""
        try:
            await self._settle("nack", self._queue.connection.retry_for)
        except ClientError as error:
            self._queue.connection.tell(
                f"a job could not be given back; it comes again when its lease is over: {error}"
            )

    async def _settle(
        self, verb: Verb, retry_for: float | None, *, reason: str | None = None, **options: Duration | None
    ) -> None:
        if (job := self._job) is None:
            return
        try:
            results = await self._queue.settle(verb, job, retry_for, reason=reason, **options)
        except LeaseExpired as error:
            results = error.results
        if verb != "extend":
            self._job = None
        if results.get(job.lease) != "done":
            self._queue.connection.tell(
                f"the lease of {job.id} was over before its {verb}: another worker may have the job"
            )
