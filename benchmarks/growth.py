"""CPU time and memory of one broker in this process, as topics, patterns and retained messages grow.

    python -m benchmarks.growth

Each figure is the best of five rounds, in microseconds of CPU time. No sockets are used.
"""

import asyncio
import resource
import time
from collections.abc import Callable, Coroutine
from typing import Any

from app.broker.broker import Broker
from app.fanout.encoder import Encoder
from app.log.directory import ListQuery
from app.log.topic_log import Limits
from app.messages.message import Draft, Envelope
from app.messages.position import EARLIEST, LATEST
from app.messages.topic import TopicFilter
from app.net.progress import Progress
from app.storage.clock import Clock
from app.storage.memory import MemoryEngine
from app.web.sse import SSE_JSON, SSE_RAW

ROUNDS = 5


class CountingSink:
    """A sink that counts events."""

    def __init__(self) -> None:
        self.events = 0

    def write(self, data: bytes) -> None:
        self.events += data.count(b"\n\n")

    def pending(self) -> int:
        return 0

    def progress(self) -> Progress:
        return Progress(0, 0)

    def end(self, reason: str) -> None: ...

    def abort(self) -> None: ...


def best(round: Callable[[], Coroutine[Any, Any, float]]) -> float:
    """The best figure of the rounds. Each makes its own broker."""
    return min(asyncio.run(round()) for _ in range(ROUNDS))


def broker() -> Broker:
    return Broker(MemoryEngine(Limits(topics=100_000, total_bytes=1 << 32), Clock()), max_subscribers=100_000)


async def publish_with_subscribers(names: list[str], topic: str, count: int = 20_000) -> float:
    """Microseconds to publish a message to `topic` while each of the names has a subscriber."""
    async with broker() as node:
        for name in names:
            node.subscribe(TopicFilter([name]), SSE_RAW, CountingSink()).start(LATEST)
        drafts = [Draft(Envelope(topic), [b"x" * 64])]
        begin = time.process_time()
        for n in range(count):
            await node.publish(drafts)
            if n % 64 == 0:
                await asyncio.sleep(0)
        return (time.process_time() - begin) / count * 1e6


async def read_from_earliest(topics: int, messages: int, name: str, encoder: Encoder) -> float:
    """Microseconds to write a message to a subscriber that starts at `earliest`."""
    async with broker() as node:
        for n in range(messages):
            await node.publish([Draft(Envelope(f"t.{n % topics}"), [b"x" * 64])])
        sink = CountingSink()
        topic_filter = TopicFilter([name])
        selected = sum(info.state.messages for info in (await node.directory.topics(ListQuery(topic_filter))).items)
        begin = time.process_time()
        node.subscribe(topic_filter, encoder, sink).start(EARLIEST)
        while sink.events < selected:  # noqa: ASYNC110  (each turn of the loop writes a page)
            await asyncio.sleep(0)
        return (time.process_time() - begin) / selected * 1e6


def print_row(name: str, figure: float) -> None:
    print(f"{name:78s} {figure:8.2f}")  # noqa: T201


def main() -> None:
    print_row("publish, 1 pattern subscribed, matching", best(lambda: publish_with_subscribers(["a.*"], "a.x")))
    many = [f"p{n}.*" for n in range(1_000)]
    print_row(
        "publish, 1,000 disjoint patterns subscribed, 1 matching", best(lambda: publish_with_subscribers(many, "p7.x"))
    )
    print_row(
        "publish, 1,000 patterns of 3 segments, 1 matching",
        best(lambda: publish_with_subscribers([f"{p}.**" for p in many], "p7.x.y")),
    )
    for topics, messages in ((10, 2_000), (100, 20_000), (10_000, 200_000)):
        figure = best(lambda: read_from_earliest(topics, messages, "**", SSE_JSON))  # noqa: B023
        print_row(f"read ** from earliest, {messages:,} messages in {topics:,} topics, per message", figure)
    figure = best(lambda: read_from_earliest(10_000, 200_000, "t.7", SSE_RAW))
    print_row("read 1 topic of 10,000 from earliest (20 messages), per message", figure)
    print_row("peak resident memory, MiB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
