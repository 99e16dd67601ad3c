# Made from app/client/aio/working.py by `python -m tests.client.generate_sync`: change that.

"""Working on the jobs of a group."""

from collections.abc import Callable

from ..answers.jobs import Jobs, Result
from ..answers.messages import Gap
from ..feed import Feed
from ..wire import Duration
from ..working import Ids, Verb, Work, WorkQueue
from .caller import Caller
from .items import Worker


class Working(Caller):
    """Takes jobs of a group, and settles them."""

    def work(
        self,
        topic: str,
        group: str,
        *,
        lease: Duration | None = None,
        retry_for: float | None = None,
        on_gap: Callable[[Gap], object] | None = None,
    ) -> Worker:
        """Work for a group: iterate over its jobs, without end. Asking for the next job acks the one before. An
        exception that leaves the `with` nacks the job in hand.

            with client.work("jobs", "resizers", lease="2m") as jobs:
                for job in jobs:
                    resize(job.data)

        When the `lease` of a job is over (default: the group's `ack_timeout`; at most an hour), another worker gets it:
        choose a longer lease than a job takes, or call `jobs.extend()`. After a crash, a job comes again when its lease
        is over, so it may be done twice. For several workers, call this several times. The first call creates the
        group, which needs the right `admin`. During an outage, the worker waits for `retry_for` seconds (None: for
        ever).
        """
        work = Work(self._queue(topic, group), lease, retry_for)
        return Worker(self._runner, Feed(self._connection, work.jobs()), on_gap, work)

    def pull(
        self, topic: str, group: str, *, max: int = 10, wait: Duration | None = None, lease: Duration | None = None
    ) -> Jobs:
        """Pull at most `max` jobs (up to 100), each leased for `lease`. `wait`: how long to wait for the first one, at
        most a minute. Settle them with `ack`, `nack` and `extend`. If the answer is lost, its jobs come again when
        their leases are over."""
        retry_for = self._connection.retry_for
        return self._runner.run(self._queue(topic, group).pull, max, wait, lease, retry_for)

    def ack(self, topic: str, group: str, ids: Ids) -> dict[str, Result]:
        """Report jobs as done. `ids`: at most 1,000 jobs, ids of leases or ids of messages. Returns `done`, `expired`
        or `unknown` for each id. Raises LeaseExpired if every lease is over."""
        return self._settle(topic, group, "ack", ids)

    def nack(
        self, topic: str, group: str, ids: Ids, *, delay: Duration | None = None, reason: str | None = None
    ) -> dict[str, Result]:
        """These jobs are not done: another worker shall try, after a time that grows with the failures, or `delay`.
        `reason` is for people, at most 200 characters: `jobs` shows it, and the message has it when it is dead."""
        return self._settle(topic, group, "nack", ids, reason=reason, delay=delay)

    def extend(self, topic: str, group: str, ids: Ids, *, lease: Duration | None = None) -> dict[str, Result]:
        """Extend the leases of jobs: they end `lease` from now (default: the group's `ack_timeout`)."""
        return self._settle(topic, group, "extend", ids, lease=lease)

    def release(self, topic: str, group: str, ids: Ids) -> dict[str, Result]:
        """Make these jobs ready at once, also those that another worker has, or that wait for their next attempt. No
        attempt counts as failed. A redriven job can be named by its `original` id, too."""
        return self._settle(topic, group, "release", ids)

    def skip(self, topic: str, group: str, ids: Ids) -> dict[str, Result]:
        """Never hand these messages out again in this group, whatever became of them so far. A redriven job can be
        named by its `original` id, too."""
        return self._settle(topic, group, "skip", ids)

    def _settle(
        self, topic: str, group: str, verb: Verb, ids: Ids, *, reason: str | None = None, **options: Duration | None
    ) -> dict[str, Result]:
        retry_for = self._connection.retry_for
        queue = self._queue(topic, group)
        return self._runner.run(queue.settle, verb, ids, retry_for, reason=reason, **options)

    def _queue(self, topic: str, group: str) -> WorkQueue:
        return WorkQueue(self._connection, topic, group)
