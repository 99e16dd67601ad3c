"""What is for one subscriber, on every engine, with sockets that take some of it, or nothing, and go.

Whatever happens: each message is with a socket that took it whole, or comes to another one; and no second one gets it
while the first is there, nor when it is gone and is known to have taken the message.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Final

import pytest

from app.broker.broker import Broker, Timing
from app.fanout.subscriber import Subscriber
from app.fanout.transit import CHECK_INTERVAL
from app.log.topic_log import Limits, Retention
from app.messages.message import Delivery, Receipt, parse_id
from app.messages.position import LATEST
from app.messages.topic import TopicFilter
from app.net.progress import ALL, Progress
from app.storage.clock import LogClock
from app.storage.engine import Engine
from app.storage.replicated.engine import ReplicatedEngine
from app.tcp.encoders import TEXT
from tests.engines.conftest import ENGINES, Clock
from tests.engines.local_journal import LocalJournal, SharedLog
from tests.harness import DEADLINE, draft
from tests.storage.replicated.nodes import settled

STEPS: Final = 150
TOPICS: Final = ["a.x", "a.y"]
FILTERS: Final = [["a.x"], ["a.*"], ["a.x", "a.y"]]
LIMITS: Final = Limits(Retention(100_000, 1 << 30))


class Socket:
    """It takes as many of its bytes as it is told to, and hides some of them until nothing moves, as TLS does."""

    def __init__(self, hides: int) -> None:
        self.subscriber: Subscriber
        self.written = b""
        self.taken = 0
        self.end_of_it: Progress | None = None
        self.hides = hides

    def write(self, data: bytes) -> None:
        self.written += data

    def take(self, nbytes: int) -> None:
        self.taken = min(self.taken + nbytes, len(self.written))

    @property
    def given(self) -> list[str]:
        return _bodies(self.written)

    @property
    def has(self) -> list[str]:
        """What it took whole."""
        return _bodies(self.written[: self.taken])

    def progress(self) -> Progress:
        return self.end_of_it or Progress(self.taken, len(self.written) - self.taken, self.hides)

    def leave(self, in_good_order: bool) -> None:
        """In good order the system sees to what was written."""
        if in_good_order:
            self.taken = len(self.written)
        self.end_of_it = ALL if in_good_order else self.progress().last
        self.subscriber.detach()

    def pending(self) -> int:
        return 0

    def end(self, reason: str) -> None:
        pass

    def abort(self) -> None:
        raise AssertionError


def _bodies(data: bytes) -> list[str]:
    return [line.split()[3].decode() for line in data.split(b"\r\n")[:-1] if line.startswith(b"MSG")]


class Play:
    def __init__(self, broker: Broker, dice: random.Random) -> None:
        self.broker = broker
        self.dice = dice
        self.published: list[str] = []
        self.there: list[Socket] = []
        self.gone: list[Socket] = []

    async def step(self) -> None:
        await self.dice.choices(
            [self.publish, self.come, self.take, self.leave, self.fill, self.wait], [8, 3, 6, 2, 1, 4]
        )[0]()
        self.check()

    async def publish(self) -> None:
        for _ in range(self.dice.randint(1, 5)):
            body = f"m{len(self.published)}" + "x" * self.dice.choice([0, 50])
            self.published.append(body)
            await self.broker.publish([draft(self.dice.choice(TOPICS), body.encode(), delivery=Delivery.ONE)])

    async def come(self) -> None:
        socket = Socket(self.dice.choice([0, 0, 100]))
        socket.subscriber = self.broker.subscribe(
            TopicFilter(self.dice.choice(FILTERS)), TEXT, socket, limit=self.dice.choice([None, 1_000_000])
        )
        socket.subscriber.start(LATEST)
        self.there.append(socket)

    async def take(self) -> None:
        for socket in self.there:
            socket.take(self.dice.choice([0, 10, 70, 10_000]))

    async def leave(self) -> None:
        if self.there:
            socket = self.there.pop(self.dice.randrange(len(self.there)))
            socket.leave(in_good_order=self.dice.random() < 0.3)
            self.gone.append(socket)

    async def fill(self) -> None:
        for socket in self.there:
            self.dice.choice([socket.subscriber.pause, socket.subscriber.resume])()

    async def wait(self) -> None:
        await asyncio.sleep(self.dice.choice([0, 0, CHECK_INTERVAL]))

    def check(self) -> None:
        """Nobody else is given what somebody has, or what a living socket was given."""
        living = [body for socket in self.there for body in socket.given]
        had = [body for socket in self.gone if not socket.hides for body in socket.has]
        assert len(living) == len(set(living))
        assert not set(living) & set(had)
        assert len(had) == len(set(had))

    async def end(self) -> None:
        """A last one comes, all others leave, and it is told of what is left."""
        socket = Socket(0)
        socket.subscriber = self.broker.subscribe(TopicFilter(["a.*"]), TEXT, socket)
        socket.subscriber.start(LATEST)
        while self.there:
            await self.leave()
            await self.wait()
        self.there.append(socket)
        async with asyncio.timeout(DEADLINE):
            while any(info.state.messages for info in (await self.broker.directory.topics()).items):
                socket.take(1_000)
                await asyncio.sleep(CHECK_INTERVAL)
        self.check()
        had = [body for socket in (*self.gone, *self.there) for body in socket.has]
        assert set(had) == set(self.published)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("make", ENGINES.values(), ids=ENGINES)
async def test_each_message_for_one_ends_with_one_that_took_it_and_has_one_at_a_time(
    make: Callable[[Limits, Clock], Engine], seed: int
) -> None:
    async with Broker(make(LIMITS, Clock()), Timing(coalesce=0)) as broker:
        play = Play(broker, random.Random(seed))
        for _ in range(STEPS):
            await play.step()
        await play.end()
        for socket in play.there:
            socket.leave(in_good_order=True)


async def test_what_arrives_of_a_log_that_was_replaced_is_not_what_is_in_transit_in_the_new_one() -> None:
    clock = Clock()
    log = SharedLog(LogClock(clock).now)
    journal = LocalJournal(log)
    async with Broker(ReplicatedEngine(LIMITS, clock, journal), Timing(coalesce=0)) as broker:
        old, new, last = Socket(0), Socket(0), Socket(0)
        await listen(broker, old)
        kept = log.number
        old_receipt = await broker.publish([draft("a.x", b"old", delivery=Delivery.ONE)])
        log.lose_after(kept)
        await replaced(broker)
        old.leave(in_good_order=False)
        await listen(broker, new)
        new_receipt = await broker.publish([draft("a.x", b"new", delivery=Delivery.ONE)])
        assert isinstance(old_receipt, Receipt)
        assert isinstance(new_receipt, Receipt)
        assert parse_id(old_receipt.id).seq == parse_id(new_receipt.id).seq, "or this tests nothing"
        old.end_of_it = ALL
        broker._fanout.transit._check()
        await settled()
        new.leave(in_good_order=False)
        await listen(broker, last)
        async with asyncio.timeout(DEADLINE):
            while last.given != ["new"]:  # noqa: ASYNC110
                await asyncio.sleep(CHECK_INTERVAL)


async def listen(broker: Broker, socket: Socket) -> None:
    socket.subscriber = broker.subscribe(TopicFilter(["a.x"]), TEXT, socket)
    if begun := socket.subscriber.start(LATEST):
        await begun


async def replaced(broker: Broker) -> None:
    """The node has noticed, and has read the log again."""
    before = broker.log.epoch
    async with asyncio.timeout(DEADLINE):
        while broker.log.unready or broker.log.epoch == before:  # noqa: ASYNC110
            await asyncio.sleep(CHECK_INTERVAL)
