"""One log in a file, over all the times that it is opened; the clock goes on when the test says so."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from app.log.commands.command import SlicedChange
from app.log.directory import ListQuery
from app.log.groups.state import GroupState
from app.log.reading import Page
from app.log.slices import Slices
from app.log.state import LogStateMachine
from app.log.topic_log import Limits, TopicState
from app.messages.message import Receipt
from app.messages.position import EARLIEST, Start
from app.messages.topic import TopicFilter
from app.storage.sqlite.engine import SqliteEngine
from app.storage.sqlite.file import Synchronous
from tests.engines.conftest import Clock, Opened
from tests.harness import draft


class Endless(SlicedChange, frozen=True, array_like=True, gc=False, tag="endless"):
    """A change in slices that never ends."""

    def decide(self, core: LogStateMachine, now: float) -> Slices[None]:  # noqa: ARG002
        while True:
            yield


class InspectedEngine(SqliteEngine):
    """The engine, which also answers questions that only tests ask."""

    def inspect(self, question: Callable[[LogStateMachine], Any]) -> "asyncio.Future[Any]":
        """Ask the state machine in the writer's thread, as a request of a client would."""
        return self._ask(lambda core, _now: question(core))

    def change_for_ever(self) -> "asyncio.Future[Any]":
        return self._do(Endless())

    def has_vacuumed(self) -> bool:
        return not self._writer.needs_vacuum


class OpenedStore(Opened):
    engine: InspectedEngine


State = TypeVar("State", TopicState, GroupState)


class LogFile:
    def __init__(self, folder: Path, cuts: bool = False) -> None:
        """If it `cuts`, the power fails whenever an opening ends."""
        self.clock = Clock()
        self._cuts = cuts
        self._folder = folder
        self._numbers = count()
        self.path = self._next_path()

    def _next_path(self) -> Path:
        return self._folder / f"{next(self._numbers)}.db"

    @asynccontextmanager
    async def open(self, limits: Limits | None = None, synchronous: Synchronous = "full") -> AsyncIterator[OpenedStore]:
        node = OpenedStore(InspectedEngine(limits or Limits(), self.clock, self.path, synchronous), self.clock)
        await node.engine.open(node.deliver, node)
        try:
            yield node
            if self._cuts:
                await self.cut(node)
        finally:
            await node.engine.close()

    async def cut(self, node: Opened) -> None:
        """The power fails: what goes on is the file as it is when all that was asked for has been done."""
        await node.engine.topics(ListQuery())
        before, self.path = self.path, self._next_path()
        for suffix in ("", "-wal"):
            shutil.copy(f"{before}{suffix}", f"{self.path}{suffix}")


async def append(node: Opened, topic: str, *bodies: str, **options: Any) -> Receipt:
    answer = await node.engine.append([draft(topic, body.encode(), **options) for body in bodies])
    assert isinstance(answer, Receipt)
    return answer


async def page(node: Opened, *names: str, start: Start = EARLIEST, take: bool = False) -> Page:
    topic_filter = TopicFilter(names)
    cursor = await node.engine.locate(topic_filter, start)
    return await node.engine.read(topic_filter, cursor, limit=1_000, nbytes=1 << 30, take=take)


def unmetered(state: State) -> State:
    return msgspec.structs.replace(state, rate=0.0)


async def everything(node: Opened, starts: Iterable[Start] = ()) -> list[Any]:
    """Whatever can be seen from outside without changing anything, but for rates, which no file has; `starts`: where
    subscribers of each topic begin."""
    topics = [unmetered(topic) for topic in (await node.engine.topics(ListQuery())).items]
    return [
        node.engine.epoch,
        topics,
        await page(node, "**"),
        [unmetered(await node.engine.group(topic.topic, group)) for topic in topics for group in topic.groups],
        [await page(node, name, start=start) for name in ("**", *(t.topic for t in topics)) for start in starts],
    ]


_ADDED: Final = {
    2: "sizes",
    6: "at",
    9: "headers",
    11: "redrive",
    12: "ordering",
}  # columns of messages, by the version of the schema that has them

_TOPICS_COST_MORE: Final = 10  # the version since which a topic counts for 64 bytes more


def _cheaper(value: bytes, topics: int) -> bytes:
    note = msgspec.msgpack.decode(value)
    return msgspec.msgpack.encode(note | {"cost": note["cost"] - 64 * topics})


def make_older(db: sqlite3.Connection, version: int) -> None:
    """Give a file without what later versions added the schema of an older version."""
    db.execute("DROP INDEX IF EXISTS message_ordering")
    for column in [column for added, column in _ADDED.items() if added > version]:
        db.execute(f"ALTER TABLE message DROP COLUMN {column}")
    if version < _TOPICS_COST_MORE:
        db.create_function("cheaper", 2, _cheaper)
        topics = "(SELECT count(*) FROM note WHERE kind = 'topic')"
        db.execute(f"UPDATE note SET value = cheaper(value, {topics}) WHERE kind = 'log'")
    db.execute(f"PRAGMA user_version = {version}")
    db.commit()
