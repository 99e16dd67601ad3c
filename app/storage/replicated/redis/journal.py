"""The journal in Redis.

Two connections: one appends, one waits for entries. If either fails, both are given up, and the engine opens the
journal again. An incarnation that no node has begun gets back what it lacks from each node that comes; then one node
begins it.
"""

import asyncio
from asyncio import Future, get_running_loop
from collections.abc import AsyncIterator, Sequence
from functools import partial
from logging import WARNING
from secrets import token_hex
from typing import Any, Final

import hiredis
import msgspec

from ....errors import LogFull, OutcomeUnknown, PlainmqError, StorageFailed
from ....telemetry.log import log_event
from ...unusable import StoreUnusable
from ..journal import Entry, Head, JournalLost, Snapshot
from ..remote import CHECK, NEW_NODE_PAUSE, TIMEOUT, RemoteJournal, settle
from .address import Address
from .connection import Connection
from .primary import Primary
from .scripts import APPEND, BEGIN, HEAD, HEAL, RESTORE, SAVE
from .server import Durability, Server, parse_info

CONFIRM: Final = 1.0  # seconds for replicas or the disk, of each entry
READ_BYTES: Final = 1 << 20  # about so many bytes of entries are read at a time, since Redis limits only their number
MAX_READ: Final = 256  # entries
SAVE_TIMEOUT: Final = 300  # seconds for a snapshot: the chunks of one that is not finished stay as long
RESTORE_TIMEOUT: Final = 10  # seconds without a chunk of a snapshot that a node gives back: others need not wait longer


_NO_RIGHT: Final = ("NOPERM", "can't run this command", "ACL failure")  # of Redis 7, of later ones and Valkey


class Session(msgspec.Struct):
    """Connections to one incarnation of the primary."""

    writer: Connection
    reader: Connection
    server: Server
    append: bytes  # the script's hash

    def end(self) -> None:
        self.writer.abort()
        self.reader.abort()


class RedisJournal(RemoteJournal):
    def __init__(
        self, address: Address, durability: Durability = Durability(), timeout: float = TIMEOUT,  # noqa: B008
        new_node_pause: float = NEW_NODE_PAUSE,
    ) -> None:  # fmt: skip
        super().__init__(timeout, new_node_pause)
        self.durability = str(durability)
        self._address, self._policy = address, durability
        self._primary = Primary(address, timeout)
        self._session: Session | None = None
        place = f"{{plainmq:{address.name}}}"
        self._head_key, self._log_key = f"{place}:head".encode(), f"{place}:log".encode()
        self._snapshot_key, self._restoring_key = f"{place}:snapshot".encode(), f"{place}:restoring".encode()

    # Opening

    async def _open(self) -> Head:
        self._end_session()
        try:
            async with asyncio.timeout(self._timeout + self._new_node_pause):
                self._session = await self._connect()
                head = await self.head()
                return head if head.begun else await self._give_back_all(head)
        except TimeoutError:
            raise JournalLost(f"Redis at {self._address} does not answer") from None
        except hiredis.ReplyError as error:
            raise JournalLost(f"Redis at {self._address} refuses a command: {error}") from None

    async def _connect(self) -> Session:
        async with asyncio.timeout(self._timeout):
            host, port = await self._primary.find()
            writer = await self._primary.connect(host, port)
            try:
                reader = await self._primary.connect(host, port)
                server = Server(f"{host}:{port}", parse_info(await writer.ask("INFO")), await _config(writer))
                server.check(self._policy)
                append = await writer.ask("SCRIPT", "LOAD", self._script(APPEND))
            except BaseException:
                writer.abort()
                raise
        if not self._served and (sentence := server.warning()):
            log_event("messages may be lost", WARNING, detail=sentence)
        return Session(writer, reader, server, append)

    def _script(self, script: str) -> str:
        return script

    async def head(self) -> Head:
        number, link, begun = await self._told_to(self._current(), b"EVAL", HEAD, 2, self._head_key, self._log_key)
        return Head(number, link, bool(begun), self._recent.is_behind(number))

    def _script_of(self, script: str) -> tuple[bytes | str | int, ...]:
        keys = (self._head_key, self._log_key, self._snapshot_key, self._restoring_key)
        return (b"EVAL", self._script(script), len(keys), *keys)

    def _run(self, session: Session, script: str, *args: bytes | str | int) -> "Future[Any]":
        return session.writer.ask(*self._script_of(script), *args)

    async def _give_back(self, head: Head, entries: Sequence[Entry]) -> int:
        fields = (field for entry in entries for field in (entry.link, round(entry.time * 1e6), entry.data))
        return len(entries) * int(await self._run(self._current(), HEAL, head.number, head.link, *fields))

    async def begin(self, seen: Head, link: bytes, data: bytes) -> bool:
        session = self._current()
        try:
            async with asyncio.timeout(self._timeout):
                return bool(await self._run(session, BEGIN, seen.number, seen.link, link, data))
        except (TimeoutError, hiredis.ReplyError) as error:
            if self._recent.newest is None and any(words in str(error) for words in _NO_RIGHT):  # not while it serves
                raise StoreUnusable(f"Redis at {self._address} refuses the user a command: {error}") from None
            raise JournalLost(f"Redis at {self._address} does not begin: {error}") from None

    async def close(self) -> None:
        self._end_session()

    def _end_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.end()

    def _current(self) -> Session:
        if self._session is None:
            raise JournalLost("the journal is not open")
        return self._session

    # Appending

    def append(self, link: bytes, data: bytes) -> "Future[None]":
        future: Future[None] = get_running_loop().create_future()
        try:
            session = self._current()
            on_reply = partial(self._on_appended, session, future)
            session.writer.send(on_reply, b"EVALSHA", session.append, b"2", self._head_key, self._log_key, link, data)
            if (confirm := self._confirm_command(session)) is not None:
                session.writer.send(partial(self._on_confirmed, future), *confirm)
        except JournalLost as error:
            self._end_session()
            settle(future, StorageFailed(f"{error}: nothing was stored; try again in a few seconds"))
        return future

    def _confirm_command(self, session: Session) -> tuple[str | int, ...] | None:
        milliseconds = int(CONFIRM * 1000)
        if self._policy.policy == "replicated":
            return ("WAIT", self._policy.replicas, milliseconds)
        if self._policy.policy == "disk" and not session.server.syncs_each_write:
            return ("WAITAOF", 1, 0, milliseconds)
        return None

    def _on_appended(self, session: Session, future: "Future[None]", reply: Any) -> None:
        if reply == 1:
            if self._confirm_command(session) is None:
                settle(future)
            return
        error = reply if isinstance(reply, JournalLost) else _refusal(reply)
        settle(future, error)
        if not isinstance(error, LogFull):
            session.end()  # it may be another primary, or another log: look again

    def _on_confirmed(self, future: "Future[None]", reply: Any) -> None:
        if isinstance(reply, Exception):
            settle(future, JournalLost(str(reply)))
            return
        reached = reply if self._policy.policy == "replicated" else reply[0]
        wanted = self._policy.replicas if self._policy.policy == "replicated" else 1
        if reached >= wanted:
            settle(future)
            return
        settle(
            future,
            OutcomeUnknown(
                f"the primary has it, but not {self.durability} within {CONFIRM:g} s: it is lost if the primary is "
                "lost now. Repeat it; a publish with the same Idempotency-Key"
            ),
        )

    # Reading

    async def tail(self, after: int) -> AsyncIterator[Sequence[Entry]]:
        session = self._current()
        count = 1
        while True:
            entries = await self._read(session, after, count)
            if session.writer.is_lost or session.writer.waits_longer_than(self._timeout):
                session.end()
                raise JournalLost(f"Redis at {self._address} does not answer")
            if not entries:
                await self._check_head(session, after)
                continue
            for entry in entries:
                self._recent.add(entry)
            after = entries[-1].number
            nbytes = sum(len(entry.data) for entry in entries)
            count = min(2 * count, MAX_READ) if nbytes <= READ_BYTES else max(count // 2, 1)
            yield entries

    async def _read(self, session: Session, after: int, count: int) -> Sequence[Entry]:
        reply = await self._asked(
            session, b"XREAD", b"COUNT", count, b"BLOCK", int(CHECK * 1000), b"STREAMS", self._log_key, b"%d-0" % after
        )
        return [_entry(id, fields) for id, fields in reply[0][1]] if reply else ()

    async def _check_head(self, session: Session, after: int) -> None:
        """Somebody may have deleted the log, or this may be no primary any more. Raises JournalLost."""
        number, link, begun = await self._asked(session, b"EVAL", self._script(HEAD), 2, self._head_key, self._log_key)
        newest = self._recent.newest
        known = newest is None or newest.number != after or newest.link == link
        if not begun or number < after or (number == after and not known):
            session.end()
            raise JournalLost("the log in Redis is not the one that was read")

    # Snapshots

    async def reserve_snapshot(self, number: int) -> bool:
        session, key = self._current(), b"%s:of:%d" % (self._snapshot_key, number)
        return await self._told_to(session, b"SET", key, b"1", b"NX", b"EX", SAVE_TIMEOUT) is not None

    async def save_snapshot(self, number: int, link: bytes, chunks: AsyncIterator[bytes]) -> None:
        session = self._current()
        place, count = await self._put(session, chunks)
        await self._told_to(session, *self._script_of(SAVE), number, link, place, count)

    async def restore(self, seen: Head, number: int, link: bytes, time: float, chunks: AsyncIterator[bytes]) -> bool:
        session = self._current()
        if not await self._told_to(session, b"SET", self._restoring_key, b"1", b"NX", b"EX", RESTORE_TIMEOUT):
            return False
        place, count = await self._put(session, chunks, b"SET", self._restoring_key, b"1", b"EX", RESTORE_TIMEOUT)
        snapshot = (number, link, round(time * 1e6), place, count)
        restored = await self._told_to(session, *self._script_of(RESTORE), seen.number, seen.link, *snapshot)
        if restored:
            self.healed_entries += number - seen.number
        return bool(restored)

    async def _put(self, session: Session, chunks: AsyncIterator[bytes], *after_each: bytes | int) -> tuple[bytes, int]:
        """What the keys of the chunks begin with, and how many they are. They go by themselves if they do not come to
        count."""
        place, count = b"%s:%s:" % (self._snapshot_key, token_hex(8).encode()), 0
        async for chunk in chunks:
            await self._told_to(session, b"SET", b"%s%d" % (place, count), chunk, b"EX", SAVE_TIMEOUT)
            if after_each:
                await self._told_to(session, *after_each)
            count += 1
        return place, count

    async def load_snapshot(self) -> Snapshot | None:
        session = self._current()
        known = await self._told_to(session, b"HMGET", self._snapshot_key, b"n", b"link", b"place", b"count")
        if known[0] is None:
            return None
        number, link, place, count = known
        return Snapshot(int(number), link, self._chunks(session, place, int(count)))

    async def _chunks(self, session: Session, place: bytes, count: int) -> AsyncIterator[bytes]:
        for index in range(count):
            chunk = await self._told_to(session, b"GET", b"%s%d" % (place, index))
            if chunk is None:
                raise JournalLost("the snapshot in Redis was replaced by another while it was read")
            yield chunk

    async def trim(self, before: int) -> None:
        session, left = self._current(), True
        while left:  # by parts: Redis does nothing else meanwhile
            left = await self._told_to(session, b"XTRIM", self._log_key, b"MINID", b"~", b"%d-0" % before)

    async def _told_to(self, session: Session, *command: bytes | str | int) -> Any:
        """Raises JournalLost."""
        try:
            async with asyncio.timeout(self._timeout):
                return await session.writer.ask(*command)
        except TimeoutError:
            raise JournalLost(f"Redis at {self._address} does not answer") from None
        except hiredis.ReplyError as error:
            raise JournalLost(f"Redis at {self._address} refuses a command: {error}") from None

    async def _asked(self, session: Session, *command: bytes | str | int) -> Any:
        """Raises JournalLost."""
        try:
            async with asyncio.timeout(self._timeout + CHECK):
                return await session.reader.ask(*command)
        except (TimeoutError, hiredis.ReplyError) as error:
            session.end()
            raise JournalLost(f"Redis at {self._address} does not answer: {error}") from None
        except JournalLost:
            session.end()
            raise


async def _config(connection: Connection) -> dict[str, str]:
    try:
        reply = await connection.ask("CONFIG", "GET", "appendfsync")
    except hiredis.ReplyError:  # a user, or a hosted server, that may not
        return {}
    words = [word.decode() for word in reply]
    return dict(zip(words[::2], words[1::2], strict=True))


def _entry(id: bytes, fields: Sequence[bytes]) -> Entry:
    _, before, _, link, _, time, _, data = fields
    return Entry(int(id[:-2]), link, before, int(time) / 1e6, data)


def _refusal(reply: Any) -> PlainmqError:
    """Why the entry was not appended."""
    if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("OOM"):
        return LogFull("the memory of Redis is full (maxmemory): nothing was stored; try again when it has room")
    why = "it has not begun" if reply == 0 else str(reply)[:200]
    return StorageFailed(f"Redis has refused to store ({why}): nothing was stored; try again in a few seconds")
