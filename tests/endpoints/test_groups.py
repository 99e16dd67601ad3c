"""Four groups of eight workers each on one topic: some are slow, some forget, all are cut off at random.

Ledgers (tests/ledgers/groups.py) record who was given what, and what came of it. They are checked at the end.
"""

import asyncio
import json
import random
import re
import socket
import struct
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Final

import msgspec
import pytest

from tests.event_stream import stream
from tests.harness import ServerProcess, start_server
from tests.ledgers.groups import GroupLedger, ReceivedLease
from tests.line_client import lines

TOPIC: Final = "jobs"
GROUPS: Final = ["a", "b", "c", "d"]
MAX_DELIVERIES: Final = 3
ACK_TIMEOUT: Final = 1.0  # seconds
BATCH: Final = 100  # messages in one publish
AHEAD: Final = 2_000  # how far publishers may be ahead of the slowest group: sometimes there is work, sometimes not
STILL: Final = 10.0  # seconds in which something happens as long as a group is not done: leases and delays take 1 s
LATE: Final = 10  # a worker that is late with so many acks sends them
RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST
FATES: Final = {  # what a worker does with a lease, and how often in a hundred
    ("ack",): 86,
    ("nack",): 5,
    (): 5,
    ("extend", "ack"): 2,
    ("late",): 2,
}


def is_poison(body: str) -> bool:
    """Such messages are nacked by every consumer: 0.5 % of all."""
    return int(body) % 200 == 7


class Record(msgspec.Struct):
    """A message and its lease, as HTTP shows them."""

    id: str
    data: str
    attempt: int
    lease: str
    lease_expires: datetime


class Pulled(msgspec.Struct):
    messages: list[Record]


class Settled(msgspec.Struct):
    results: dict[str, str]


class Line(msgspec.Struct):
    """What the line port says: a message, or an answer."""

    command: str = ""
    msg: str = ""
    id: str = ""
    attempt: int = 0
    success: bool = False
    reason: str = ""


decode_record = msgspec.json.Decoder(Record).decode
decode_pulled = msgspec.json.Decoder(Pulled).decode
decode_settled = msgspec.json.Decoder(Settled).decode
decode_line = msgspec.json.Decoder(Line).decode


class Requests:
    """A connection on which one request follows the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> None:
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\n"
        self.writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    async def ask(self, method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> bytes:
        """The answer's body. An answer that refuses fails; 409 does not: it tells of leases that are over."""
        self.send(method, path, body, content_type)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = re.search(r"content-length: (\d+)", head)
        answer = await self.reader.readexactly(int(length[1]) if length else 0)
        assert head.split()[1] in {"200", "201", "409"}, (head, answer)
        return answer

    async def settle(self, path: str, leases: Iterable[str]) -> dict[str, str]:
        """The outcome of each."""
        answer = await self.ask("POST", path, msgspec.json.encode({"ids": [*leases]}))
        return decode_settled(answer).results


@asynccontextmanager
async def requests(server: ServerProcess) -> AsyncIterator[Requests]:
    reader, writer = await asyncio.open_connection(server.host, server.port, limit=1 << 20)
    try:
        yield Requests(reader, writer)
    finally:
        writer.close()


def cut(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


@dataclass
class Consumer(ABC):
    """How a worker of one group is given work and settles it; it lives on while its connections are cut."""

    server: ServerProcess
    group: str
    name: str
    ledger: GroupLedger
    credit: int
    lease: ClassVar[float]  # seconds
    held: dict[str, ReceivedLease] = field(
        default_factory=dict
    )  # what the server takes back when the connection is lost

    @property
    def path(self) -> str:
        return f"/topics/{TOPIC}/groups/{self.group}"

    @abstractmethod
    async def connect(self, stack: AsyncExitStack) -> None: ...

    @abstractmethod
    async def next(self) -> list[ReceivedLease]:
        """Some leases, or none yet."""

    @abstractmethod
    async def settle(self, action: str, leases: list[ReceivedLease]) -> None: ...

    @abstractmethod
    def cut(self) -> None: ...

    def given(self, lease: ReceivedLease) -> ReceivedLease:
        self.ledger.leased(lease)
        self.held[lease.lease_id] = lease
        return lease

    def record(self, record: Record) -> ReceivedLease:
        end = record.lease_expires.timestamp()
        return self.given(ReceivedLease(record.id, record.attempt, record.data, self.name, end - self.lease, end))

    def settled(self, action: str, lease: ReceivedLease, outcome: str) -> None:
        self.ledger.settled(action, lease, outcome)
        if action != "extend":
            self.held.pop(lease.lease_id, None)

    def lose(self) -> None:
        """The server gives to others what this worker holds, and what is on the way to it."""
        self.ledger.ended(self.held.values())
        self.ledger.unreceived += self.credit
        self.held.clear()


class HttpConsumer(Consumer):
    async def connect(self, stack: AsyncExitStack) -> None:
        self.requests = await stack.enter_async_context(requests(self.server))

    async def settle(self, action: str, leases: list[ReceivedLease]) -> None:
        results = await self.requests.settle(f"{self.path}/{action}", [lease.lease_id for lease in leases])
        for lease in leases:
            self.settled(action, lease, results[lease.lease_id])


class Pull(HttpConsumer):
    """Leases that were pulled are not bound to the connection: what is cut is the next pull."""

    lease = ACK_TIMEOUT

    @property
    def pull(self) -> str:
        return f"{self.path}/pull?max={self.credit}&wait=10s"

    async def next(self) -> list[ReceivedLease]:
        return [self.record(record) for record in decode_pulled(await self.requests.ask("POST", self.pull)).messages]

    def cut(self) -> None:
        self.held.clear()  # the server takes none of them back
        self.requests.send("POST", self.pull)
        self.lose()
        cut(self.requests.writer)


class Stream(HttpConsumer):
    """Server-sent events; acks go by another connection."""

    lease = 0.5

    async def connect(self, stack: AsyncExitStack) -> None:
        await super().connect(stack)
        self.events = await stack.enter_async_context(requests(self.server))
        self.events.send("GET", f"{self.path}/stream?credit={self.credit}&lease={self.lease}s")
        head = await self.events.reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head, head
        self.rest = b""

    async def next(self) -> list[ReceivedLease]:
        """A chunk has whole events, and its size is on a line of its own."""
        data = await self.events.reader.read(1 << 18)
        assert data, "the stream has ended"
        *lines, self.rest = (self.rest + data).split(b"\n")
        return [self.record(decode_record(line[6:])) for line in lines if line.startswith(b"data: ")]

    def cut(self) -> None:
        self.lose()
        cut(self.events.writer)


@dataclass
class LinePort(Consumer):
    """Acks are pipelined; those that a cut leaves without an answer are sent again."""

    lease = 0.8
    asked: deque[tuple[str, ReceivedLease | None]] = field(default_factory=deque)  # and not answered yet

    async def connect(self, stack: AsyncExitStack) -> None:
        unanswered, self.asked = self.asked, deque()
        host, port = self.server.host, self.server.tcp_port
        self.reader, self.writer = await asyncio.open_connection(host, port, limit=1 << 20)
        stack.callback(self.writer.close)
        self.rest = b""
        self.ask("subscribe", None, {"credit": self.credit, "lease": f"{self.lease}s"})
        for action, lease in unanswered:
            if lease is not None:
                await self.settle(action, [lease])

    def ask(self, command: str, lease: ReceivedLease | None, more: dict[str, str | int]) -> None:
        self.asked.append((command, lease))
        line = {"command": command, "topic": TOPIC, "group": self.group} | more
        self.writer.write(msgspec.json.encode(line) + b"\n")

    async def settle(self, action: str, leases: list[ReceivedLease]) -> None:
        for lease in leases:
            self.ask(action, lease, {"id": lease.lease_id})

    async def next(self) -> list[ReceivedLease]:
        data = await self.reader.read(1 << 18)
        assert data, "the server has closed"
        *lines, self.rest = (self.rest + data).split(b"\n")
        said = [decode_line(line) for line in lines]
        for line in said:
            if not line.command:
                self.answered(line)
        return [
            self.given(ReceivedLease(line.id, line.attempt, line.msg, self.name, None, None))
            for line in said
            if line.command
        ]

    def answered(self, line: Line) -> None:
        action, lease = self.asked.popleft()
        assert line.success or line.reason in {"expired", "unknown"}, line
        if lease is not None:
            self.settled(action, lease, line.reason or "done")

    def cut(self) -> None:
        self.lose()
        cut(self.writer)


WORKERS: Final[list[type[Consumer]]] = [Pull, Pull, Pull, Stream, Stream, Stream, LinePort, LinePort]


@dataclass
class Race:
    """`life`: so many leases, at most, a connection sees before it is cut."""

    server: ServerProcess
    count: int
    credit: int
    life: int
    ledgers: dict[str, GroupLedger] = field(default_factory=lambda: {group: GroupLedger() for group in GROUPS})
    published: set[str] = field(default_factory=set)
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, dice: random.Random) -> None:
        consumers: list[Consumer] = [
            kind(self.server, group, f"{group}{n}", ledger, self.credit)
            for group, ledger in self.ledgers.items()
            for n, kind in enumerate(WORKERS)
        ]
        work = [self.work(consumer, random.Random(dice.random())) for consumer in consumers]
        tasks = [asyncio.create_task(task) for task in (self.publish(), self.give_up(), *work)]
        (first, *_), others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        first.result()  # only what failed ends before all is published and done

    async def work(self, consumer: Consumer, dice: random.Random) -> None:
        late: list[ReceivedLease] = []
        while True:
            async with AsyncExitStack() as stack:
                await consumer.connect(stack)
                life = dice.randrange(self.life)
                while life > 0:
                    leases = await consumer.next()
                    life -= len(leases)
                    if leases and life > 0:  # or else it dies with them
                        await self.decide(consumer, leases, late, dice)
                        self.moved.set()
                consumer.cut()

    async def decide(
        self, consumer: Consumer, leases: list[ReceivedLease], late: list[ReceivedLease], dice: random.Random
    ) -> None:
        actions = defaultdict(list)
        fates = dice.choices([*FATES], [*FATES.values()], k=len(leases))
        for lease, fate in zip(leases, fates, strict=True):
            for action in ("nack",) if is_poison(lease.body) else fate:
                actions[action].append(lease)
        late += actions.pop("late", [])
        if len(late) >= LATE:
            actions["ack"] += late
            late.clear()
        consumer.ledger.ended(actions["nack"])
        for action in ("nack", "extend", "ack"):
            if actions[action]:
                await consumer.settle(action, actions[action])

    async def publish(self) -> None:
        """All messages, half of them at each endpoint; returns when every group is done with them, or nothing moves."""
        half = [range(first, first + BATCH) for first in range(0, self.count // 2, BATCH)]
        other = [range(first, first + BATCH) for first in range(self.count // 2, self.count, BATCH)]
        await asyncio.gather(self.publish_batches(half), self.publish_lines(other))
        with suppress(TimeoutError):  # the ledgers will tell what was lost
            while min(ledger.finished for ledger in self.ledgers.values()) < self.count:
                await self.progress()

    async def publish_batches(self, batches: Iterable[range]) -> None:
        async with requests(self.server) as client:
            for batch in batches:
                await self.room(batch)
                body = "".join(f"{n}\n" for n in batch).encode()
                await client.ask("POST", f"/topics/{TOPIC}/messages", body, "application/x-ndjson")

    async def publish_lines(self, batches: Iterable[range]) -> None:
        async with lines(self.server) as client:
            for batch in batches:
                await self.room(batch)
                client.send(*(f'{{"command":"send","topic":"{TOPIC}","msg":"{n}","delivery":"all"}}' for n in batch))
                assert await client.take(len(batch)) == [b'{"success": true}\r\n'] * len(batch)

    async def room(self, batch: range) -> None:
        """Wait until the slowest group has come near, and note what is published next."""
        while len(self.published) - min(ledger.finished for ledger in self.ledgers.values()) > AHEAD:
            await self.progress()
        self.published.update(map(str, batch))

    async def progress(self) -> None:
        self.moved.clear()
        async with asyncio.timeout(STILL):
            await self.moved.wait()

    async def give_up(self) -> None:
        """Read the dead letters, as they come."""
        async with stream(self.server, f"/topics/{TOPIC}.dead/stream?since=earliest&format=json") as events:
            while True:
                event = await events.next()
                assert event is not None
                record = json.loads(event.data)
                assert record["dead"]["topic"] == TOPIC
                self.ledgers[record["dead"]["group"]].dead_lettered(record["dead"], record["data"])
                self.moved.set()


async def race(count: int, credit: int, life: int, seed: int) -> None:
    with start_server() as server:
        await prepare(server)
        race = Race(server, count, credit, life)
        await race.run(random.Random(seed))
        for group, ledger in race.ledgers.items():
            assert ledger.check(race.published, MAX_DELIVERIES) == {}
            assert {record["body"] for record in ledger.dead.values()} >= {*filter(is_poison, race.published)}
            print(
                f"\ngroup {group}: {len(ledger.leases)} leases, {ledger.outcomes}, {len(ledger.dead)} dead, no faults"
            )
        await compare_with_the_server(server, race.ledgers)


async def prepare(server: ServerProcess) -> None:
    async with requests(server) as client:
        for topic in (TOPIC, f"{TOPIC}.dead"):
            await client.ask("PUT", f"/topics/{topic}", b'{"max_messages": 100000, "max_bytes": 100000000}')
        for group in GROUPS:
            settings = {"ack_timeout": f"{ACK_TIMEOUT}s", "max_deliveries": MAX_DELIVERIES}
            await client.ask("PUT", f"/topics/{TOPIC}/groups/{group}", json.dumps(settings).encode())


async def compare_with_the_server(server: ServerProcess, ledgers: dict[str, GroupLedger]) -> None:
    async with requests(server) as client:
        for group, ledger in ledgers.items():
            state = json.loads(await client.ask("GET", f"/topics/{TOPIC}/groups/{group}"))
            expected = {"lag": 0, "ready": 0, "leased": 0, "delayed": 0}
            expected |= {"acked": len(ledger.acked), "dead": len(ledger.dead)}
            assert {name: state[name] for name in expected} == expected
        dead = json.loads(await client.ask("GET", f"/topics/{TOPIC}.dead"))
        assert dead["messages"] == sum(len(ledger.dead) for ledger in ledgers.values())


async def test_each_group_is_done_with_every_message_once_whatever_its_workers_do() -> None:
    async with asyncio.timeout(60):
        await race(2_000, credit=20, life=300, seed=5)


@pytest.mark.slow
async def test_the_same_with_many_messages() -> None:
    async with asyncio.timeout(300):
        await race(50_000, credit=100, life=3_000, seed=6)


IDS = {"e-1": "one", "e-2": "two"}
SOUND = """
    lease e-1 1 v 0 9, lease e-2 1 v 0 9, end e-1 1, lease e-1 2 w 1 9, ack e-1 2, ack e-2 1
"""


def write(ledger: GroupLedger, entries: str) -> None:
    """`lease ID ATTEMPT WORKER BEGIN END`, `end ID ATTEMPT`, `ack ID ATTEMPT`, `die ID ATTEMPTS`."""
    for entry in entries.split(","):
        what, id, attempt, *more = entry.split()
        match what:
            case "lease":
                worker, begin, end, *body = more
                text = body[0] if body else IDS[id]
                ledger.leased(ReceivedLease(id, int(attempt), text, worker, float(begin), float(end)))
            case "die":
                times = {"first_failure": "2026", "last_failure": "2026"}
                ledger.dead_lettered({"id": id, "attempts": int(attempt), "reason": "nack"} | times, IDS[id])
            case _:
                lease = next(it for it in ledger.leases if (it.id, it.attempt) == (id, int(attempt)))
                ledger.ended([lease]) if what == "end" else ledger.settled("ack", lease, "done")


@pytest.mark.parametrize(
    ("entries", "fault"),
    [
        (SOUND, None),
        (SOUND.replace(", ack e-2 1", ""), "lost"),
        (SOUND.replace("end e-1 1, ", ""), "leased to two at once"),
        (SOUND.replace("e-1 2", "e-1 3"), "an attempt was left out"),
        (SOUND.replace("e-1 2", "e-1 4").replace("e-1 1", "e-1 3"), "too many attempts"),
        (SOUND.replace("ack e-1 2", "ack e-1 1"), "handed out after it was acked"),
        (SOUND + ", lease e-2 1 w 9 18", "one attempt given twice"),
        (SOUND + ", die e-2 3", "both acked and dead"),
        (SOUND.replace("ack e-2 1", "die e-2 2"), "dead before its last attempt"),
        (SOUND.replace("ack e-2 1", "die e-2 3, die e-2 3"), "dead twice"),
        (SOUND.replace("e-2 1 v 0 9", "e-2 1 v 0 9 six"), "phantom"),
        (SOUND.replace("e-2 1 v 0 9", "e-2 1 v 0 9 one"), "forged"),
        ("lease e-2 1 v 0 9, lease e-1 1 v 0 9, ack e-1 1, ack e-2 1", "first delivery out of order"),
    ],
)
def test_the_ledger_reports_broken_promises(entries: str, fault: str | None) -> None:
    ledger = GroupLedger()
    write(ledger, entries)
    faults = ledger.check({*IDS.values()}, MAX_DELIVERIES)
    assert fault in faults if fault else not faults
