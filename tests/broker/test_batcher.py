"""Publishers of one turn: together in the log, each with an answer of its own."""

import asyncio
from collections.abc import Sequence
from math import inf

import pytest

from app.broker.batcher import MAX_BATCH
from app.broker.broker import Broker
from app.errors import Draining, MessageTooLarge, Refused
from app.log.topic_log import Limits
from app.messages.message import Draft, Id, Receipt
from app.storage.engine import Engine
from tests.engines.conftest import ENGINES, Clock
from tests.harness import DEADLINE, draft


class PendingPublish:
    def __init__(self, topic: str, *bodies: str) -> None:
        self.drafts: Sequence[Draft] = [draft(topic, *map(str.encode, bodies))]
        self.messages = len(bodies)
        self.answer: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()

    def accepted(self, receipt: Receipt, place: int) -> None:
        """Answers its own seq and index."""
        self.answer.set_result((int(receipt.id.rpartition("-")[2]) + place, receipt.index + place))

    def refused(self, error: BaseException) -> None:
        self.answer.set_exception(error)

    def partly_refused(self, outcomes: Sequence[Receipt | Refused]) -> None:
        (outcome,) = outcomes
        if isinstance(outcome, Receipt):
            self.accepted(outcome, 0)
        else:
            self.refused(outcome)

    def abort(self) -> None:
        self.aborted = True


async def answers(broker: Broker, publishers: list[PendingPublish]) -> list[tuple[int, int] | BaseException]:
    for publisher in publishers:
        broker.batcher.add(publisher)
    async with asyncio.timeout(DEADLINE):
        return await asyncio.gather(*[publisher.answer for publisher in publishers], return_exceptions=True)


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param](Limits(), Clock())


@pytest.fixture(autouse=True)
def _busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """No lull is long enough: all wait for the end of the turn."""
    monkeypatch.setattr("app.broker.batcher.IDLE_GAP", inf)


async def test_a_publish_after_an_idle_gap_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Broker(ENGINES["memory"](Limits(), Clock())) as broker:
        one, two, three = (PendingPublish("a", body) for body in ("one", "two", "three"))
        monkeypatch.setattr("app.broker.batcher.IDLE_GAP", -inf)
        broker.batcher.add(one)
        assert one.answer.result() == (1, 0)
        monkeypatch.setattr("app.broker.batcher.IDLE_GAP", inf)
        broker.batcher.add(two)
        monkeypatch.setattr("app.broker.batcher.IDLE_GAP", -inf)
        broker.batcher.add(three)  # somebody waits already
        assert not two.answer.done()
        assert [await two.answer, await three.answer] == [(2, 1), (3, 2)]


async def test_each_publisher_gets_the_position_of_its_own_message(engine: Engine) -> None:
    async with Broker(engine) as broker:
        bodies = [f"m{number}" for number in range(2 * MAX_BATCH + 1)]
        publishers = [PendingPublish("a" if number % 2 else "b", body) for number, body in enumerate(bodies)]
        told = await answers(broker, publishers)
        for publisher, answer in zip(publishers, told, strict=True):
            assert isinstance(answer, tuple)
            message = await engine.get(_id(broker, answer[0]))
            assert message is not None
            assert (message.topic, message.data, message.index) == (
                publisher.drafts[0].envelope.topic, publisher.drafts[0].bodies[0], answer[1],
            )  # fmt: skip


async def test_batches_and_single_messages_get_the_position_of_their_first_message(engine: Engine) -> None:
    async with Broker(engine) as broker:
        many = [f"b{number}" for number in range(MAX_BATCH + 1)]
        sent = [["a"], ["b", "c", "d"], many, ["e"], ["f", "g"]]
        told = await answers(broker, [PendingPublish("t", *bodies) for bodies in sent])
        begin = 0
        for bodies, answer in zip(sent, told, strict=True):
            assert answer == (begin + 1, begin)
            for place, body in enumerate(bodies, begin + 1):
                message = await engine.get(_id(broker, place))
                assert message is not None
                assert message.data == body.encode()
            begin += len(bodies)


async def test_a_batch_that_is_refused_is_refused_whole_and_alone(engine: Engine) -> None:
    async with Broker(engine) as broker:
        await broker.changes.configure("a", {"max_bytes": 10})
        publishers = [PendingPublish("a", *bodies) for bodies in (["one"], ["two", "x" * 11], ["three", "four"])]
        first, second, third = await answers(broker, publishers)
        assert isinstance(second, MessageTooLarge)
        assert [first, third] == [(1, 0), (2, 1)]


async def test_a_refused_publish_does_not_affect_the_others_of_its_batch(engine: Engine) -> None:
    async with Broker(engine) as broker:
        await broker.changes.configure("a", {"max_bytes": 10})
        publishers = [PendingPublish("a", body) for body in ("one", "x" * 11, "two")]
        first, second, third = await answers(broker, publishers)
        assert isinstance(second, MessageTooLarge)
        assert [first, third] == [(1, 0), (2, 1)]


async def test_a_fault_in_one_callback_cuts_it_off_and_the_others_are_called(engine: Engine) -> None:
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context["exception"]))
    async with Broker(engine) as broker:
        one, two = PendingPublish("a", "one"), PendingPublish("a", "two")
        one.answer.set_result((0, 0))  # so that to be told is an error
        assert (await answers(broker, [one, two]))[1] == (2, 1)
        assert one.aborted
        (fault,) = faults
        assert isinstance(fault, asyncio.InvalidStateError)


async def test_publishes_refused_together_get_their_own_results_before_later_requests(engine: Engine) -> None:
    async with Broker(engine) as broker:
        await broker.changes.configure("a", {"max_bytes": 10})
        publishers = [PendingPublish("a", body) for body in ("one", "x" * 11, "two")]
        for publisher in publishers:
            broker.batcher.add(publisher)
        broker.batcher.flush_topic("a")
        later = broker.publish([draft("a", b"later")])
        receipt = await later
        assert isinstance(receipt, Receipt)
        assert receipt.index == 2
        first, second, third = await asyncio.gather(*[one.answer for one in publishers], return_exceptions=True)
        assert [first, third] == [(1, 0), (2, 1)]
        assert isinstance(second, MessageTooLarge)


async def test_a_publish_while_the_broker_drains_is_refused_as_draining(engine: Engine) -> None:
    async with Broker(engine) as broker:
        broker.drain()
        (answer,) = await answers(broker, [PendingPublish("a", "late")])
        assert isinstance(answer, Draining)


def _id(broker: Broker, seq: int) -> Id:
    return Id(broker.log.epoch, seq)


async def test_many_topics_are_published_in_several_turns(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.broker.batcher.TURN", 0.0)
    async with Broker(engine) as broker:
        publishers = [PendingPublish(f"t{number % 5}", f"m{number}") for number in range(20)]
        told = await answers(broker, publishers)
        for publisher, answer in zip(publishers, told, strict=True):
            assert isinstance(answer, tuple)
            message = await engine.get(_id(broker, answer[0]))
            assert message is not None
            assert message.data == publisher.drafts[0].bodies[0]
