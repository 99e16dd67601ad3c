"""What a node appends as one entry, and which entries it remembers."""

import asyncio
import time

from app.log.topic_log import Limits
from app.storage.clock import Clock
from app.storage.replicated.engine import ReplicatedEngine
from app.storage.replicated.journal import Entry
from app.storage.replicated.recent import RecentEntries
from tests.cluster.conftest import Node
from tests.engines.local_journal import LocalJournal, SharedLog
from tests.harness import draft

BODY = bytes(600 << 10)


async def test_large_publishes_of_one_turn_are_divided_among_entries() -> None:
    log = SharedLog(time.time)
    node = Node(ReplicatedEngine(Limits(), Clock(), LocalJournal(log)))
    await node.engine.open(node.deliver, node)
    await asyncio.gather(*(node.engine.append([draft("t", BODY)]) for _ in range(4)))
    large = [len(entry.data) // len(BODY) for entry in log.entries if len(entry.data) > len(BODY)]
    assert large == [2, 2], "1 MiB, and what does not fit into it"
    await node.engine.close()


def chain(*links: str, after: str = "", first: int = 1, nbytes: int = 1) -> list[Entry]:
    before = [after, *links]
    return [
        Entry(number, link.encode(), before[number - first].encode(), 0.0, bytes(nbytes))
        for number, link in enumerate(links, first)
    ]


def remembered(*entries: Entry, nbytes: int = 100) -> RecentEntries:
    recent = RecentEntries(nbytes)
    for entry in entries:
        recent.add(entry)
    return recent


def links(entries: object) -> str:
    return "".join(entry.link.decode() for entry in entries)  # type: ignore[attr-defined]


def test_what_follows_an_entry_of_the_chain_is_known() -> None:
    recent = remembered(*chain("a", "b", "c"))
    assert links(recent.missing_after(0, b"")) == "abc"
    assert links(recent.missing_after(1, b"a")) == "bc"
    assert not recent.missing_after(3, b"c")


def test_nothing_follows_an_entry_of_another_chain() -> None:
    recent = remembered(*chain("a", "b", "c"))
    assert not recent.missing_after(1, b"x")
    assert not recent.missing_after(4, b"d")
    assert not remembered().missing_after(0, b"")


def test_the_oldest_entries_are_forgotten_first_and_what_is_left_has_no_hole() -> None:
    recent = remembered(*chain(*"abcdef", nbytes=30))
    assert not recent.missing_after(0, b"")
    assert links(recent.missing_after(3, b"c")) == "def"


def test_entries_that_are_read_again_are_remembered_once() -> None:
    recent = remembered(*chain("a", "b", "c"), *chain("b", "c", after="a", first=2))
    assert links(recent.missing_after(0, b"")) == "abc"


def test_a_branch_that_the_journal_has_left_is_forgotten() -> None:
    recent = remembered(*chain("a", "b", "c"), *chain("x", "y", after="a", first=2))
    assert links(recent.missing_after(0, b"")) == "axy"
    assert not recent.missing_after(2, b"b")
