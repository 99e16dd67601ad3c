# Made from app/client/aio/client.py by `python -m tests.client.generate_sync`: change that.

"""A client of the HTTP door: it publishes without doubling, and subscribes without losing its place.

It knows the wire and nothing of the server's code, so it also serves those who talk to an older or newer server.
"""

import logging
from collections.abc import Callable, Iterable
from os import PathLike
from types import TracebackType
from typing import Final, Self, Unpack, overload

from .. import publishing, reading, streams
from ..answers import (
    Gap,
    GroupState,
    Jobs,
    Line,
    Message,
    Page,
    Published,
    Result,
    Scheduled,
    Ticket,
    TopicList,
    TopicState,
)
from ..connection import Connection
from ..feed import Feed
from ..publishing import Options
from ..runners import Runner
from ..wire import Duration, Since, duration, given, place, topic_path
from ..working import Ids, Verb, Work, WorkQueue
from .items import Stream, Worker

_log: Final = logging.getLogger("plainmq.client")


class Client:
    """A client of one server.

        with Client("http://localhost:8000") as client:
            client.publish("rooms.kitchen", "hello")
            for message in client.subscribe("rooms.*", since="10m"):
                print(message.topic, message.data)

    `token`: whose rights count. `ca`: a file of certificates (PEM) that may vouch for the server's, instead of those
    that the system trusts. `retry_for`: seconds for which a request without an answer is sent again; a publish keeps
    its Idempotency-Key then, which the server remembers for two minutes. `timeout`: seconds for one request and its
    answer, and the longest silence of a stream: more than the server's keep-alive, which is 15. `tell` gets a sentence
    when the server cannot be reached and will be tried again, or when a lease was over too early; without it, that is
    a warning of the logger `plainmq.client`.

    A duration is a text such as `30s`, a number of seconds, or a timedelta. A place (`since`) is an id, `latest`,
    `earliest`, `last:10`, a duration such as `10m`, or a time: RFC 3339, or a datetime with its zone.

    Raises ValueError when the URL is none, the token cannot be one, or the file holds no certificate. Every method
    raises RequestRefused, Unreachable, Untrusted or Closed, which are all ClientError.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        token: str | None = None,
        ca: str | PathLike[str] | None = None,
        retry_for: float = 10.0,
        timeout: float = 60.0,
        tell: Callable[[str], None] = _log.warning,
    ) -> None:
        self._connection = Connection(url, token=token, ca=ca, retry_for=retry_for, timeout=timeout, tell=tell)
        self._runner = Runner(self._connection.close)
        self.url = self._connection.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End whatever waits: iterators end, calls raise Closed."""
        self._runner.end()

    # Publish

    @overload
    def publish(
        self, topic: str, data: bytes | str, *, delay: None = None, **options: Unpack[Options]
    ) -> Published: ...
    @overload
    def publish(self, topic: str, data: bytes | str, *, delay: Duration, **options: Unpack[Options]) -> Scheduled: ...
    def publish(
        self, topic: str, data: bytes | str, *, delay: Duration | None = None, **options: Unpack[Options]
    ) -> Published | Scheduled:
        """Publish one message: the bytes, or the text in UTF-8. It is accepted when this returns, as durable as the
        answer says. With `delay` nobody gets it before that time has passed.

        `event`: the event name that an EventSource sees. `delivery`: `all` subscribers, or exactly `one`. `retain`:
        False is for those who listen now. `ttl`: nobody gets it later. `idempotency_key`: the same key on the same
        topic within two minutes stores nothing; one is made up when there is none. `content_type`: `text/plain` when
        there is none and it is UTF-8.

            client.publish("orders", json.dumps(order), content_type="application/json", ttl="1h")
        """
        return self._runner.run(publishing.publish, self._connection, topic, data, delay, options)

    @overload
    def publish_batch(
        self, topic: str, messages: Iterable[bytes | str], *, delay: None = None, **options: Unpack[Options]
    ) -> Published: ...
    @overload
    def publish_batch(
        self, topic: str, messages: Iterable[bytes | str], *, delay: Duration, **options: Unpack[Options]
    ) -> Scheduled: ...
    def publish_batch(
        self, topic: str, messages: Iterable[bytes | str], *, delay: Duration | None = None, **options: Unpack[Options]
    ) -> Published | Scheduled:
        """Publish many messages at once, all or none. They are stored as `application/json`, so `content_type` is not
        for a batch. Raises ValueError when one could not come back as it is: it cannot be empty, hold a line feed or
        end in a carriage return."""
        return self._runner.run(publishing.publish_batch, self._connection, topic, messages, delay, options)

    # Subscribe and read

    def subscribe(
        self,
        topics: str | Iterable[str],
        *,
        since: Since = "latest",
        last_event_id: str | None = None,
        limit: int | None = None,
        retry_for: float | None = None,
        on_gap: Callable[[Gap], object] | None = None,
    ) -> Stream[Message]:
        """The messages of topics and patterns, in the order of the log, as they come.

        It starts at `since`, or behind the message `last_event_id`; ends after `limit` messages. When the connection
        breaks or the server restarts it comes back to its place, for `retry_for` seconds without contact (None: for
        ever). Nothing is lost and nothing comes twice; where messages are gone all the same (retention took them, or
        the server kept them in memory only), the iterator raises MessagesLost, or calls `on_gap` and goes on.

            with client.subscribe(["orders", "rooms.*"], since=saved_id) as messages:
                for message in messages:
                    ...
        """
        names = (topics,) if isinstance(topics, str) else tuple(topics)
        selection = streams.Selection(names, place(since), last_event_id, limit)
        source = streams.subscription(self._connection, selection, retry_for)
        return Stream(self._runner, Feed(self._connection, source), on_gap)

    def messages(
        self, topic: str, *, since: Since = "earliest", limit: int = 100, wait: Duration | None = None
    ) -> Page:
        """Read what a topic or pattern retains, once: at most `limit` messages (1,000) and about 1 MiB. Pass the page's
        `next` as `since` to read on. `wait`: how long to wait for the first message, at most a minute. Raises NotFound
        when there is no such topic."""
        return self._runner.run(reading.page, self._connection, topic, since, limit, wait)

    def message(self, topic: str, id: str) -> bytes:
        """The body of one message. Raises NotFound."""
        return self._runner.run(reading.body, self._connection, topic, id)

    def export(
        self, topic: str = "**", *, since: Since = "earliest", on_gap: Callable[[Gap], object] | None = None
    ) -> Stream[Line]:
        """All that a topic or pattern retains at this moment, oldest first, each message in the server's own JSON:
        for a copy. It takes nothing away from anybody: what waits for one subscriber is not shown. Gaps are told as in
        `subscribe`."""
        source = reading.export(self._connection, topic, place(since))
        return Stream(self._runner, Feed(self._connection, source), on_gap)

    # Work

    def work(
        self,
        topic: str,
        group: str,
        *,
        lease: Duration | None = None,
        retry_for: float | None = None,
        on_gap: Callable[[Gap], object] | None = None,
    ) -> Worker:
        """Be a worker of the group: one job after the other, for ever. Who asks for the next job has done the one
        before, and it is acked. An exception that leaves the `with` gives the job in hand back (nack).

            with client.work("jobs", "resizers", lease="2m") as jobs:
                for job in jobs:
                    resize(job.data)

        A job whose `lease` (at most an hour; the group's `ack_timeout`) is over goes to another worker: let it be
        longer than a job takes, or call `jobs.extend()`. After a crash a job comes again when its lease is over, so it
        may be done twice. Several workers at once are several calls. The first one makes the group, which needs the
        right to `admin`. An outage of the server is waited for, for `retry_for` seconds (None: for ever).
        """
        work = Work(self._queue(topic, group), lease, retry_for)
        return Worker(self._runner, Feed(self._connection, work.jobs()), on_gap, work)

    def pull(
        self, topic: str, group: str, *, max: int = 10, wait: Duration | None = None, lease: Duration | None = None
    ) -> Jobs:
        """Take at most `max` jobs (100), each leased to you for `lease`; `wait` for the first one, at most a minute.
        Settle them with `ack`, `nack` and `extend`. If the answer is lost, its jobs come again when their leases are
        over."""
        patience = self._connection.retry_for
        return self._runner.run(self._queue(topic, group).pull, max, wait, lease, patience)

    def ack(self, topic: str, group: str, ids: Ids) -> dict[str, Result]:
        """These jobs are done: jobs, ids of leases or ids of messages, 1,000 at most. For each id: `done`, `expired` or
        `unknown`. Raises LeaseExpired when every lease is over."""
        return self._settle(topic, group, "ack", ids)

    def nack(
        self, topic: str, group: str, ids: Ids, *, delay: Duration | None = None, reason: str | None = None
    ) -> dict[str, Result]:
        """These jobs are not done: another worker shall try, after a time that grows with the failures, or `delay`.
        `reason` is for people, at most 200 characters: `jobs` shows it, and the message has it when it is dead."""
        return self._settle(topic, group, "nack", ids, reason=reason, delay=delay)

    def extend(self, topic: str, group: str, ids: Ids, *, lease: Duration | None = None) -> dict[str, Result]:
        """These jobs take longer: their leases end `lease` from now, or after the group's `ack_timeout`."""
        return self._settle(topic, group, "extend", ids, lease=lease)

    def _settle(
        self, topic: str, group: str, verb: Verb, ids: Ids, *, reason: str | None = None, **options: Duration | None
    ) -> dict[str, Result]:
        patience = self._connection.retry_for
        queue = self._queue(topic, group)
        return self._runner.run(queue.settle, verb, ids, patience, reason=reason, **options)

    def _queue(self, topic: str, group: str) -> WorkQueue:
        return WorkQueue(self._connection, topic, group)

    # Topics and groups

    def topics(self, match: str | None = None) -> list[TopicState]:
        """All topics, or those that the pattern matches, by name."""
        found = self._runner.run(self._connection.read, TopicList, "GET", "topics", params=given(match=match))
        return found.topics

    def topic(self, topic: str) -> TopicState:
        """Raises NotFound."""
        return self._runner.run(self._connection.read, TopicState, "GET", topic_path(topic))

    def set_topic(
        self,
        topic: str,
        *,
        max_messages: int | None = None,
        max_bytes: int | None = None,
        max_age: Duration | None = None,
    ) -> TopicState:
        """Set how much of a topic is kept; what is None stays as it is. The topic is made if there is none."""
        age = None if max_age is None else duration(max_age)
        change = given(max_messages=max_messages, max_bytes=max_bytes, max_age=age)
        return self._runner.run(self._connection.read, TopicState, "PUT", topic_path(topic), json=change)

    def delete_topic(self, topic: str) -> None:
        """Delete a topic with its messages and groups. Raises NotFound when there is none, or it is gone by then."""
        self._runner.run(self._connection.insist, "DELETE", topic_path(topic))

    def groups(self, topic: str) -> list[GroupState]:
        """The groups of a topic, by name. Raises NotFound."""
        state = self.topic(topic)
        return [self.group(topic, group) for group in state.groups]

    def group(self, topic: str, group: str) -> GroupState:
        """Raises NotFound."""
        path = topic_path(topic, "groups", group)
        return self._runner.run(self._connection.read, GroupState, "GET", path)

    def set_group(
        self,
        topic: str,
        group: str,
        *,
        start: Since | None = None,
        ack_timeout: Duration | None = None,
        max_deliveries: int | None = None,
        dead_letter: str | None = None,
    ) -> GroupState:
        """Make a group, or change how it works; what is None stays as it is. `start`: where a new group begins.
        `ack_timeout`: how long a lease lasts. `max_deliveries`: how often a job is handed out before it is dead, and
        moved to the topic `dead_letter`."""
        timeout = None if ack_timeout is None else duration(ack_timeout)
        begin = None if start is None else place(start)
        change = given(start=begin, ack_timeout=timeout, max_deliveries=max_deliveries, dead_letter=dead_letter)
        path = topic_path(topic, "groups", group)
        return self._runner.run(self._connection.read, GroupState, "PUT", path, json=change)

    def delete_group(self, topic: str, group: str) -> None:
        """Delete a group; the messages stay in the topic. Raises NotFound when there is none, or it is gone by then."""
        self._runner.run(self._connection.insist, "DELETE", topic_path(topic, "groups", group))

    def ticket(self) -> Ticket:
        """A ticket for one stream, to hand to a browser in place of the token."""
        return self._runner.run(self._connection.read, Ticket, "POST", "tickets")
