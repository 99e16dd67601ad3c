"""What a broker must do, in the plainest way: a list of messages, and for each what became of it."""

from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

from app.topic import Selector

State = Literal["kept", "lost", "gone"]  # lost: retention took it, a gap; gone: handed out, expired or never kept


@dataclass
class Entry:
    seq: int
    topic: str
    body: str
    for_one: bool
    time: float
    expires: float | None
    state: State


@dataclass
class ModelReader:
    """`got` is what it must have been given so far: bodies, and "GAP <reason>" for a gap."""

    selector: Selector
    cursor: int
    told: int
    got: list[str] = field(default_factory=list)
    paused: bool = False


@dataclass
class Model:
    max_messages: int
    max_age: float
    entries: list[Entry] = field(default_factory=list)
    readers: dict[int, ModelReader] = field(default_factory=dict)
    now: float = 0.0

    @property
    def head(self) -> int:
        return len(self.entries)

    def append(self, topic: str, body: str, for_one: bool, retain: bool, ttl: float | None) -> Entry:
        """It takes its place; hand_out() and trim() follow, in this order."""
        expires = None if ttl is None else self.now + ttl
        entry = Entry(self.head + 1, topic, body, for_one, self.now, expires, "kept" if retain else "gone")
        self.entries.append(entry)
        return entry

    def hand_out(self, entry: Entry) -> set[int]:
        """The readers of whom exactly one must get it; empty when all of them get it, or nobody."""
        live = {n for n, r in self.readers.items() if not r.paused and r.selector.matches(entry.topic)}
        if entry.for_one:
            entry.state = "gone" if live and entry.state == "kept" else entry.state
            return live
        for n in live:
            self.readers[n].got.append(entry.body)
        return set()

    def trim(self, topic: str) -> None:
        kept = [entry for entry in self.entries if entry.topic == topic and entry.state == "kept"]
        for entry in kept[: max(len(kept) - self.max_messages, 0)]:
            entry.state = "lost"

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for entry in self.entries:
            if entry.state == "kept" and entry.expires is not None and entry.expires <= self.now:
                entry.state = "gone"
            if entry.state == "kept" and entry.time <= self.now - self.max_age:
                entry.state = "lost"

    def drop(self, topic: str) -> None:
        for entry in self.entries:
            if entry.topic == topic and entry.state == "kept":
                entry.state = "lost"

    def lost(self, selector: Selector) -> int:
        return max((e.seq for e in self.entries if e.state == "lost" and selector.matches(e.topic)), default=0)

    def newest(self, selector: Selector, count: int) -> int:
        """The place before the newest `count` messages that are for all."""
        kept = [e.seq for e in self.entries if e.state == "kept" and not e.for_one and selector.matches(e.topic)]
        return kept[-count:][0] - 1 if kept[-count:] and count else self.head

    def read_on(self, reader: ModelReader, gap: str | None = None) -> None:
        """Everything a reader finds from its cursor to the head; it is live then."""
        kept = [e for e in self.entries if e.state == "kept" and reader.selector.matches(e.topic)]
        behind = [entry for entry in kept if entry.for_one and entry.seq <= reader.cursor]
        ahead = [entry for entry in kept if entry.seq > reader.cursor]
        reader.got += [entry.body for entry in behind]
        lost = self.lost(reader.selector)
        if gap is None and lost > max(reader.cursor, reader.told):
            gap = "trimmed"
        if gap is not None:
            reader.got.append(f"GAP {gap}")
        reader.got += [entry.body for entry in ahead]
        for entry in (*behind, *ahead):
            entry.state = "gone" if entry.for_one else entry.state
        reader.cursor, reader.told = self.head, 0

    def topics(self) -> dict[str, list[str]]:
        """What each topic keeps, oldest first."""
        kept = sorted((e for e in self.entries if e.state == "kept"), key=lambda e: (e.topic, e.seq))
        return {topic: [e.body for e in group] for topic, group in groupby(kept, key=lambda e: e.topic)}
