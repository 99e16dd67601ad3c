"""Redis Streams and JetStream as an application uses them: publishers and a subscriber in one process."""

import asyncio
import tempfile
from asyncio import Task
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic, monotonic_ns
from typing import Final

import nats
from nats.aio.msg import Msg
from redis.asyncio import Redis

from app.cli.bench.coordinator import Latency
from app.cli.bench.wire_script import DIGITS
from benchmarks.deployments import RETAINED, TOPIC, running_nats, running_redis

Publish = Callable[[bytes], Awaitable[object]]
OnMessage = Callable[[bytes], None]


class _Latencies:
    """Of the messages that a subscriber was given. A body begins with the time when it was sent."""

    def __init__(self, size: int) -> None:
        self.nanoseconds: list[int] = []
        self._size = size

    def on_message(self, body: bytes) -> None:
        self.nanoseconds.append(monotonic_ns() - int(body[:DIGITS]))

    def body(self) -> bytes:
        return (b"%0*d" % (DIGITS, monotonic_ns())).ljust(self._size, b"x")


@asynccontextmanager
async def redis_streams(on_message: OnMessage) -> AsyncIterator[Publish]:
    """redis-py: XADD, and XREAD in a loop."""
    with running_redis() as (_, port):
        async with Redis(port=port) as writer, Redis(port=port) as reader:

            async def read() -> None:
                last = b"0"
                while True:
                    for _, entries in await reader.xread({TOPIC: last}, block=1_000):
                        for _, fields in entries:
                            on_message(fields[b"data"])
                        last = entries[-1][0]

            task = asyncio.create_task(read())
            yield lambda body: writer.xadd(TOPIC, {"data": body}, maxlen=RETAINED)
            await _end(task)


@asynccontextmanager
async def jetstream(on_message: OnMessage) -> AsyncIterator[Publish]:
    """nats-py: a push consumer without acks."""
    with tempfile.TemporaryDirectory() as folder, running_nats(folder) as (_, port):
        async with await nats.connect(f"nats://127.0.0.1:{port}") as client:
            stream = client.jetstream()
            await stream.add_stream(name=TOPIC, subjects=[TOPIC], storage="memory", max_msgs=RETAINED)

            async def on_delivery(message: Msg) -> None:
                on_message(message.data)

            await stream.subscribe(TOPIC, cb=on_delivery, ordered_consumer=True)
            yield lambda body: stream.publish(TOPIC, body)


OWN_CLIENTS: Final = {
    "Redis Streams, redis-py": ("redis-server", redis_streams),
    "NATS JetStream, nats-py": ("nats-server", jetstream),
}


async def _end(task: "Task[None]") -> None:
    while not task.done():  # redis-py loses a cancellation now and then, when an answer comes at the same time
        task.cancel()
        await asyncio.wait([task], timeout=0.1)
    if not task.cancelled():
        task.result()


async def latency(name: str, publishers: int, rate: float, seconds: float, size: int) -> tuple[int, Latency]:
    """The number of messages, and the time from each publish to its delivery. `rate`: messages a second of a publisher;
    0: as fast as possible."""
    latencies = _Latencies(size)
    async with OWN_CLIENTS[name][1](latencies.on_message) as publish:
        end = monotonic() + seconds

        async def publish_for_a_while() -> int:
            count = 0
            while monotonic() < end:
                begin = monotonic()
                await publish(latencies.body())
                count += 1
                if rate:
                    await asyncio.sleep(max(begin + 1 / rate - monotonic(), 0))
            return count

        count = sum(await asyncio.gather(*(publish_for_a_while() for _ in range(publishers))))
        async with asyncio.timeout(seconds + 10):
            while len(latencies.nanoseconds) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    return count, Latency.of(latencies.nanoseconds)
