"""Fuzzing with a fixed seed: each line gets a reply or closes the connection, no reply contains a traceback, and no
other client is harmed."""

import asyncio
import random
import string
from collections.abc import Callable

import pytest

from tests.tcp.peer import DONE, Peer, Port, delivered, send, serving, subscribe

SEED = 7777
COMMANDS = [
    b'{"command":"subscribe","topic":"foo","last_seen":3,"cache":false}', b'{"command":"unsubscribe","topic":"foo"}',
    b'{"command":"send","topic":"foo","msg":"it\\u0041 \\"x\\"","delivery":"one","cache":true}', b'{"command":"ping"}',
    b"{'command':'subscribe', 'topic':'foo', 'last_seen':-1}", b"{'command':'send', 'topic':'foo', 'msg':'it\\'s'}",
    b"{'command':'send', 'topic':'a.b', 'msg':[1, (2.5, None), {'x': b'y'}], 'delivery':'one', 'cache':False}",
    b'{"command":"subscribe","topic":"foo","group":"g","credit":3,"lease":"1s"}', b"work foo g 3", b"unsub foo g",
    b'{"command":"ack","topic":"foo","group":"g","id":"k3f9a2-1-1"}', b"ack foo g k3f9a2-1",
    b'{"command":"nack","topic":"foo","group":"g","id":"k3f9a2-1","delay":"1s"}', b"nack foo g k3f9a2-1 1s",
    b"extend foo g k3f9a2-1 1m",
    b"sub foo.* last:3", b"unsub foo.*", b"pub foo hello, world", b"topics", b"ping", b"help",
]  # fmt: skip
MARKS = b"{}[]()'\"\\,:;.*/- \t\r\x00\x16\x03\xff\xc3\x28" + b"0123456789abcNTFx"


def size(chance: random.Random) -> int:
    return int(100 * 655.36 ** chance.random())  # 100 bytes to 64 KiB, small ones more often


def noise(chance: random.Random) -> bytes:
    return chance.randbytes(size(chance))


def printable(chance: random.Random) -> bytes:
    return "".join(chance.choices(string.printable, k=size(chance))).encode()


def brackets(chance: random.Random) -> bytes:
    return chance.choice([b"{'", b'{"', b"{", b"[", b""]) + bytes(chance.choices(MARKS, k=size(chance)))


def truncated(chance: random.Random) -> bytes:
    command = chance.choice(COMMANDS)
    return command[: chance.randrange(len(command))]


def mutated(chance: random.Random) -> bytes:
    command = bytearray(chance.choice(COMMANDS))
    for _ in range(chance.randint(1, 4)):
        position = chance.randrange(len(command))
        command[position : position + chance.randint(0, 3)] = (
            bytes(chance.choices(MARKS, k=chance.randint(0, 3))) or b" "
        )
    return bytes(command)


def repeated(chance: random.Random) -> bytes:
    command = chance.choice(COMMANDS)
    start = chance.randrange(len(command))
    part = command[start : start + chance.randint(1, 9)] or b"{"
    return command[:start] + part * chance.randint(2, size(chance) // len(part) + 2)


MAKERS: list[Callable[[random.Random], bytes]] = [noise, printable, brackets, truncated, mutated, repeated]


class Faults:
    """Collects what is reported to the loop's exception handler: nothing may be."""

    def __init__(self) -> None:
        self.seen: list[dict[str, object]] = []

    def __call__(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        self.seen.append(context)


async def attack(port: Port, chance: random.Random) -> None:
    """One connection that sends some lines and then a ping. The server may also close it."""
    async with port.connect() as peer:
        for _ in range(chance.randint(1, 8)):
            peer.send(chance.choice(MAKERS)(chance) + chance.choice([b"\n", b"\n", b"\r\n"]))
        peer.send(b"x\xff\xf0\nping\n")  # ends a telnet subnegotiation that the noise may have begun
        if chance.random() < 0.3:
            peer.writer.write_eof()
        answers = await until_pong(peer)
        assert b"Traceback" not in answers
        assert b'File "' not in answers


async def until_pong(peer: Peer) -> bytes:
    """All bytes until the reply to the ping, or the close."""
    got = b""
    try:
        while line := await peer.line():
            got += line
            if line == b"OK pong\r\n":
                break
    except ConnectionError:
        pass  # the server closed it while it was still sending
    return got


async def fuzz(going_on: Callable[[int], bool]) -> int:
    """Attack while `going_on(count)` is true. Returns the count."""
    chance = random.Random(SEED)
    faults = Faults()
    asyncio.get_running_loop().set_exception_handler(faults)
    async with serving() as port, port.connect() as witness, port.connect() as publisher:
        await witness.do(subscribe("witness.only"))
        count = 0
        while going_on(count):
            await attack(port, chance)
            if count % 10 == 0:
                await publisher.do(send("witness.only", "x"))
                assert await witness.line() == delivered("witness.only", "x", count // 10)
            count += 1
        assert await publisher.ask(subscribe("after")) == DONE
    asyncio.get_running_loop().set_exception_handler(None)
    assert faults.seen == []
    return count


async def test_no_input_harms_another_client() -> None:
    assert await fuzz(lambda count: count < 300) == 300


@pytest.mark.slow
async def test_a_minute_of_fuzzing() -> None:
    end = asyncio.get_running_loop().time() + 60
    assert await fuzz(lambda _: asyncio.get_running_loop().time() < end) > 1_000


@pytest.mark.parametrize("line", COMMANDS)
async def test_every_prefix_of_a_line_is_answered(line: bytes) -> None:
    async with serving() as port, port.connect() as peer:
        peer.send(*(line[:length] + b"\n" for length in range(1, len(line))))
        assert len(await peer.synchronise()) >= len(line) - 1
