"""What work grows with: CPU and memory of one broker, in this process, as topics, patterns and history grow.

    python -m benchmarks.growth

Each figure is the best of five rounds, in microseconds of CPU time. Nothing here opens a socket.
"""

import asyncio
import resource
import time
from collections.abc import Callable, Coroutine
from typing import Any

from app.broker.broker import Broker
from app.fanout.encoder import Encoder
from app.log.topic_log import Limits
from app.messages.message import Draft, Envelope
from app.messages.position import EARLIEST, LATEST
from app.messages.topic import TopicFilter
from app.net.progress import Progress
from app.storage.clock import Clock
from app.storage.memory import MemoryEngine
from app.web.sse import SSE_JSON, SSE_RAW

ROUNDS = 5


class Counter:
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


def best(work: Callable[[], Coroutine[Any, Any, float]]) -> float:
    """The best of the rounds; each makes its own broker and answers its figure."""
    return min(asyncio.run(work()) for _ in range(ROUNDS))


def broker() -> Broker:
    return Broker(MemoryEngine(Limits(topics=100_000, total_bytes=1 << 32), Clock()), max_subscribers=100_000)


async def publish_beside(names: list[str], topic: str, count: int = 20_000) -> float:
    """Microseconds for one message to `topic` while each name has a reader of its own."""
    async with broker() as node:
        for name in names:
            node.subscribe(TopicFilter([name]), SSE_RAW, Counter()).start(LATEST)
        drafts = [Draft(Envelope(topic), [b"x" * 64])]
        begin = time.process_time()
        for n in range(count):
            await node.publish(drafts)
            if n % 64 == 0:
                await asyncio.sleep(0)
        return (time.process_time() - begin) / count * 1e6


async def read_everything(topics: int, messages: int, name: str, form: Encoder) -> float:
    """Microseconds for each message that a reader from `earliest` is written."""
    async with broker() as node:
        for n in range(messages):
            await node.publish([Draft(Envelope(f"t.{n % topics}"), [b"x" * 64])])
        sink = Counter()
        topic_filter = TopicFilter([name])
        selected = sum(info.state.messages for info in await node.topics(topic_filter))
        begin = time.process_time()
        node.subscribe(topic_filter, form, sink).start(EARLIEST)
        while sink.events < selected:  # noqa: ASYNC110  (every turn writes a page)
            await asyncio.sleep(0)
        return (time.process_time() - begin) / selected * 1e6


def row(what: str, figure: float) -> None:
    print(f"{what:78s} {figure:8.2f}")  # noqa: T201


def main() -> None:
    row("publish, 1 pattern subscribed, matching", best(lambda: publish_beside(["a.*"], "a.x")))
    many = [f"p{n}.*" for n in range(1_000)]
    row("publish, 1,000 disjoint patterns subscribed, 1 matching", best(lambda: publish_beside(many, "p7.x")))
    row(
        "publish, 1,000 patterns of 3 segments, 1 matching",
        best(lambda: publish_beside([f"{p}.**" for p in many], "p7.x.y")),
    )
    for topics, messages in ((10, 2_000), (100, 20_000), (10_000, 200_000)):
        figure = best(lambda: read_everything(topics, messages, "**", SSE_JSON))  # noqa: B023
        row(f"read ** from earliest, {messages:,} messages in {topics:,} topics, per message", figure)
    figure = best(lambda: read_everything(10_000, 200_000, "t.7", SSE_RAW))
    row("read 1 topic of 10,000 from earliest (20 messages), per message", figure)
    row("peak resident memory, MiB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
