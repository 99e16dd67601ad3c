"""Three nodes on one journal against a ledger: entries come late, nodes are cut off or start anew, and the journal
loses its newest entries, which nodes give back or not.

Readers come to any node with their last id. Each gets every confirmed message once and in order; and if the journal has
lost what it had read, it is told a gap, and nobody else is. A message that was acked is not handed out again. Whenever
the nodes are level, their states are equal.
"""

import asyncio
import itertools
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.errors import Behind, NotFound, OutcomeUnknown, StorageFailed
from app.log.topic_log import Limits
from app.messages.lease import Action, Outcome, lease_id
from app.messages.message import Id, parse_id
from app.messages.position import EARLIEST, After, Gap
from app.messages.topic import TopicFilter
from app.storage.replicated import follower, freshness, outgoing
from app.storage.replicated.fold_snapshot import digest
from tests.engines.groups import claim, make
from tests.engines.test_contract import append
from tests.storage.replicated.nodes import Node, Nodes, settled
from tests.storage.replicated.test_snapshots import save_snapshot

T = TypeVar("T")

NODES = st.integers(0, 2)
TOPIC = TopicFilter(["a"])
UNSURE = (StorageFailed, OutcomeUnknown)
LONG = 3_600.0  # seconds of a lease: the test's clock does not go so far


@dataclass
class Reader:
    """`got`: since the last gap, if it was told one."""

    last: Id | None = None
    got: list[str] = field(default_factory=list)


class Machine(RuleBasedStateMachine):
    @initialize()
    def start(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self.bodies = itertools.count()
        self.confirmed: dict[str, int] = {}  # body → the number of the journal's newest entry when it was confirmed
        self.acked: dict[str, int] = {}  # likewise
        self.gone: set[str] = set()  # confirmed, and lost by the journal
        self.readers = [Reader(), Reader()]
        self.run(self.begin())

    async def begin(self) -> None:
        self.cluster = Nodes(Limits(), self.stack)
        self.nodes = [await self.cluster.start() for _ in range(3)]
        await make(self.nodes[0])
        await settled()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, 60))

    # Clients

    @rule(n=NODES, count=st.integers(1, 3))
    def publish(self, n: int, count: int) -> None:
        """Each with a key, and again at the next node until it is confirmed."""
        for _ in range(count):
            self.run(self.published(n, f"m{next(self.bodies)}"))

    async def published(self, n: int, body: str) -> None:
        for attempt in itertools.count(n):
            node = self.nodes[attempt % 3]
            self.hold(node, False)
            try:
                await append(node, "a", body, key=body)
            except UNSURE:
                self.reach(node)
                await settled()
            else:
                self.confirmed[body] = self.cluster.log.number
                await settled()
                return

    @rule(n=NODES, again=st.booleans())
    def publish_and_lose_the_answer(self, n: int, again: bool) -> None:
        """It may be in the log, or not. The client repeats it at another node, or leaves."""

        async def lose() -> None:
            node, body = self.nodes[n], f"m{next(self.bodies)}"
            node.journal.unconfirmed = []
            asked = asyncio.ensure_future(append(node, "a", body, key=body))
            await settled()
            node.cut()
            with pytest.raises(UNSURE):
                await asked
            if again:
                await self.published(n + 1, body)

        self.run(lose())

    @rule(n=NODES, who=st.integers(0, 1))
    def read(self, n: int, who: int) -> None:
        self.run(self.read_at(self.nodes[n], self.readers[who]))

    @rule(n=NODES, late=NODES, who=st.integers(0, 1))
    def read_on_at_a_late_node(self, n: int, late: int, who: int) -> None:
        """What the reader has got last is not there yet."""
        self.hold(self.nodes[late], True)
        self.run(self.published(n, f"m{next(self.bodies)}"))
        for node in (self.nodes[n], self.nodes[late]):
            self.run(self.read_at(node, self.readers[who]))

    async def read_at(self, node: Node, reader: Reader) -> Gap | None:
        try:
            cursor = await node.engine.locate(TOPIC, EARLIEST if reader.last is None else After(reader.last))
            page = await node.engine.read(TOPIC, cursor, limit=1_000, nbytes=1 << 30, take=False)
        except StorageFailed:  # such as Behind: the client comes back
            return None
        new = [message.data.decode() for message in page.messages]
        if page.gap is not None:
            assert page.gap.reason == "epoch", page.gap
            assert set(reader.got) & self.gone or not set(reader.got) <= {*await self.stored(node)}, "nothing was lost"
            reader.got, reader.last = [], None
        reader.got += new
        if page.messages:
            reader.last = parse_id(page.messages[-1].id)
        return page.gap

    @rule(n=NODES, m=NODES)
    def work(self, n: int, m: int) -> None:
        """Pull at one node, and ack at another."""

        async def work() -> None:
            puller, acker = self.nodes[n], self.nodes[m]
            for node in (puller, acker):
                self.hold(node, False)
            try:
                leases = await claim(puller, 1, seconds=LONG)
                assert not {lease.message.data.decode() for lease in leases} & {*self.acked}
                for lease in leases:
                    if await acker.engine.settle("a", "g", Action.ACK, [lease_id(lease)]) == [Outcome.DONE]:
                        self.acked[lease.message.data.decode()] = self.cluster.log.number
            except (*UNSURE, NotFound):
                pass

        self.run(work())

    # Faults

    def hold(self, node: Node, held: bool) -> None:
        node.hold(held)

    def reach(self, node: Node) -> None:
        node.cut(False)

    @rule(n=NODES, held=st.booleans())
    def entries_come_late(self, n: int, held: bool) -> None:
        self.hold(self.nodes[n], held)

    @rule(n=NODES)
    def node_is_cut_off(self, n: int) -> None:
        self.nodes[n].cut()
        self.run(settled())

    @rule(n=NODES)
    def node_comes_back(self, n: int) -> None:
        self.reach(self.nodes[n])
        self.run(settled())

    @rule(n=NODES)
    def snapshot_is_saved(self, n: int) -> None:
        """Of a node that has read all."""
        self.run(self.level())
        self.run(save_snapshot(self.nodes[n]))

    @rule(n=NODES)
    def node_starts_anew(self, n: int) -> None:
        async def restart() -> None:
            self.hold(self.nodes[n], False)
            await self.nodes[n].engine.close()
            self.nodes[n] = await self.cluster.start()

        self.run(restart())

    @rule(seconds=st.sampled_from([0.5, 5.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.cluster.clock.now += seconds

    @precondition(lambda self: self.cluster.log.number > self.oldest + 1)
    @rule(back=st.integers(0, 6), healers=st.sets(NODES))
    def journal_loses_its_newest_entries(self, back: int, healers: set[int]) -> None:
        self.run(self.lose(max(self.cluster.log.number - back, self.oldest + 1), healers))

    @property
    def oldest(self) -> int:
        """The entry with which the newest snapshot ends; the journal is not lost before it."""
        log = self.cluster.log
        return max(log.trimmed, log.snapshot[0] if log.snapshot else 0)

    async def lose(self, kept: int, healers: set[int]) -> None:
        for n, node in enumerate(self.nodes):
            node.journal.heals = n in healers
        self.cluster.log.lose_after(kept)
        here = [node for node in self.nodes if not node.journal.cut] or self.nodes  # the others notice later
        await self.level(here)
        stored = {*await self.stored(here[0])}
        lost = {body for body in self.confirmed if body not in stored}
        assert not {body for body in lost - self.gone if self.confirmed[body] <= kept}, "they were kept"
        self.gone |= lost
        self.acked = {body: number for body, number in self.acked.items() if number <= kept and body in stored}

    # What must hold

    async def level(self, nodes: Sequence[Node] = ()) -> None:
        """These nodes (or all) reach the journal, and have read it."""
        for node in nodes or self.nodes:
            self.hold(node, False)
            self.reach(node)
        while any(self.is_late(node) for node in nodes or self.nodes):  # noqa: ASYNC110
            await asyncio.sleep(0)
        await settled()

    def is_late(self, node: Node) -> bool:
        engine = node.engine
        return bool(engine.unready or engine._outgoing.lost or engine._fold.number != self.cluster.log.number)

    async def stored(self, node: Node) -> list[str]:
        try:
            cursor = await node.engine.locate(TOPIC, EARLIEST)
            page = await node.engine.read(TOPIC, cursor, limit=1_000, nbytes=1 << 30, take=False)
        except Behind:
            return []
        return [message.data.decode() for message in page.messages]

    @invariant()
    def no_reader_has_anything_twice(self) -> None:
        for reader in self.readers:
            assert len(reader.got) == len(set(reader.got))

    @rule()
    def all_are_level(self) -> None:
        self.run(self.check())

    async def check(self) -> None:
        await self.level()
        assert len({digest(node.engine._fold) for node in self.nodes}) == 1
        stored = await self.stored(self.nodes[0])
        assert len(stored) == len(set(stored))
        assert set(self.confirmed) - self.gone <= set(stored)
        for reader, node in zip(self.readers, self.nodes, strict=False):
            told = await self.read_at(node, reader)
            if told is None:
                assert reader.got == stored, "a loss that was not told"

    def teardown(self) -> None:
        if hasattr(self, "cluster"):
            self.run(self.check())
            self.run(self.stack.aclose())
            self.loop.close()


def test_no_fault_of_a_journal_loses_or_repeats_what_was_confirmed_unless_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follower, "RECONNECT", 0.0)
    monkeypatch.setattr(freshness, "AHEAD_WAIT", 0.002)
    monkeypatch.setattr(outgoing, "READ_WAIT", 0.002)
    machine: Any = Machine
    machine.TestCase.settings = settings(
        max_examples=150, stateful_step_count=40, deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip
    machine.TestCase("runTest").debug()
