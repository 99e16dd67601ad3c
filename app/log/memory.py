"""The memory that the log takes, and its two bounds: `total_bytes` for everything, and `memory_bytes` for what is in
memory even if messages are on a disk."""

from collections.abc import Iterable, Sequence

import msgspec

from ..errors import LogFull
from ..messages.message import Draft
from .deadlines import Deadlines
from .groups.group import Group
from .groups.job import JOB_COST
from .groups.size import EMPTY_SIZE, GROUP_COST, Size
from .ordered_messages import OrderedMessages
from .run import EXPIRY_COST, HELD_COST, ORDERED_COST
from .topic_log import Limits, weigh


class MemoryRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The fields are those of Memory."""

    cost: int
    unrecorded_cost: int
    delayed: int
    dead: int
    groups: Size


class Memory:
    """`cost`: bytes of retained messages, of what groups may need for them, of topics and of delayed publishes; it is
    stored. `unrecorded_cost`: bytes of messages for one subscriber and of groups; a start counts them again.
    `dead`: the number of dead messages."""

    __slots__ = ("_delayed", "_expiries", "_groups", "_ordered", "cost", "dead", "limits", "unrecorded_cost")

    def __init__(self, limits: Limits, expiries: Deadlines[int], ordered: OrderedMessages) -> None:
        self.limits = limits
        self.cost = self.unrecorded_cost = self.dead = 0
        self._expiries = expiries
        self._ordered = ordered
        self._delayed = 0  # the part of `cost` that delayed publishes take
        self._groups = EMPTY_SIZE  # all groups together

    @property
    def record(self) -> MemoryRecord:
        return MemoryRecord(self.cost, self.unrecorded_cost, self._delayed, self.dead, self._groups)

    @record.setter
    def record(self, record: MemoryRecord) -> None:
        self.cost, self.unrecorded_cost = record.cost, record.unrecorded_cost
        self._delayed, self.dead, self._groups = record.delayed, record.dead, record.groups

    @property
    def total(self) -> int:
        """The bytes that count against `total_bytes`."""
        return self.cost + self.unrecorded_cost

    def left(self) -> int:
        """The bytes that are left of `memory_bytes`."""
        groups = GROUP_COST * self._groups.groups + JOB_COST * self._groups.jobs
        messages = EXPIRY_COST * len(self._expiries) + HELD_COST * self.dead + ORDERED_COST * self._ordered.count
        return self.limits.memory_bytes - self._delayed - self.unrecorded_cost - groups - messages

    def check(self, nbytes: int) -> None:
        """Raises LogFull if less than `nbytes` of `memory_bytes` are left."""
        if nbytes > self.left():
            raise self.full()

    def full(self) -> LogFull:
        limit = self.limits.memory_bytes
        return LogFull(
            f"{limit - self.left()} of {limit} bytes of memory are taken for what is delayed, leased, for one "
            f"subscriber or has a ttl: wait until there is less of that, or raise max_total_bytes"
        )

    def reserve(self, drafts: Sequence[Draft]) -> None:
        """Reserve the memory of delayed drafts until release()."""
        nbytes = weigh(drafts).memory
        self.cost += nbytes
        self._delayed += nbytes

    def release(self, drafts: Sequence[Draft]) -> None:
        nbytes = weigh(drafts).memory
        self.cost -= nbytes
        self._delayed -= nbytes

    def find_delayed(self, publishes: Iterable[Sequence[Draft]]) -> None:
        """After a restore: the memory of delayed publishes is in `cost` already."""
        self._delayed = sum(weigh(drafts).memory for drafts in publishes)

    def count_group(self, group: Group, size: Size) -> None:
        """Update the group's share."""
        if size != group.counted_size:
            self._groups = self._groups.changed(group.counted_size, size)
            self.unrecorded_cost += size.nbytes - group.counted_size.nbytes
            group.counted_size = size
