"""With a slow log, as on a disk: replies keep the order of the lines, and memory is bounded."""

import asyncio
import gc
from asyncio import Future
from collections.abc import Sequence
from functools import partial
from math import inf
from typing import Any

import pytest

from app.log.topic_log import Limits
from app.messages.message import Draft, PublishResult, count_messages
from app.storage import clock
from app.storage.memory import MemoryEngine
from app.tcp.connection import MAX_PENDING
from app.tcp.replies import PublishReplies
from app.tcp.session import LineSession
from tests.engines.conftest import ENGINES, Clock
from tests.harness import OPEN
from tests.tcp.peer import DONE, MAX_MESSAGE, Peer, Port, delivered, send, serving, subscribe


class SlowEngine(MemoryEngine):
    """Messages wait until the test calls accept() or fail(), in any order."""

    def __init__(self) -> None:
        super().__init__(Limits(), clock.Clock())
        self.asked: list[tuple[Future[PublishResult], Sequence[Draft]]] = []
        self.changed = asyncio.Event()

    def append_each(self, drafts: Sequence[Draft]) -> "Future[PublishResult]":
        future: Future[PublishResult] = asyncio.get_running_loop().create_future()
        self.asked.append((future, drafts))
        self.changed.set()
        return future

    @property
    def messages(self) -> int:
        """The number that waits to be accepted."""
        return sum(count_messages(drafts) for _, drafts in self.asked)

    async def has(self, count: int) -> None:
        async with asyncio.timeout(20):
            while self.messages < count:
                self.changed.clear()
                await self.changed.wait()

    def accept(self, index: int = 0) -> None:
        future, drafts = self.asked.pop(index)
        future.set_result(super().append_each(drafts).result())

    def fail(self, error: BaseException) -> None:
        self.asked.pop(0)[0].set_exception(error)


@pytest.fixture
def slow() -> SlowEngine:
    return SlowEngine()


async def test_sends_overlap_and_are_answered_in_order(slow: SlowEngine) -> None:
    async with serving(engine=slow) as port, port.connect() as peer:
        peer.send(send("foo", "a"), "pub bar b", "nothing", send("foo", "c"), "ping")
        await slow.has(3)
        for index in (2, 1, 0):
            slow.accept(index)
        lines = await peer.lines(5)
        assert lines[0] == lines[3] == DONE
        assert lines[1].startswith(b"OK ")
        assert lines[2].startswith(b"ERR unknown_command ")
        assert lines[4] == b"OK pong\r\n"


async def test_a_subscribe_waits_for_the_sends_before_it(slow: SlowEngine) -> None:
    async with serving(engine=slow) as port, port.connect() as peer:
        peer.send(send("foo", "a"), subscribe("foo", ',"cache":false'), send("foo", "b"), "ping")
        await slow.has(1)
        slow.accept()
        assert await peer.lines(2) == [DONE, DONE]
        await slow.has(1)
        slow.accept()
        assert sorted(await peer.lines(3)) == sorted([DONE, b"OK pong\r\n", delivered("foo", "b", 1)])


async def test_a_send_is_answered_only_after_the_log_has_it(slow: SlowEngine) -> None:
    async with serving(engine=slow) as port, port.connect() as peer, port.connect() as other:
        peer.send(send("foo", "a"))
        await slow.has(1)
        await other.do(subscribe("foo"))
        assert await other.synchronise() == []
        slow.accept()
        assert await peer.line() == DONE
        assert await other.line() == delivered("foo", "a", 0)


async def test_a_client_that_closes_its_sending_side_still_gets_every_reply(slow: SlowEngine) -> None:
    async with serving(engine=slow) as port, port.connect() as peer:
        peer.send(send("foo", "a"), "ping", "quit")
        peer.writer.write_eof()
        await slow.has(1)
        slow.accept()
        assert await peer.rest() == DONE + b"OK pong\r\n"


async def test_a_failing_log_gets_an_error_reply_and_is_reported(slow: SlowEngine) -> None:
    reported = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
    async with serving(engine=slow) as port, port.connect() as peer:
        peer.send(send("foo", "a"))
        await slow.has(1)
        error = OSError("disk on fire")
        slow.fail(error)
        answer = await peer.line()
        assert b"nobody knows" in answer
        assert b"fire" not in answer
        assert reported == [error]
        await peer.assert_quiet()
    asyncio.get_running_loop().set_exception_handler(None)


async def test_a_client_that_disconnects_meanwhile_harms_nobody(slow: SlowEngine) -> None:
    async with serving(engine=slow) as port, port.connect() as peer:
        async with port.connect() as leaving:
            leaving.send(send("foo", "a"))
            await slow.has(1)
        await peer.assert_quiet()
        slow.accept()
        await peer.do(subscribe("foo"))
        assert await peer.line() == delivered("foo", "a", 0)


async def test_the_number_of_waiting_sends_is_bounded(slow: SlowEngine) -> None:
    more = 500
    async with serving(engine=slow) as port, port.connect() as peer:
        peer.send("pub foo first", *[send("foo", "x")] * (MAX_PENDING - 1 + more))
        await slow.has(MAX_PENDING)
        await settle(port)
        assert slow.messages == MAX_PENDING
        while slow.asked:
            slow.accept()
        await slow.has(more)
        while slow.asked:
            slow.accept()
        assert (await peer.line()).startswith(b"OK ")
        assert set(await peer.lines(MAX_PENDING - 1 + more)) == {DONE}


async def settle(port: Port) -> None:
    """Let the server do all that it can: ten round trips of another client."""
    async with port.connect() as other:
        for _ in range(10):
            await other.assert_quiet()


async def test_the_stop_of_the_server_waits_for_pending_sends(slow: SlowEngine) -> None:
    async with serving(engine=slow) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port.number)
        peer = Peer(reader, writer)
        peer.send(send("foo", "a"))
        await slow.has(1)
        asyncio.get_running_loop().call_soon(slow.accept)
    assert await peer.rest() == DONE
    writer.close()
    await writer.wait_closed()


async def test_sends_of_one_read_are_batched(slow: SlowEngine) -> None:
    async with serving(engine=slow) as port, port.connect() as peer:
        peer.send(send("foo", "a"), send("foo", "b"), send("bar", "c"), send("bar", "d"), "ping", send("bar", "e"))
        await slow.has(4)
        asked = [[body for draft in drafts for body in draft.bodies] for _, drafts in slow.asked]
        assert asked == [[b"a", b"b"], [b"c", b"d"]]
        slow.accept(1)
        slow.accept(0)
        assert await peer.lines(5) == [DONE] * 4 + [b"OK pong\r\n"]
        await slow.has(1)
        slow.accept()
        assert await peer.line() == DONE


async def test_clients_of_one_turn_share_a_commit_and_each_gets_its_own_reply(
    slow: SlowEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.broker.batcher.IDLE_GAP", inf)
    async with serving(engine=slow) as port, port.connect() as one, port.connect() as two:
        await one.assert_quiet()
        await two.assert_quiet()
        one.send(send("foo", "a"), send("foo", "b"))
        two.send("pub foo c", "pub foo d")
        await slow.has(4)
        assert [[body for draft in drafts for body in draft.bodies] for _, drafts in slow.asked] == [
            [b"a", b"b", b"c", b"d"]
        ]
        slow.accept()
        assert await one.lines(2) == [DONE, DONE]
        epoch = port.broker.log.epoch
        assert await two.lines(2) == [f"OK {epoch}-{seq} subscribers=0\r\n".encode() for seq in (3, 4)]


async def test_accepted_messages_are_released_while_their_replies_wait_for_others(slow: SlowEngine) -> None:
    gc.collect()
    async with serving(engine=slow) as port, port.connect() as peer:
        peer.send(send("foo", "a"), send("bar", "b"))
        await slow.has(2)
        slow.accept(1)
        await settle(port)
        replies = [thing for thing in gc.get_objects() if isinstance(thing, PublishReplies)]
        assert sorted([draft.bodies for draft in reply.drafts] for reply in replies) == [[], [(b"a",)]]
        slow.accept()
        assert await peer.lines(2) == [DONE, DONE]


async def test_a_client_has_one_turn_however_many_replies_are_ready(
    slow: SlowEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled = 0

    class Session(LineSession):
        def handle(self, line: bytes) -> None:
            nonlocal handled
            handled += 1
            super().handle(line)

    sends = ["pub a x", "pub b x"] * (MAX_PENDING // 2)
    make = partial(Session, max_message=MAX_MESSAGE, authenticator=OPEN, auth_timeout=10.0)
    async with serving(engine=slow, session=make) as port, port.connect() as peer:
        peer.send(*sends, *["nonsense"] * 50)
        await slow.has(MAX_PENDING)
        await settle(port)
        monkeypatch.setattr("app.tcp.connection.TURN", -1.0)  # one line per turn
        while slow.asked:
            slow.accept()
        turns, handled = list[int](), 0
        while sum(turns) < 50:
            await asyncio.sleep(0)
            turns.append(handled)
            handled = 0
        assert max(turns) == 1
        assert len(await peer.lines(MAX_PENDING + 50)) == MAX_PENDING + 50


async def test_a_client_s_sends_keep_their_order_whatever_their_topics() -> None:
    topics = [*"abaabbcab"] * 20
    async with serving() as port, port.connect() as peer, port.connect() as other:
        peer.send(*(f"pub {topic} x" for topic in topics))
        other.send(*(f"pub {topic} y" for topic in reversed(topics)))
        for client in peer, other:
            ids = [int(line.split()[1].rpartition(b"-")[2]) for line in await client.lines(len(topics))]
            assert ids == sorted(ids)


@pytest.mark.parametrize("kind", ENGINES)
async def test_a_send_is_in_the_log_before_an_ack_that_follows(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer that sends its result and then acks never loses the result in between, although a send of another
    client is refused in the same turn."""
    monkeypatch.setattr("app.broker.batcher.IDLE_GAP", inf)
    engine, done = ENGINES[kind](Limits(), Clock()), list[str]()

    def watched(name: str) -> None:
        ask = getattr(engine, name)

        def asked(*of: Any, **more: Any) -> "Future[Any]":
            future: Future[Any] = ask(*of, **more)
            future.add_done_callback(lambda _: done.append(name))
            return future

        monkeypatch.setattr(engine, name, asked)

    async with serving(engine=engine) as port, port.connect() as consumer, port.connect() as other:
        await port.broker.changes.configure("results", {"max_bytes": 10})
        consumer.send("pub jobs one", "work jobs mail")
        lease = (await consumer.lines(3))[2].split()[2].decode()
        await other.synchronise()
        watched("append_each")
        watched("settle")
        other.send("pub results " + "x" * 11)
        consumer.send("pub results done", f"ack jobs mail {lease}")
        assert [line[:2] for line in await consumer.lines(2)] == [b"OK", b"OK"]
        assert (await other.line()).startswith(b"ERR message_too_large ")
        assert done == ["append_each", "settle"]


async def test_sends_without_room_together_are_tried_one_by_one() -> None:
    async with serving(Limits(total_bytes=10_000)) as port, port.connect() as peer:
        peer.send(*(send("foo", "x" * size) for size in (1_000, 2_000, 20_000, 3_000)))
        lines = await peer.lines(4)
        assert [line == DONE for line in lines] == [True, True, False, True]
        assert b"max_total_bytes" in lines[2]
        assert await peer.ask(subscribe("foo")) == DONE
        assert [len(line) for line in await peer.lines(3)] == [
            len(delivered("foo", "x" * size, index)) for index, size in enumerate((1_000, 2_000, 3_000))
        ]
        await peer.assert_quiet()


async def test_refusals_in_a_batch_come_in_the_order_of_the_lines() -> None:
    async with serving(max_message=10) as port, port.connect() as peer:
        peer.send(send("foo", "a"), send("foo", "b"), send("foo", "x" * 11), send("foo", "c"), "{", send("a b", "x"))
        lines = await peer.lines(6)
        assert [line == DONE for line in lines] == [True, True, False, True, False, False]
        assert b"this one has 11" in lines[2]
        port.broker.drain()
        peer.send(send("foo", "d"), send("foo", "e"), "{")
        lines = await peer.lines(3)
        assert [b"stopping" in line for line in lines] == [True, True, False]
