"""The look for garbage in circles visits all that might be in one, in one turn of the event loop: what is stored must
not be among that, or that turn grows with it.
"""

import gc
from pathlib import Path

from app.broker.broker import Broker
from app.log.topic_log import Limits, Retention
from app.messages.message import Delivery, Draft, Envelope
from app.storage.clock import Clock
from app.storage.engine import Engine
from app.storage.memory import MemoryEngine
from app.storage.sqlite.engine import SqliteEngine

MESSAGES = 2_000
TOPICS = 200
LIMITS = Limits(retention=Retention(max_messages=100_000), topics=10_000)


def visited() -> int:
    """Things that the next whole look visits."""
    for _ in range(3):  # each look finds out of one more layer of tuples that it is in no circle
        gc.collect()
    return len(gc.get_objects())


async def fill(engine: Engine) -> None:
    for number in range(MESSAGES):
        await engine.append([Draft(Envelope("alone", event=str(number)), [b"alone"])])
    for envelope in (Envelope("b"), Envelope("b", ttl=3_600.0), Envelope("b", delivery=Delivery.ONE)):
        await engine.append([Draft(envelope, [b"of many"] * MESSAGES)])


async def costs_nothing(engine: Engine) -> None:
    await engine.append([Draft(Envelope("alone"), [b"the first"])])
    before = visited()
    await fill(engine)
    assert visited() - before < MESSAGES / 10
    before = visited()
    for number in range(TOPICS):
        await engine.append([Draft(Envelope(f"t.{number}"), [b"x"])])
    assert visited() - before < 2.5 * TOPICS  # what finds its messages
    before = visited()
    for number in range(TOPICS):
        await engine.configure_group(f"t.{number}", "g", {})
        assert len(await engine.claim(f"t.{number}", "g", count=1, nbytes=100, seconds=60.0)) == 1
    assert visited() - before < 4.5 * TOPICS  # its heaps
    await engine.configure_group("alone", "g", {})
    before = visited()
    for _ in range(MESSAGES // 100):
        assert len(await engine.claim("alone", "g", count=100, nbytes=1_000, seconds=60.0)) == 100
    assert visited() - before < MESSAGES / 10


async def test_messages_in_memory_are_not_looked_at_for_garbage() -> None:
    engine = MemoryEngine(LIMITS, Clock())
    async with Broker(engine, max_subscribers=1):
        await costs_nothing(engine)


async def test_messages_that_are_remembered_of_a_file_are_not_looked_at_for_garbage(tmp_path: Path) -> None:
    engine = SqliteEngine(LIMITS, Clock(), tmp_path / "log.db", "relaxed")
    async with Broker(engine, max_subscribers=1):
        await costs_nothing(engine)
