"""Consumers of the line port: with a slow log, with a full socket, and when the server stops."""

import asyncio
import gc
import json
import socket
import struct
from asyncio import Future
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from app.broker.broker import Timing
from app.log.topic_log import Limits, Retention
from app.messages.lease import Action, LeaseId, Outcome
from app.messages.position import Gap
from app.storage.clock import Clock
from app.storage.memory import MemoryEngine
from app.tcp.subscriptions import MAX_SUBSCRIPTIONS
from tests.tcp.peer import DEADLINE, DONE, Peer, Port, send, serving, subscribe

EXPIRED = b'{"success": false, "reason": "expired"}\r\n'
UNKNOWN = b'{"success": false, "reason": "unknown"}\r\n'


def work(topic: str, more: str = "") -> str:
    return subscribe(topic, f',"group":"g"{more}')


def ack(topic: str, id: str) -> str:
    return f'{{"command":"ack","topic":"{topic}","group":"g","id":"{id}"}}'


async def publish(peer: Peer, topic: str, *texts: str) -> list[str]:
    """Returns the ids."""
    return [(await peer.ask(f"pub {topic} {text}")).split()[1].decode() for text in texts]


def job_line(topic: str, id: str, text: str, attempt: int = 1) -> bytes:
    return f"JOB {topic} {id}-{attempt} {text}\r\n".encode()


class SlowEngine(MemoryEngine):
    """Group creation and settling wait until the test calls do(), in any order."""

    def __init__(self) -> None:
        super().__init__(Limits(), Clock())
        self.asked: list[tuple[Future[Any], Callable[[], Future[Any]]]] = []
        self.calls: list[list[str]] = []  # the ids of each settle
        self.changed = asyncio.Event()

    def join(self, topic: str, group: str, make: bool = True) -> Future[Gap | None]:
        return self._later(lambda: super(SlowEngine, self).join(topic, group, make))

    def settle(
        self, topic: str, group: str, action: Action, ids: Sequence[LeaseId], seconds: float | None = None, *,
        reason: str | None = None,
    ) -> Future[list[Outcome]]:  # fmt: skip
        self.calls.append([f"{action} {topic} {id}" for id in ids])
        return self._later(lambda: super(SlowEngine, self).settle(topic, group, action, ids, seconds, reason=reason))

    def _later(self, act: Callable[[], Future[Any]]) -> Future[Any]:
        future: Future[Any] = asyncio.get_running_loop().create_future()
        self.asked.append((future, act))
        self.changed.set()
        return future

    async def has(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE):
            while len(self.asked) < count:
                self.changed.clear()
                await self.changed.wait()

    def do(self, index: int = 0) -> None:
        future, act = self.asked.pop(index)
        done = act()
        if error := done.exception():
            future.set_exception(error)
        else:
            future.set_result(done.result())


@pytest.fixture
def slow() -> SlowEngine:
    return SlowEngine()


async def test_work_starts_once_the_group_exists_and_later_lines_wait(slow: SlowEngine) -> None:
    async with serving(engine=slow) as port, port.connect() as peer, port.connect() as other:
        (id,) = await publish(peer, "foo", "a")
        peer.send("work foo g", "ping", "work bar g", "ping")
        await slow.has(1)
        await other.assert_quiet()
        assert len(slow.asked) == 1
        slow.do()
        assert await peer.line() == b"OK working on foo as g\r\n"
        await slow.has(1)
        slow.do()
        lines = await peer.lines(4)
        lines.remove(job_line("foo", id, "a"))
        assert lines == [b"OK pong\r\n", b"OK working on bar as g\r\n", b"OK pong\r\n"]


async def two_jobs(slow: SlowEngine, peer: Peer) -> list[str]:
    """The ids of two messages that are leased to the peer in group `g`."""
    ids = await publish(peer, "foo", "a", "b")
    peer.send(work("foo"))
    await slow.has(1)
    slow.do()
    await peer.lines(3)
    return ids


async def test_acks_overlap_and_are_answered_in_order(slow: SlowEngine) -> None:
    async with serving(engine=slow) as port, port.connect() as peer:
        a, b = await two_jobs(slow, peer)
        peer.send(ack("foo", a), "{", ack("foo", "other-1"), f"ack foo g {b}", ack("bar", a), "ping")
        await slow.has(4)
        for index in (3, 0, 1, 0):
            slow.do(index)
        assert await peer.line() == DONE
        assert b"Could not parse json" in await peer.line()
        assert await peer.line() == UNKNOWN
        assert await peer.line() == b"OK done\r\n"
        assert b"there is no topic 'bar'" in await peer.line()
        assert await peer.line() == b"OK pong\r\n"


async def test_acks_of_one_read_are_batched(slow: SlowEngine) -> None:
    async with serving(engine=slow) as port, port.connect() as peer:
        a, b = await two_jobs(slow, peer)
        nack = ack("foo", b).replace("ack", "nack")
        peer.send(ack("foo", a), ack("foo", "other-1"), nack, ack("foo", b), ack("bar", b), ack("bar", a))
        await slow.has(4)
        acks = [
            [f"ack foo {a}", "ack foo other-1"],
            [f"nack foo {b}"],
            [f"ack foo {b}"],
            [f"ack bar {b}", f"ack bar {a}"],
        ]
        assert slow.calls == acks
        slow.do(3)
        for _ in range(3):
            slow.do()
        assert await peer.lines(2) == [DONE, UNKNOWN]
        assert await peer.line() == DONE
        lines = await peer.lines(4)
        assert sum(b"there is no topic 'bar'" in line for line in lines) == 2
        assert len([line for line in lines if line == EXPIRED or b'"attempt":2' in line]) == 2


async def test_a_consumer_that_disconnects_before_the_group_exists_takes_nothing(slow: SlowEngine) -> None:
    async with serving(engine=slow) as port, port.connect() as peer:
        (id,) = await publish(peer, "foo", "a")
        async with port.connect() as leaving:
            leaving.send(work("foo"))
            await slow.has(1)
        await peer.assert_quiet()
        slow.do()
        peer.send("work foo g")
        await slow.has(1)
        slow.do()
        assert await peer.lines(2) == [b"OK working on foo as g\r\n", job_line("foo", id, "a")]


async def test_a_refusal_after_the_client_has_disconnected_is_not_reported(slow: SlowEngine) -> None:
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    async with serving(engine=slow) as port, port.connect() as peer:
        async with port.connect() as leaving:
            leaving.send(ack("foo", "k3-1"), ack("foo", "k3-2"), ack("bar", "k3-1"))
            await slow.has(2)
            slow.do(1)
            reset = struct.pack("ii", 1, 0)  # an orderly close would wait for the replies
            leaving.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        await peer.assert_quiet()
        slow.do()
        await peer.assert_quiet()
        gc.collect()
        await peer.assert_quiet()
    asyncio.get_running_loop().set_exception_handler(None)
    assert faults == []


async def test_a_client_that_closes_its_sending_side_still_gets_the_reply_to_its_ack(slow: SlowEngine) -> None:
    async with serving(engine=slow) as port, port.connect() as peer, port.connect() as other:
        (id,) = await publish(peer, "foo", "a")
        other.send("work foo g")
        await slow.has(1)
        slow.do()
        assert (await other.lines(2))[1] == job_line("foo", id, "a")
        peer.send(ack("foo", id))
        peer.writer.write_eof()
        await slow.has(1)
        slow.do()
        assert await peer.rest() == DONE


async def test_work_and_ack_see_the_sends_before_them(peer: Peer) -> None:
    peer.send(send("foo", "a"), work("foo"), send("foo", "b"), ack("foo", "other-1"))
    lines = await peer.lines(6)
    messages = [line for line in lines if b'"id"' in line]
    assert [line for line in lines if b'"id"' not in line] == [DONE, DONE, DONE, UNKNOWN]
    assert [line.count(b'"msg":"%b"' % text) for line, text in zip(messages, (b"a", b"b"), strict=True)] == [1, 1]


async def test_acks_of_one_read_are_settled_and_answered_together(peer: Peer, keeps: int) -> None:
    ids = await publish(peer, "foo", "a", "b")
    peer.send(work("foo"))
    await peer.lines(3)
    peer.send(*(ack("foo", id) for id in (*ids, *ids, "other-1", f"{ids[0]}-7")))
    assert await peer.lines(6) == [DONE, DONE, DONE, DONE, UNKNOWN, DONE]
    assert keeps >= 2


async def test_a_connection_has_a_limited_number_of_subscriptions_and_consumers(peer: Peer) -> None:
    await publish(peer, "foo", "a")
    for number in range(MAX_SUBSCRIPTIONS - 1):
        await peer.ask(f"sub t{number}")
    assert (await peer.ask("work foo g")).startswith(b"OK ")
    assert (await peer.line()).startswith(b"JOB ")
    refused = f"a connection has at most {MAX_SUBSCRIPTIONS} subscriptions".encode()
    assert await peer.ask("sub foo") == b"ERR subscriber_limit %b\r\n" % refused
    assert await peer.ask(subscribe("foo", ',"group":"h"')) == b'{"success": false, "reason": "%b"}\r\n' % refused
    assert (await peer.ask("work foo g")).startswith(b"OK ")


async def test_consumers_use_slots_of_subscribers() -> None:
    async with serving(max_subscribers=1) as port, port.connect() as peer, port.connect() as other:
        await publish(peer, "foo", "a")
        assert (await peer.ask("work foo g")).startswith(b"OK ")
        assert (await other.ask("work foo g")).startswith(b"ERR subscriber_limit ")
        assert (await other.ask("sub foo")).startswith(b"ERR subscriber_limit ")


async def test_a_consumer_gets_a_report_of_messages_trimmed_before_it() -> None:
    async with serving(Limits(Retention(max_messages=1))) as port, port.connect() as peer, port.connect() as other:
        (_, kept) = await publish(peer, "foo", "a", "b")
        peer.send("work foo g")
        assert await peer.lines(3) == [
            b"OK working on foo as g\r\n",
            f"GAP 1 messages after earliest are gone (trimmed); it goes on at {kept}\r\n".encode(),
            job_line("foo", kept, "b"),
        ]
        assert port.broker.counters.gaps == 1
        await publish(peer, "bar", "a", "b")
        other.send(work("bar"))
        assert await other.line() == DONE
        assert b'"index":1,' in await other.line()


async def test_a_topic_has_a_limited_number_of_groups() -> None:
    async with serving(Limits(groups=1)) as port, port.connect() as peer:
        await publish(peer, "foo", "a")
        assert (await peer.ask("work foo g")).startswith(b"OK ")
        await peer.line()
        assert (await peer.ask("work foo h")).startswith(b"ERR group_limit topic 'foo' has 1 groups")
        assert b"has 1 groups" in await peer.ask(subscribe("foo", ',"group":"h"'))


async def test_a_topic_refuses_messages_while_its_groups_are_full(peer: Peer, other: Peer, keeps: int) -> None:
    if keeps == 2:
        (a, _b) = await publish(peer, "foo", "a", "b")
        await other.ask("work foo g")
        assert (await peer.ask("pub foo c")).startswith(b"ERR log_full the groups of topic 'foo' have not acked 2")
        assert await peer.ask(f"ack foo g {a}") == b"OK done\r\n"
        assert (await peer.ask("pub foo c")).startswith(b"OK ")


async def test_a_consumer_that_reads_nothing_is_cut_off_and_another_gets_its_messages() -> None:
    """It received the first message. Its socket accepts a part of the others, and the rest is handed out to others."""
    async with (
        serving(timing=Timing(stall=0.2), send_buffer=16 << 10) as port,
        port.connect() as stalled,
        port.connect() as quick,
    ):
        await publish(quick, "foo", *("x" * 200_000 for _ in range(15)))
        await stalled.do(work("foo", ',"credit":100,"lease":"1h"'))
        stalled.stop_reading()
        got: dict[bytes, int] = {}
        quick.send(work("foo", ',"credit":100,"lease":"1h"'))
        assert await quick.line() == DONE
        for _ in range(15):
            line = await quick.line()
            got[line[line.index(b'"index"') :]] = 1
        assert len(got) == 15
        assert any(b'"attempt":2' in line for line in got)


async def test_a_slow_consumer_gets_everything_once_it_reads() -> None:
    async with serving(send_buffer=16 << 10) as port, port.connect() as slow, port.connect() as publisher:
        ids = await publish(publisher, "foo", *(f"{number}{'x' * 100_000}" for number in range(40)))
        await publish(publisher, "bar", *("y" * 100_000 for _ in range(20)))
        slow.stop_reading()
        slow.send(work("foo", ',"credit":100,"lease":"1h"'), subscribe("bar"))
        await publisher.assert_quiet()
        slow.read_again()
        lines = [line for line in await slow.lines(62) if line != DONE]
        jobs = [line for line in lines if b'"topic":"foo"' in line]
        assert [line.split(b'"id":"')[1].split(b'"')[0].decode() for line in jobs] == ids
        assert len(lines) == 60


async def test_a_stopping_server_hands_out_nothing_and_still_settles(port: Port, peer: Peer, other: Peer) -> None:
    """A client without subscriptions stays connected until the listener closes."""
    a, _b = await publish(peer, "foo", "a", "b")
    await peer.ask("work foo g")
    port.broker.drain()
    assert await peer.rest() == job_line("foo", a, "a") + b"BYE draining\r\n"
    assert (await other.ask("work foo g")).startswith(b"ERR draining ")
    assert b"stopping" in await other.ask(work("foo"))
    assert await other.ask(ack("foo", f"{a}-1")) == EXPIRED  # its consumer is gone
    assert await other.ask(ack("foo", "other-1")) == UNKNOWN


async def test_lines_before_quit_are_answered_to_a_consumer(port: Port, peer: Peer) -> None:
    (id,) = await publish(peer, "foo", "a")
    peer.send("work foo g")
    await peer.lines(2)
    peer.send(ack("foo", id), "quit")
    assert await peer.rest() == DONE
    assert (await port.broker.directory.group("foo", "g")).state.acked == 1
    assert (await port.broker.directory.group("foo", "g")).workers == 0


async def test_deleting_a_topic_ends_its_consumers(port: Port, peer: Peer, other: Peer) -> None:
    await publish(peer, "foo", "a")
    await peer.ask("work foo g")
    await other.do(work("foo"))
    await port.broker.changes.drop("foo")
    assert (await peer.rest()).endswith(b"BYE deleted\r\n")
    assert await other.rest() == b""


async def test_workers_that_come_and_go_leave_nothing_behind(port: Port, peer: Peer) -> None:
    await publish(peer, "foo", "a")
    for number in range(20):
        async with port.connect() as passing:
            passing.send("work foo g")
            assert await passing.line() == b"OK working on foo as g\r\n"
            if number % 2:
                passing.send("quit")
                await passing.rest()
    async with asyncio.timeout(DEADLINE):
        while (group := await port.broker.directory.group("foo", "g")).workers:
            await peer.assert_quiet()  # the last close may still be on its way
    assert group.state.leased == 0
    assert group.state.lag + group.state.dead == 1


async def test_a_worker_gets_what_json_sent_with_a_priority_first_and_one_of_a_key(peer: Peer, other: Peer) -> None:
    def line(text: str, options: str) -> str:
        return f'{{"command":"send","topic":"foo","msg":"{text}","delivery":"all"{options}}}'

    await other.do(line("k1", ',"key":"k"'), line("top", ',"priority":9'))
    assert await peer.ask(work("foo")) == DONE
    first, second = await peer.lines(2)
    assert (b'"msg":"top"' in first, b'"msg":"k1"' in second) == (True, True)
    await peer.do(ack("foo", json.loads(first)["id"]))
    await other.do(line("k2", ',"key":"k"'))
    await peer.assert_quiet()
    peer.send(ack("foo", json.loads(second)["id"]))
    lines = await peer.lines(2)
    assert DONE in lines
    assert any(b'"msg":"k2"' in line for line in lines)
