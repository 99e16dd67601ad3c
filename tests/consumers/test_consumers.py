"""Workers of a broker on each engine: whatever comes between the question and the answer, no message is lost or stuck.

A test that asks for a race runs once for each turn of the event loop at which the other thing can happen.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import cast

import pytest

from app.broker.broker import Broker
from app.consumers.push import PushConsumer
from app.errors import LogFull, NotFound, StorageFailed
from app.log.groups.job import JOB_COST
from app.log.groups.size import GROUP_COST
from app.log.topic_log import Limits
from app.messages.lease import Action, Lease, Outcome, parse_lease_id
from app.storage.clock import Clock as MachineClock
from app.storage.engine import Engine
from app.storage.replicated.engine import ReplicatedEngine
from app.web.sse import SSE_LEASE
from tests.engines.conftest import ENGINES, Clock
from tests.engines.local_journal import LocalJournal, SharedLog
from tests.engines.test_state_machine import TURNS, WorkSocket
from tests.harness import DEADLINE, draft

MOMENTS = range(16)  # turns until the other thing happens: from before the question until after the answer

Make = Callable[[], AbstractAsyncContextManager[Broker]]


@pytest.fixture(params=["memory", "slow"])  # their moments can be counted in turns
def broker(request: pytest.FixtureRequest) -> Make:
    engine: Callable[[Limits, Clock], Engine] = ENGINES[request.param]

    @asynccontextmanager
    async def make() -> AsyncIterator[Broker]:
        async with Broker(engine(Limits(), Clock()), max_subscribers=4) as broker:
            await broker.changes.configure_group("a", "g", {"max_deliveries": 3}, make=True)
            yield broker

    return make


async def turns(count: int = TURNS) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def publish(broker: Broker, *bodies: str) -> str:
    """The id of the first."""
    receipt = await broker.publish([draft("a", body.encode()) for body in bodies])
    return getattr(receipt, "id", "")


async def settle(broker: Broker, action: Action, id: str) -> Outcome:
    (outcome,) = await broker.settle("a", "g", action, [parse_lease_id(id)])
    return outcome


def pull(broker: Broker, wait: float = 60.0, count: int = 1) -> "asyncio.Task[list[Lease]]":
    async def leases() -> list[Lease]:
        return (await broker.pull("a", "g", make=True, count=count, wait=wait)).leases

    return asyncio.get_running_loop().create_task(leases())


def start(broker: Broker, socket: WorkSocket, credit: int = 1) -> PushConsumer:
    worker = broker.push("a", "g", SSE_LEASE, socket, credit=credit)
    worker.start()
    return worker


async def stages(broker: Broker) -> tuple[int, int, int, int]:
    """Ready, leased, delayed; and how many workers there are."""
    info = await broker.directory.group("a", "g")
    return info.state.ready, info.state.leased, info.state.delayed, info.workers


class Leaving(WorkSocket):
    """A socket that breaks when it is written to."""

    worker: PushConsumer

    def write(self, data: bytes) -> None:
        super().write(data)
        self.worker.detach()


class Filling(WorkSocket):
    """A socket that is full when it was written to."""

    worker: PushConsumer

    def write(self, data: bytes) -> None:
        super().write(data)
        self.worker.pause()


class Failing(WorkSocket):
    """A socket that has a fault."""

    worker: PushConsumer

    def write(self, data: bytes) -> None:
        raise RuntimeError(data)

    def end(self, reason: str) -> None:
        super().end(reason)
        self.worker.detach()


async def test_a_consumer_whose_sink_fails_is_ended_and_the_others_have_the_work(broker: Make) -> None:
    loop, reported = asyncio.get_running_loop(), list[str]()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _loop, context: reported.append(context["message"]))
    try:
        async with broker() as it:
            failing, other = Failing(), WorkSocket()
            failing.worker = start(it, failing)
            start(it, other)
            await publish(it, "1")
            await turns()
            await turns()
            assert failing.ends == ["error"]
            assert [(lease.message.seq, lease.attempt) for lease in other.leases] == [(1, 2)]
    finally:
        loop.set_exception_handler(handler)
    assert reported == ["a consumer was cut off: its sink failed"]


@pytest.mark.parametrize("wait", [0.0, 60.0])
async def test_a_consumer_that_leaves_while_the_log_is_queried_takes_nothing(broker: Make, wait: float) -> None:
    for moment in MOMENTS:
        async with broker() as it:
            if not wait:
                await publish(it, "1")
            task = pull(it, wait)
            if wait:
                await turns()
                await publish(it, "1")
            await turns(moment)
            finished = task.done()
            task.cancel()
            await turns()
            assert await stages(it) == ((0, 1, 0, 0) if finished else (1, 0, 0, 0)), moment
            if not finished:
                assert len(await pull(it, 0.0)) == 1


async def test_a_consumer_that_is_ended_while_the_log_is_queried_gets_the_result(broker: Make) -> None:
    for moment in MOMENTS:
        async with broker() as it:
            task = pull(it)
            await turns()
            await publish(it, "1")
            await turns(moment)
            it.drain()
            leases = await task
            assert [lease.attempt for lease in leases] == [1] * len(leases)
            await turns()
            assert await stages(it) == (1 - len(leases), len(leases), 0, 0), moment
            lost = await cast(Engine, it.log).claim("a", "g", count=1, nbytes=1, seconds=None)
            assert [lease.attempt for lease in lost] == [1] * (1 - len(leases)), moment


async def test_what_waits_longer_than_it_wants_to_gets_nothing_and_takes_nothing(broker: Make) -> None:
    async with broker() as it:
        assert await pull(it, 0.001) == []
        await publish(it, "1")
        await turns()
        assert await stages(it) == (1, 0, 0, 0)


async def test_a_worker_that_is_gone_before_its_answer_leaves_the_message_to_others(broker: Make) -> None:
    for moment in MOMENTS:
        async with broker() as it:
            await publish(it, "1")
            worker = start(it, WorkSocket())
            await turns(moment)
            worker.detach()
            worker.detach()
            other = WorkSocket()
            start(it, other)
            await turns()
            assert len(other.leases) == 1, moment
            assert await stages(it) == (0, 1, 0, 1)


async def test_a_worker_may_leave_while_it_is_given_something(broker: Make) -> None:
    async with broker() as it:
        await publish(it, "1", "2", "3")
        first, second = Leaving(), WorkSocket()
        first.worker = start(it, first)
        start(it, second, credit=5)
        await turns()
        assert len(first.leases) == 1
        assert sorted(lease.message.seq for lease in second.leases) == [1, 2, 3]
        assert await stages(it) == (0, 3, 0, 1)


async def test_a_worker_may_be_held_while_it_is_given_something(broker: Make) -> None:
    async with broker() as it:
        await publish(it, "1", "2", "3")
        first, second = Filling(), WorkSocket()
        first.worker = start(it, first, credit=3)
        start(it, second, credit=5)
        await turns()
        assert (len(first.leases), len(second.leases)) == (1, 2)
        await publish(it, "4", "5", "6", "7", "8")
        await turns()
        assert (len(first.leases), len(second.leases)) == (1, 5)
        first.worker.resume()
        await turns()
        assert (len(first.leases), len(second.leases)) == (3, 5)
        first.worker.detach()


async def test_a_lease_that_ends_before_it_arrives_takes_no_credit(broker: Make) -> None:
    for moment in MOMENTS:
        async with broker() as it:
            id = await publish(it, "1")
            socket = WorkSocket()
            start(it, socket)
            await turns(moment)
            await settle(it, Action.ACK, id)
            await turns()
            for lease in socket.leases:
                await settle(it, Action.ACK, str(lease))
            await publish(it, "2")
            await turns()
            assert socket.leases[-1].message.seq == 2, moment


async def test_a_lease_that_ends_before_it_arrives_is_not_given(broker: Make) -> None:
    for moment in MOMENTS:
        async with broker() as it:
            id = await publish(it, "1")
            socket = WorkSocket()
            start(it, socket)
            await turns(moment)
            failed = await settle(it, Action.NACK, f"{id}-1") is Outcome.DONE
            await turns()
            assert socket.leases[-1].attempt == (2 if failed else 1), moment
            assert await stages(it) == (0, 1, 0, 1)


async def test_waiting_consumers_share_new_messages_and_the_first_gets_the_first(broker: Make) -> None:
    async with broker() as it:
        tasks = []
        for _ in range(3):
            tasks.append(pull(it, count=10))
            await turns()
        await publish(it, "1", "2", "3")
        got = [[lease.message.seq for lease in await task] for task in tasks]
        assert got == [[1], [2], [3]]
        assert await pull(it, 0.0) == []  # and their seats are free


async def test_workers_take_turns(broker: Make) -> None:
    async with broker() as it:
        sockets = [WorkSocket() for _ in range(3)]
        for socket in sockets:
            start(it, socket, credit=100)
        await turns()
        await publish(it, *map(str, range(9)))
        await turns(4 * TURNS)
        assert [len(socket.leases) for socket in sockets] == [3, 3, 3]


async def test_a_pull_that_waits_for_a_deleted_group_ends(broker: Make) -> None:
    async with broker() as it:
        await publish(it, "1")
        socket = WorkSocket()
        start(it, socket, credit=2)
        await turns()
        task = pull(it)
        await turns()
        await it.changes.drop_group("a", "g")
        with pytest.raises(NotFound):
            await task
        assert socket.ends == ["deleted"]


async def test_a_worker_that_was_ended_gets_no_more(broker: Make) -> None:
    async with broker() as it:
        await publish(it, "1")
        socket = WorkSocket()
        worker = start(it, socket, credit=2)
        await turns()
        worker.end("age")
        await publish(it, "2")
        await turns()
        assert (len(socket.leases), socket.ends) == (1, ["age"])
        assert await stages(it) == (1, 1, 0, 1)
        worker.detach()
        await turns()
        assert await stages(it) == (2, 0, 0, 0)


async def test_seats_are_given_back(broker: Make) -> None:
    async with broker() as it:
        for _ in range(5):
            worker = start(it, WorkSocket())
            await turns()
            worker.detach()
            assert await pull(it, 0.0) == []
            task = pull(it)
            await turns()
            task.cancel()
            await turns()
        assert await stages(it) == (0, 0, 0, 0)


@pytest.mark.parametrize("engine", ["memory", "slow"])
async def test_a_worker_waits_while_there_is_no_memory_for_another_lease(engine: str) -> None:
    limits = Limits(memory_bytes=GROUP_COST + 2 * JOB_COST)
    async with Broker(ENGINES[engine](limits, Clock())) as broker:
        await broker.changes.configure_group("a", "g", {}, make=True)
        await publish(broker, "1", "2", "3")
        start(broker, socket := WorkSocket(), credit=9)
        await turns()
        assert [lease.message.seq for lease in socket.leases] == [1, 2]
        with pytest.raises(LogFull):
            await pull(broker)
        await settle(broker, Action.ACK, str(socket.leases[0]))
        await turns()
        assert [lease.message.seq for lease in socket.leases] == [1, 2, 3]
        assert not socket.ends


async def test_a_consumer_that_comes_while_the_journal_is_away_waits_until_it_is_back() -> None:
    log = SharedLog(time.time)
    journal = LocalJournal(log)
    async with Broker(ReplicatedEngine(Limits(), MachineClock(), journal), max_subscribers=4) as it:
        await it.changes.configure_group("a", "g", {}, make=True)
        await publish(it, "1")
        journal.cut = True
        log.wake()
        await turns()
        with pytest.raises(StorageFailed):
            await publish(it, "2")
        worker = WorkSocket()
        start(it, worker)
        await turns()
        journal.cut = False
        async with asyncio.timeout(DEADLINE):
            while not worker.leases and not worker.ends:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert ([lease.message.seq for lease in worker.leases], worker.ends) == ([1], [])
