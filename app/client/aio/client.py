"""The client of the HTTP API: it publishes each message once, and its subscriptions continue after a reconnect.

It depends on the wire format and on none of the server's code, so it works with an older or newer server too.
"""

import logging
from collections.abc import Callable, Iterable
from os import PathLike
from types import TracebackType
from typing import Final, Self, Unpack, overload

from .. import publishing, reading, streams, watching
from ..answers import (
    Gap,
    GroupPage,
    GroupSort,
    GroupState,
    JobPage,
    Jobs,
    JobState,
    Line,
    Message,
    NewToken,
    Page,
    Published,
    Purged,
    Redriven,
    Result,
    Sample,
    Scheduled,
    ScheduledPage,
    ScheduledPublish,
    ServerInfo,
    Session,
    Stats,
    SubscriberPage,
    Ticket,
    TokenPage,
    TopicPage,
    TopicSort,
    TopicState,
)
from ..connection import Connection
from ..feed import Feed
from ..publishing import Options, When
from ..runners import AsyncRunner
from ..wire import Duration, Since, Time, TokenRights, duration, given, position, scheduled_path, token_path, topic_path
from ..working import Ids, Verb, Work, WorkQueue
from .items import AsyncStream, AsyncWorker

_log: Final = logging.getLogger("plainmq.client")


class AsyncClient:
    """A client of one server.

        async with AsyncClient("http://localhost:8000") as client:
            await client.publish("rooms.kitchen", "hello")
            async for message in client.subscribe("rooms.*", since="10m"):
                print(message.topic, message.data)

    `token`: its rights apply. `ca`: a file of certificates (PEM) to trust instead of those of the system. `retry_for`:
    seconds for which a request without an answer is sent again; a publish then has the same Idempotency-Key, which the
    server remembers for two minutes. `timeout`: seconds for one request and its
    answer, and the longest silence of a stream: more than the server's keep-alive, which is 15. `tell` gets a sentence
    when the server cannot be reached and will be tried again, or when a lease was over too early; without it, that is
    a warning of the logger `plainmq.client`.

    A duration is a text such as `30s`, a number of seconds, or a timedelta. A position (`since`) is an id, `latest`,
    `earliest`, `last:10`, a duration such as `10m`, or a time: RFC 3339, or a datetime with its zone.

    Raises ValueError for an invalid URL or token, or a file without certificates. Every method raises RequestRefused,
    Unreachable, Untrusted or Closed, which are all ClientError.
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
        self._runner = AsyncRunner(self._connection.close)
        self.url = self._connection.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the client: iterators end, and calls that wait raise Closed."""
        await self._runner.end()

    # Publish

    @overload
    async def publish(
        self, topic: str, data: bytes | str, *, delay: None = None, at: None = None, **options: Unpack[Options]
    ) -> Published: ...
    @overload
    async def publish(
        self, topic: str, data: bytes | str, *, delay: Duration, at: None = None, **options: Unpack[Options]
    ) -> Scheduled: ...
    @overload
    async def publish(
        self, topic: str, data: bytes | str, *, delay: None = None, at: Time, **options: Unpack[Options]
    ) -> Scheduled: ...
    @overload
    async def publish(
        self, topic: str, data: bytes | str, *, delay: Duration | None = None, at: Time | None = None,
        **options: Unpack[Options],
    ) -> Published | Scheduled: ...  # fmt: skip
    async def publish(
        self, topic: str, data: bytes | str, *, delay: Duration | None = None, at: Time | None = None,
        **options: Unpack[Options],
    ) -> Published | Scheduled:  # fmt: skip
        """Publish one message: bytes, or a text, which is sent in UTF-8. When this returns, the server has accepted it,
        as durably as the answer says. With `delay` or `at`, nobody gets it before that time.

        `event`: the event name that an EventSource sees. `delivery`: to `all` subscribers, or to exactly `one`.
        `retain`: False delivers it to live subscribers, and does not store it. `ttl`: after this time nobody gets it.
        `idempotency_key`: the same key on the same topic within two minutes stores nothing; by default a new one is
        made. `content_type`: by default `text/plain` if the message is UTF-8. `headers`: short texts that are kept
        with the message, by name, such as `traceparent`. `priority`: from 0, the default, to 9; a group hands out
        higher ones first. `order_key`: of the messages with the same key, a group hands out one at a time, in order.

            await client.publish("orders", json.dumps(order), content_type="application/json", ttl="1h")
        """
        return await self._runner.run(publishing.publish, self._connection, topic, data, When(delay, at), options)

    @overload
    async def publish_batch(
        self,
        topic: str,
        messages: Iterable[bytes | str],
        *,
        delay: None = None,
        at: None = None,
        **options: Unpack[Options],
    ) -> Published: ...
    @overload
    async def publish_batch(
        self,
        topic: str,
        messages: Iterable[bytes | str],
        *,
        delay: Duration,
        at: None = None,
        **options: Unpack[Options],
    ) -> Scheduled: ...
    @overload
    async def publish_batch(
        self, topic: str, messages: Iterable[bytes | str], *, delay: None = None, at: Time, **options: Unpack[Options]
    ) -> Scheduled: ...
    @overload
    async def publish_batch(
        self, topic: str, messages: Iterable[bytes | str], *, delay: Duration | None = None, at: Time | None = None,
        **options: Unpack[Options],
    ) -> Published | Scheduled: ...  # fmt: skip
    async def publish_batch(
        self, topic: str, messages: Iterable[bytes | str], *, delay: Duration | None = None, at: Time | None = None,
        **options: Unpack[Options],
    ) -> Published | Scheduled:  # fmt: skip
        """Publish several messages at once, all or none. They are stored as `application/json`, so a batch has no
        `content_type`. Raises ValueError for a message that is empty, contains a line feed or ends in a carriage
        return."""
        return await self._runner.run(
            publishing.publish_batch, self._connection, topic, messages, When(delay, at), options
        )

    async def copy(self, topic: str, id: str, to: str) -> Published:
        """Publish a message to another topic too, with its content type, event and headers. Raises NotFound."""
        return await self._runner.run(publishing.copy, self._connection, topic, id, to)

    async def scheduled_page(
        self, match: str | None = None, *, after: str | None = None, limit: int = 100
    ) -> ScheduledPage:
        """At most `limit` (1,000) of the publishes with a delay or a time that are not due yet, of all topics or of
        those that the pattern matches, by their due time. Pass the page's `next` as `after` to read on."""
        query = given(match=match, after=after, limit=limit)
        return await self._runner.run(self._connection.read, ScheduledPage, "GET", "scheduled", params=query)

    async def scheduled(self, id: str) -> ScheduledPublish:
        """Raises NotFound; also when it is due."""
        return await self._runner.run(self._connection.read, ScheduledPublish, "GET", scheduled_path(id))

    async def cancel_scheduled(self, id: str) -> None:
        """Cancel a scheduled publish: it is never published. Raises NotFound; also if a repeated request finds it
        cancelled."""
        await self._runner.run(self._connection.insist, "DELETE", scheduled_path(id))

    async def publish_scheduled(self, id: str) -> Published:
        """Publish a scheduled publish now. Raises NotFound; also if a repeated request finds it published."""
        return await self._runner.run(self._connection.read, Published, "POST", scheduled_path(id, "publish"))

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
    ) -> AsyncStream[Message]:
        """Subscribe to topics and patterns: iterate over their messages in the order of the log.

        The subscription starts at `since`, or after the message `last_event_id`, and ends after `limit` messages. When
        the connection breaks or the server restarts, it reconnects and continues at its position. It gives up after
        `retry_for` seconds without contact (None: never). No message is lost, and none comes twice. If messages are
        gone nevertheless (retention deleted them, or the server had them in memory only), the iterator raises
        MessagesLost, or calls `on_gap` and continues.

            async with client.subscribe(["orders", "rooms.*"], since=saved_id) as messages:
                async for message in messages:
                    ...
        """
        names = (topics,) if isinstance(topics, str) else tuple(topics)
        selection = streams.Selection(names, position(since), last_event_id, limit)
        source = streams.subscription(self._connection, selection, retry_for)
        return AsyncStream(self._runner, Feed(self._connection, source), on_gap)

    async def messages(
        self, topic: str, *, since: Since = "earliest", limit: int = 100, wait: Duration | None = None
    ) -> Page:
        """Read a page of the messages that a topic or pattern retains: at most `limit` messages (up to 1,000) and about
        1 MiB. Pass the page's `next` as `since` to read the next one. `wait`: how long to wait for the first message,
        at most a minute. Raises NotFound if there is no such topic."""
        return await self._runner.run(reading.page, self._connection, topic, since, limit, wait)

    async def message(self, topic: str, id: str) -> bytes:
        """The body of one message. Raises NotFound."""
        return await self._runner.run(reading.body, self._connection, topic, id)

    def export(
        self, topic: str = "**", *, since: Since = "earliest", on_gap: Callable[[Gap], object] | None = None
    ) -> AsyncStream[Line]:
        """Iterate over all messages that a topic or pattern retains now, oldest first, in the server's JSON: for a
        copy. Messages that wait for one subscriber (`delivery="one"`) are not exported. Gaps are handled as in
        `subscribe`."""
        source = reading.export(self._connection, topic, position(since))
        return AsyncStream(self._runner, Feed(self._connection, source), on_gap)

    # Work

    def work(
        self,
        topic: str,
        group: str,
        *,
        lease: Duration | None = None,
        retry_for: float | None = None,
        on_gap: Callable[[Gap], object] | None = None,
    ) -> AsyncWorker:
        """Work for a group: iterate over its jobs, without end. Asking for the next job acks the one before. An
        exception that leaves the `async with` nacks the job in hand.

            async with client.work("jobs", "resizers", lease="2m") as jobs:
                async for job in jobs:
                    await resize(job.data)

        When the `lease` of a job is over (default: the group's `ack_timeout`; at most an hour), another worker gets it:
        choose a longer lease than a job takes, or call `jobs.extend()`. After a crash, a job comes again when its lease
        is over, so it may be done twice. For several workers, call this several times. The first call creates the
        group, which needs the right `admin`. During an outage, the worker waits for `retry_for` seconds (None: for
        ever).
        """
        work = Work(self._queue(topic, group), lease, retry_for)
        return AsyncWorker(self._runner, Feed(self._connection, work.jobs()), on_gap, work)

    async def pull(
        self, topic: str, group: str, *, max: int = 10, wait: Duration | None = None, lease: Duration | None = None
    ) -> Jobs:
        """Pull at most `max` jobs (up to 100), each leased for `lease`. `wait`: how long to wait for the first one, at
        most a minute. Settle them with `ack`, `nack` and `extend`. If the answer is lost, its jobs come again when
        their leases are over."""
        retry_for = self._connection.retry_for
        return await self._runner.run(self._queue(topic, group).pull, max, wait, lease, retry_for)

    async def ack(self, topic: str, group: str, ids: Ids) -> dict[str, Result]:
        """Report jobs as done. `ids`: at most 1,000 jobs, ids of leases or ids of messages. Returns `done`, `expired`
        or `unknown` for each id. Raises LeaseExpired if every lease is over."""
        return await self._settle(topic, group, "ack", ids)

    async def nack(
        self, topic: str, group: str, ids: Ids, *, delay: Duration | None = None, reason: str | None = None
    ) -> dict[str, Result]:
        """These jobs are not done: another worker shall try, after a time that grows with the failures, or `delay`.
        `reason` is for people, at most 200 characters: `jobs` shows it, and the message has it when it is dead."""
        return await self._settle(topic, group, "nack", ids, reason=reason, delay=delay)

    async def extend(self, topic: str, group: str, ids: Ids, *, lease: Duration | None = None) -> dict[str, Result]:
        """Extend the leases of jobs: they end `lease` from now (default: the group's `ack_timeout`)."""
        return await self._settle(topic, group, "extend", ids, lease=lease)

    async def release(self, topic: str, group: str, ids: Ids) -> dict[str, Result]:
        """Make these jobs ready at once, also those that another worker has, or that wait for their next attempt. No
        attempt counts as failed."""
        return await self._settle(topic, group, "release", ids)

    async def skip(self, topic: str, group: str, ids: Ids) -> dict[str, Result]:
        """Never hand these messages out again in this group, whatever became of them so far."""
        return await self._settle(topic, group, "skip", ids)

    async def redrive(
        self, topic: str, group: str, ids: str | Iterable[str] | None = None, *, rate: int | None = None
    ) -> Redriven:
        """Return dead messages to this group, and to no other: those with these ids, which `jobs(..., "dead")` shows
        (1,000 at most, all or none of those that are there), or all of them (None). Their attempts begin anew. `rate`:
        how many of them become ready in a second. To repeat it does nothing twice. It needs the right to `admin` on the
        topic and on its dead-letter topic."""
        body = {"all": True} if ids is None else {"ids": [ids] if isinstance(ids, str) else [*ids]}
        path = topic_path(topic, "groups", group, "redrive")
        return await self._runner.run(self._connection.read, Redriven, "POST", path, params=given(rate=rate), json=body)

    async def jobs(
        self, topic: str, group: str, state: JobState = "ready", *, after: str | None = None, limit: int = 100
    ) -> JobPage:
        """Look at the messages of a group that are in this state, in the order of the log, without taking any: at most
        `limit` (1,000) and about 1 MiB. Pass the page's `next` as `after` to read on. Raises NotFound."""
        query = given(topic=topic, group=group, state=state, after=after, limit=limit)
        return await self._runner.run(self._connection.read, JobPage, "GET", "jobs", params=query)

    async def _settle(
        self, topic: str, group: str, verb: Verb, ids: Ids, *, reason: str | None = None, **options: Duration | None
    ) -> dict[str, Result]:
        retry_for = self._connection.retry_for
        queue = self._queue(topic, group)
        return await self._runner.run(queue.settle, verb, ids, retry_for, reason=reason, **options)

    def _queue(self, topic: str, group: str) -> WorkQueue:
        return WorkQueue(self._connection, topic, group)

    # Topics and groups

    async def topics(self, match: str | None = None) -> list[TopicState]:
        """All topics, or those that the pattern matches, sorted by name."""
        found = await self._runner.run(self._connection.read, TopicPage, "GET", "topics", params=given(match=match))
        return found.topics

    async def topic_page(
        self, match: str | None = None, *, sort: TopicSort = "name", after: str | None = None, limit: int = 100
    ) -> TopicPage:
        """At most `limit` topics (1,000), sorted by name or with the greatest figure first. Pass the page's `next` as
        `after` to read on."""
        query = given(match=match, sort=sort, after=after, limit=limit)
        return await self._runner.run(self._connection.read, TopicPage, "GET", "topics", params=query)

    async def topic(self, topic: str) -> TopicState:
        """Raises NotFound."""
        return await self._runner.run(self._connection.read, TopicState, "GET", topic_path(topic))

    async def set_topic(
        self,
        topic: str,
        *,
        max_messages: int | None = None,
        max_bytes: int | None = None,
        max_age: Duration | None = None,
    ) -> TopicState:
        """Set how much of a topic is retained; None leaves a value as it is. Creates the topic if there is none."""
        age = None if max_age is None else duration(max_age)
        change = given(max_messages=max_messages, max_bytes=max_bytes, max_age=age)
        return await self._runner.run(self._connection.read, TopicState, "PUT", topic_path(topic), json=change)

    async def purge(self, topic: str, *, before: Since | None = None) -> int:
        """Delete the messages of a topic, also those that its groups hold, or those `before` an id or a time. Its
        settings and groups stay. Returns how many. Raises NotFound."""
        query = given(before=None if before is None else position(before))
        path = topic_path(topic, "purge")
        return (await self._runner.run(self._connection.read, Purged, "POST", path, params=query)).purged

    async def pause_topic(self, topic: str) -> TopicState:
        """Refuse publishes to the topic, until it is resumed. Raises NotFound."""
        return await self._runner.run(self._connection.read, TopicState, "POST", topic_path(topic, "pause"))

    async def resume_topic(self, topic: str) -> TopicState:
        """Accept publishes to the topic again. Raises NotFound."""
        return await self._runner.run(self._connection.read, TopicState, "POST", topic_path(topic, "resume"))

    async def delete_topic(self, topic: str) -> None:
        """Delete a topic with its messages and groups. Raises NotFound if there is none; also if a repeated request
        finds it deleted."""
        await self._runner.run(self._connection.insist, "DELETE", topic_path(topic))

    async def groups(self, topic: str) -> list[GroupState]:
        """The groups of a topic, sorted by name. Raises NotFound."""
        state = await self.topic(topic)
        return [await self.group(topic, group) for group in state.groups]

    async def group_page(
        self, match: str | None = None, *, sort: GroupSort = "name", after: str | None = None, limit: int = 100
    ) -> GroupPage:
        """At most `limit` groups (1,000) of all topics, or of those that the pattern matches, sorted by name or with
        the greatest figure first. Pass the page's `next` as `after` to read on."""
        query = given(match=match, sort=sort, after=after, limit=limit)
        return await self._runner.run(self._connection.read, GroupPage, "GET", "groups", params=query)

    async def group(self, topic: str, group: str) -> GroupState:
        """Raises NotFound."""
        path = topic_path(topic, "groups", group)
        return await self._runner.run(self._connection.read, GroupState, "GET", path)

    async def set_group(
        self,
        topic: str,
        group: str,
        *,
        start: Since | None = None,
        ack_timeout: Duration | None = None,
        max_deliveries: int | None = None,
        dead_letter: str | None = None,
    ) -> GroupState:
        """Create a group, or change its settings; None leaves a setting as it is. `start`: where a new group begins.
        `ack_timeout`: how long a lease lasts. `max_deliveries`: the attempts after which a job is dead, and moved to
        the topic `dead_letter`."""
        timeout = None if ack_timeout is None else duration(ack_timeout)
        begin = None if start is None else position(start)
        change = given(start=begin, ack_timeout=timeout, max_deliveries=max_deliveries, dead_letter=dead_letter)
        path = topic_path(topic, "groups", group)
        return await self._runner.run(self._connection.read, GroupState, "PUT", path, json=change)

    async def seek(self, topic: str, group: str, to: Since) -> GroupState:
        """Hand out exactly the messages after `to` from now on: an id, a time, `earliest` for all again, `latest` for
        only new ones. What is leased or delayed after it stays so."""
        path = topic_path(topic, "groups", group, "seek")
        return await self._runner.run(self._connection.read, GroupState, "POST", path, json={"to": position(to)})

    async def pause_group(self, topic: str, group: str) -> GroupState:
        """Hand out nothing until the group is resumed, also after a restart. What is leased can be settled."""
        path = topic_path(topic, "groups", group, "pause")
        return await self._runner.run(self._connection.read, GroupState, "POST", path)

    async def resume_group(self, topic: str, group: str) -> GroupState:
        """Hand out again."""
        path = topic_path(topic, "groups", group, "resume")
        return await self._runner.run(self._connection.read, GroupState, "POST", path)

    async def delete_group(self, topic: str, group: str) -> None:
        """Delete a group; the messages stay in the topic. Raises NotFound if there is none; also if a repeated request
        finds it deleted."""
        await self._runner.run(self._connection.insist, "DELETE", topic_path(topic, "groups", group))

    async def subscribers(
        self, match: str | None = None, *, after: int | None = None, limit: int = 100
    ) -> SubscriberPage:
        """Who listens and works at the server: at most `limit` (1,000), in the order in which they came. `match`: those
        that get the messages of a topic, or that listen to topics and patterns which a pattern covers. Pass the page's
        `next` as `after` to read on."""
        query = given(match=match, after=after, limit=limit)
        return await self._runner.run(self._connection.read, SubscriberPage, "GET", "subscribers", params=query)

    async def session(self) -> Session:
        """Who this client is to the server, and what it may do."""
        return await self._runner.run(self._connection.read, Session, "GET", "session")

    async def ticket(self) -> Ticket:
        """Create a ticket for one stream, to give to a browser instead of the token."""
        return await self._runner.run(self._connection.read, Ticket, "POST", "tickets")

    # The server

    async def stats(self, *, history: bool = False) -> Stats:
        """What the server does now; with `history`, also what it did in the last minutes."""
        query = {"history": "true"} if history else {}
        return await self._runner.run(self._connection.read, Stats, "GET", "stats", params=query)

    def watch_stats(self, *, retry_for: float | None = None) -> AsyncStream[Sample]:
        """Iterate over what the server does, once a second. It reconnects as `subscribe` does."""
        source = watching.samples(self._connection, retry_for)
        return AsyncStream(self._runner, Feed(self._connection, source), None)

    async def check_ready(self) -> None:
        """Raises Unavailable, with the reason, if the server is stopping or cannot store messages."""
        await self._runner.run(self._connection.insist, "GET", "readyz")

    # Tokens

    async def tokens(self, *, after: str | None = None, limit: int = 100) -> TokenPage:
        """At most `limit` tokens of the server's file (1,000), by name. Pass the page's `next` as `after` to read on.
        Tokens are managed with the right `admin` on `**`."""
        query = given(after=after, limit=limit)
        return await self._runner.run(self._connection.read, TokenPage, "GET", "tokens", params=query)

    async def create_token(
        self, name: str, *, expires: Duration | None = None, **rights: Unpack[TokenRights]
    ) -> NewToken:
        """Create a token with these rights, each a list of topics and patterns. Only the answer has the token itself.
        Raises RequestRefused if there is one of this name; also if a repeated request finds it created: revoke it then.

            made = await client.create_token("sensors", publish=["rooms.**"], expires="30d")
        """
        body = given(name=name, expires=None if expires is None else duration(expires), **rights)
        return await self._runner.run(self._connection.read, NewToken, "POST", "tokens", json=body)

    async def revoke_token(self, name: str, *, own: bool = False) -> None:
        """Revoke a token: its streams end, and its requests are refused. `own`: also if it is this client's. Raises
        NotFound if there is none; also if a repeated request finds it revoked."""
        await self._runner.run(
            self._connection.insist, "DELETE", token_path(name), params={"own": "true"} if own else {}
        )

    async def server(self) -> ServerInfo:
        """The server: its version, how full its limits are, and the settings in force."""
        return await self._runner.run(self._connection.read, ServerInfo, "GET", "server")
