"""The journal in JetStream: the number of an entry is the sequence of its message, and its time is when it was stored.

A message does not say which entry was before it, since its writer does not know: the stream has one order, and who
begins to read it somewhere reads the entry there once more. What is given back, or begins an incarnation, is appended
only if the newest entry is the expected one.
"""

from asyncio import Future, get_running_loop
from collections.abc import AsyncIterator, Sequence
from functools import partial
from hashlib import sha256
from logging import WARNING
from time import monotonic
from typing import Final

import msgspec
from nats.aio.msg import Msg

from ....errors import LogFull, MessageTooLarge, PlainmqError, StorageFailed
from ....telemetry.log import log_event
from ...unusable import StoreUnusable
from ..journal import Entry, Head, JournalLost, Snapshot
from ..remote import CHECK, NEW_NODE_PAUSE, TIMEOUT, RemoteJournal, settle
from . import api
from .address import Address
from .connection import NO_RESPONDERS, Connection, connect, is_status
from .feed import Feed
from .snapshots import Newest, Snapshots
from .streams import Streams, ask, last_message, publish_after

OPEN_PATIENCE: Final = 2.0  # seconds for each answer while the journal is opened: JetStream gives none without a leader
_WORDS: Final = 9  # of the reply of a message
_SEQUENCE: Final = 5  # the index of its sequence there


class Stored(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message of the log. `life`: the incarnation of the journal in which it was appended; empty if it was given
    back, and then it has the time that it had before."""

    link: bytes
    life: str
    data: bytes
    time: float | None = None


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Stored).decode


class Session(msgspec.Struct):
    """A connection, while the stream and its server live. `snapshot`: the newest one when it began."""

    connection: Connection
    subject: str
    life: str
    snapshots: Snapshots
    snapshot: Newest | None

    def fail(self, reason: str) -> JournalLost:
        """The connection is given up."""
        error = JournalLost(reason)
        self.connection.lose(error)
        return error


class NatsJournal(RemoteJournal):
    def __init__(
        self, address: Address, entry_bytes: int, timeout: float = TIMEOUT, new_node_pause: float = NEW_NODE_PAUSE
    ) -> None:
        """`entry_bytes`: that an entry may have."""
        super().__init__(timeout, new_node_pause)
        self.durability = f"nats:R{address.replicas}"
        self._address = address
        self._streams = Streams(address, entry_bytes)
        self._session: Session | None = None

    # Opening

    async def _open(self) -> Head:
        await self.close()
        connection = await connect(self._address, self._timeout)
        try:
            connection.patience = min(self._timeout, OPEN_PATIENCE)
            await self._streams.check_server(connection)
            self._session = await self._open_streams(connection)
            head = await self.head()
            connection.patience = self._timeout
            return head if head.begun else await self._give_back_all(head)
        except BaseException as error:
            connection.lose(JournalLost(str(error)))
            await connection.closed()
            raise

    async def _open_streams(self, connection: Connection) -> Session:
        await self._streams.open_snapshots(connection)
        snapshots = Snapshots(connection, self._streams)
        snapshot = await snapshots.newest()
        log = await self._streams.open_log(connection, snapshot.number + 1 if snapshot else 1)
        session = Session(connection, _subject(log), _life(connection, log), snapshots, snapshot)
        self._check_completeness(log.state.first_seq, session)
        if not self._served and self._address.replicas == 1 and connection.info.get("cluster"):
            detail = "its stream has one replica in a cluster: what its server loses is lost. Use replicas=3"
            log_event("messages may be lost", WARNING, detail=detail)
        return session

    def _check_completeness(self, first: int, session: Session) -> None:
        """Raises StoreUnusable."""
        known = max(self._recent.newest.number if self._recent.newest else 0, _number(session.snapshot))
        if first > known + 1:
            raise StoreUnusable(
                f"the stream {self._streams.log} of NATS at {self._address} begins with message {first}: somebody has "
                f"removed those before it, and the newest snapshot has those up to {_number(session.snapshot)} only. "
                "To begin anew with an empty log, delete both streams"
            )

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.fail("the journal was closed")
            await session.connection.closed()

    def _current(self) -> Session:
        if self._session is None:
            raise JournalLost("the journal is not open")
        return self._session

    async def head(self) -> Head:
        session, newest = self._current(), self._recent.newest
        message = await last_message(session.connection, self._streams.log, session.subject)
        if message is None:
            return await self._head_of_empty(session)
        stored = decode(message.data)
        is_short = newest is not None and message.seq < newest.number
        begun = stored.life == session.life and not is_short
        return Head(message.seq, stored.link, begun, self._recent.is_behind(message.seq))

    async def _head_of_empty(self, session: Session) -> Head:
        log = await self._streams.find(session.connection, self._streams.log)
        last = log.state.last_seq if log else 0
        return Head(last, self._link_of(session, last), False, self._recent.is_behind(last))

    def _link_of(self, session: Session, number: int) -> bytes:
        """Of an entry that is not in the stream any more. Raises JournalLost."""
        if number == 0:
            return b""
        if session.snapshot is not None and session.snapshot.number == number:
            return session.snapshot.link
        if (link := self._recent.link_of(number)) is not None:
            return link
        raise session.fail(f"entry {number} is not in the stream {self._streams.log} any more")

    async def begin(self, seen: Head, link: bytes, data: bytes) -> bool:
        session = self._current()
        entry = self._stored(session, link, data)
        return await publish_after(session.connection, session.subject, entry, seen.number, of_subject=False)

    async def _give_back(self, head: Head, entries: Sequence[Entry]) -> int:
        session = self._current()
        for last, entry in enumerate(entries, head.number):
            stored = encode(Stored(entry.link, "", entry.data, entry.time))
            if not await publish_after(session.connection, session.subject, stored, last, of_subject=False):
                return last - head.number
        return len(entries)

    # Appending

    def append(self, link: bytes, data: bytes) -> "Future[None]":
        future: Future[None] = get_running_loop().create_future()
        try:
            session = self._current()
            entry = self._stored(session, link, data)
            if len(entry) > (most := session.connection.max_payload):
                raise MessageTooLarge(f"an entry of the log has {len(entry)} bytes, and NATS takes {most}")
            session.connection.send(partial(self._on_appended, session, future), session.subject, entry)
        except JournalLost as error:
            settle(future, StorageFailed(f"{error}: nothing was stored; try again in a few seconds"))
        except MessageTooLarge as error:
            settle(future, error)
        return future

    def _stored(self, session: Session, link: bytes, data: bytes) -> bytes:
        return encode((link, session.life, data))

    def _on_appended(self, session: Session, future: "Future[None]", answer: Msg | JournalLost) -> None:
        error = answer if isinstance(answer, JournalLost) else _refusal(answer)
        settle(future, error)
        if error is not None and not isinstance(error, LogFull):
            session.fail(str(error))  # it may be another stream: look again

    # Reading

    async def tail(self, after: int) -> AsyncIterator[Sequence[Entry]]:
        session = self._current()
        feed = Feed(session.connection)
        await feed.open(self._streams.log, max(after, 1))
        before: bytes | None = None if after else b""
        checked, is_behind = monotonic(), False
        while True:
            messages = await feed.take(CHECK)
            if messages:
                entries, before = self._entries(session, messages, after, before)
                is_behind = False
                if entries:
                    after = entries[-1].number
                    yield entries
            if monotonic() >= checked + CHECK or session.connection.is_lost:
                is_behind = await self._check(session, after, is_behind)
                checked = monotonic()

    def _entries(
        self, session: Session, messages: Sequence[Msg], after: int, before: bytes | None
    ) -> tuple[Sequence[Entry], bytes]:
        """The entries, and the link of the last. `before`: that of the one with the number `after`; None: not known."""
        entries: list[Entry] = []
        for message in messages:
            number, time = _sequence_and_time(message.reply)
            stored = decode(message.data)
            if number == after:
                before = stored.link
                continue
            if before is None:
                before = self._link_of(session, after)
            entry = Entry(number, stored.link, before, time if stored.time is None else stored.time, stored.data)
            self._recent.add(entry)
            entries.append(entry)
            after, before = number, entry.link
        return entries, before or b""

    async def _check(self, session: Session, after: int, was_behind: bool) -> bool:
        """The stream may have been deleted, or its server replaced; or nobody sends what is in it. Raises JournalLost.
        True: there is more in it than what has come."""
        if session.connection.waits_longer_than(self._timeout):
            raise session.fail(f"NATS at {self._address} does not answer")
        try:
            log = await self._streams.find(session.connection, self._streams.log)
        except JournalLost as error:
            raise session.fail(str(error)) from None
        if log is None or _life(session.connection, log) != session.life or log.state.last_seq < after:
            raise session.fail("the log in JetStream is not the one that was read")
        await self._check_snapshot(session, log.state.first_seq)
        is_behind = log.state.last_seq > after
        if is_behind and was_behind:
            raise session.fail("JetStream does not send the entries that it has")
        return is_behind

    async def _check_snapshot(self, session: Session, first: int) -> None:
        """Note whether somebody has removed entries that no snapshot has. Raises JournalLost."""
        if first > _number(session.snapshot) + 1:
            session.snapshot = await session.snapshots.newest()
        self.needs_snapshot = first > _number(session.snapshot) + 1

    # Snapshots

    async def reserve_snapshot(self, number: int) -> bool:
        return await self._current().snapshots.reserve(number)

    async def save_snapshot(self, number: int, link: bytes, chunks: AsyncIterator[bytes]) -> None:
        await self._current().snapshots.save(number, link, chunks)

    async def load_snapshot(self) -> Snapshot | None:
        return await self._current().snapshots.load()

    async def restore(
        self, seen: Head, number: int, link: bytes, time: float, chunks: AsyncIterator[bytes]  # noqa: ARG002
    ) -> bool:  # fmt: skip
        session = self._current()
        await session.snapshots.save(number, link, chunks)
        newest = await session.snapshots.newest()
        if newest is None or newest.number != number or await self.head() != seen:
            return False
        await self.trim(number + 1)  # beyond the end: the next message has the next number
        self.healed_entries += number - seen.number
        return True

    async def trim(self, before: int) -> None:
        await ask(self._current().connection, api.purge(self._streams.log), api.Purge(before))


def _subject(log: api.Answer) -> str:
    assert log.config is not None
    return log.config.subjects[0]


def _life(connection: Connection, log: api.Answer) -> str:
    """The name of the incarnation. Without a cluster, it is a life of the server: it may have lost what it had not
    written to its disk. In a cluster, it is a term of the stream's leader."""
    if (cluster := log.cluster) is not None and connection.info.get("cluster"):
        server = [cluster.leader, cluster.leader_since]
    else:
        server = [str(connection.info.get("server_id"))]
    return sha256(" ".join([_subject(log), *server]).encode()).hexdigest()[:16]


def _number(snapshot: Newest | None) -> int:
    return snapshot.number if snapshot else 0


def _sequence_and_time(reply: str) -> tuple[int, float]:
    """`$JS.ACK.STREAM.CONSUMER.1.42.42.1700000000000000000.0` → 42, and the time in seconds. Other servers say
    `$JS.ACK.DOMAIN.ACCOUNT.STREAM` and so on, and may have more at the end."""
    words = reply.split(".")
    sequence = _SEQUENCE if len(words) == _WORDS else _SEQUENCE + 2
    return int(words[sequence]), int(words[sequence + 2]) / 1e9


def _refusal(answer: Msg) -> PlainmqError | None:
    """Why the entry was not appended; None if it was."""
    if is_status(answer, NO_RESPONDERS):
        return StorageFailed("no server of NATS has the stream now: nothing was stored; try again in a few seconds")
    if (error := api.decode(answer.data).error) is None:
        return None
    if error.err_code in api.NO_SPACE:
        return LogFull(f"JetStream is full ({error.description}): nothing was stored; try again when it has room")
    return StorageFailed(f"JetStream has refused to store ({error.description}): nothing was stored; try again later")
