"""A run: consecutive messages of the log with one envelope and different bodies.

The log keeps a run as one object, because an object per message would take far more memory than a body of usual size.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice
from typing import Final

import msgspec

from ..messages.lease import reason_cost
from ..messages.message import ONE, Draft, Envelope, Message

MAX_RUN_LENGTH: Final = 50  # messages in a run: so few that the holes of removed messages take little memory
MAX_RUN_BYTES: Final = 16 << 10  # of bodies in a run of several: when some are removed, a file's row is rewritten
MESSAGE_COST: Final = 448  # bytes of memory that a retained message takes at most besides its body; a test measures it
EXPIRY_COST: Final = 160  # likewise for a ttl
REDRIVE_COST: Final = 256  # likewise for the Redrive of a message that came back from a dead-letter topic
DEATH_COST: Final = 512  # likewise for the Death of a dead message
ORDERING_COST: Final = 320  # likewise for the Ordering of a message and its place in OrderedMessages, besides its key
HEADERS_COST: Final = 320  # likewise for headers, besides their own bytes
ORDERED_COST: Final = 160  # of ORDERING_COST, what stays in memory when the message is on a disk
HELD_COST: Final = 128  # of DEATH_COST, what stays in memory when the message is on a disk
ONE_COST: Final = 352  # likewise for delivery=one: waiting or in transit; not in memory_cost()


def memory_cost(envelope: Envelope) -> int:
    """The most bytes of memory that a retained message with this envelope takes besides its body."""
    nbytes = MESSAGE_COST
    if envelope.line is not None:
        nbytes += len(envelope.line)
    if envelope.death is not None:
        nbytes += DEATH_COST + reason_cost(envelope.death.reason)
    if envelope.headers is not None:
        nbytes += HEADERS_COST + len(envelope.headers)
    if envelope.redrive is not None:
        nbytes += REDRIVE_COST
    if envelope.ordering is not None:
        nbytes += ORDERING_COST + len(envelope.ordering.key or "")
    return nbytes if envelope.ttl is None else nbytes + EXPIRY_COST


def one_cost(envelope: Envelope) -> int:
    return ONE_COST if envelope.delivery is ONE else 0


def resident_cost(envelope: Envelope, expires: bool) -> int:
    """Bytes of memory that a retained message takes even if it is on a disk."""
    nbytes = one_cost(envelope)
    if envelope.death is not None:
        nbytes += HELD_COST
    if envelope.ordering is not None:
        nbytes += ORDERED_COST
    return nbytes + EXPIRY_COST if expires else nbytes


class Run(msgspec.Struct, frozen=True, gc=False, eq=False):
    """Immutable: the removal of messages makes a new run with the same `key`.

    `key`: the sort key, the seq of the last message that the run had when it was made. So the messages after a position
    are in the runs whose key is greater than it. `seq` and `index`: of the last message that is left. The first and the
    last body are always there; a body between them is None when its message was removed.

    `time`: when the messages were accepted, by the wall clock. `at`: the same moment by the log's own clock, which also
    applies to `expires`.

    `bodies` is a tuple of bytes, which the garbage collector does not track: a log has very many of them.

    `live`: how many messages are left. `nbytes`: bytes of their bodies. `overhead`: bytes of memory that each takes
    besides.
    """

    envelope: Envelope
    epoch: str
    key: int
    seq: int
    index: int
    time: float
    at: float
    expires: float | None
    bodies: tuple[bytes | None, ...]
    live: int
    nbytes: int
    overhead: int

    @property
    def first(self) -> int:
        """The seq of the first message."""
        return self.seq - len(self.bodies) + 1

    @property
    def whole(self) -> bool:
        """No message between the first and the last was removed."""
        return self.live == len(self.bodies)

    @property
    def for_one(self) -> bool:
        return self.envelope.delivery is ONE

    @property
    def for_all(self) -> bool:
        """Neither for one subscriber, nor redriven for one group."""
        return self.envelope.delivery is not ONE and self.envelope.redrive is None

    @property
    def place_in_order(self) -> tuple[str, int, int, bool]:
        """Topic, seq, priority, and whether it is for all: of a run with an ordering, which has one message."""
        ordering = self.envelope.ordering
        return self.envelope.topic, self.seq, ordering.priority if ordering is not None else 0, self.for_all

    # Its messages

    @property
    def messages(self) -> Iterator[Message]:
        return self._messages(range(-len(self.bodies), 0))

    @property
    def seqs(self) -> Iterable[int]:
        """The seqs of the messages that are left, in ascending order."""
        return range(self.first, self.seq + 1) if self.whole else [seq for seq, _ in self.sizes()]

    def after(self, seq: int) -> Iterator[Message]:
        """The messages after that seq, oldest first."""
        return self._messages(range(max(seq - self.seq, -len(self.bodies)), 0))

    def newest(self) -> Iterator[Message]:
        """The messages, newest first."""
        return self._messages(range(-1, -len(self.bodies) - 1, -1))

    def expired(self, now: float) -> bool:
        """True when the ttl is over. No subscriber gets the messages then, even if they have not been removed yet."""
        return self.expires is not None and self.expires <= now

    def has(self, seq: int) -> bool:
        offset = seq - self.seq - 1
        return -len(self.bodies) <= offset < 0 and self.bodies[offset] is not None

    def size(self, seq: int) -> int:
        """Bytes of the body of a message in this run."""
        return len(self.bodies[seq - self.seq - 1] or b"")

    def get(self, seq: int) -> Message | None:
        offset = seq - self.seq - 1
        return next(self._messages((offset,)), None) if -len(self.bodies) <= offset < 0 else None

    def _messages(self, offsets: Iterable[int]) -> Iterator[Message]:
        """`offsets` count from the end: -1 is the last."""
        envelope, bodies, seq, index = self.envelope, self.bodies, self.seq + 1, self.index + 1
        for offset in offsets:
            if (body := bodies[offset]) is not None:
                yield Message(
                    self.epoch, seq + offset, index + offset, envelope.topic, body, envelope.content_type,
                    envelope.event, self.time, envelope.delivery, self.expires, envelope.line, envelope.retain,
                    envelope.death, self.at, envelope.headers, envelope.redrive,
                    envelope.ordering,
                )  # fmt: skip

    def count_after(self, seq: int) -> int:
        """How many messages come after that seq."""
        return sum(body is not None for body in self.bodies[max(seq - self.first + 1, 0) :])

    def fewest_with(self, nbytes: int) -> int:
        """How many of the oldest messages it takes to make up `nbytes`; all of them, if they have fewer bytes."""
        if nbytes > self.nbytes:
            return self.live
        sums = accumulate(size for _, size in self.sizes())
        return next(count for count, total in enumerate(sums, 1) if total >= nbytes) if nbytes > 0 else 0

    def sizes(self) -> Iterator[tuple[int, int]]:
        """The seq and the bytes of the body of each message."""
        return ((seq, len(body)) for seq, body in enumerate(self.bodies, self.first) if body is not None)

    # Removal: each method returns a run of the removed messages, and a run of the others if there are any

    def without(self, seq: int) -> "tuple[Run, Run | None]":
        """Separate one message of this run from the others."""
        if self.live == 1:
            return self, None
        bodies, index = self.bodies, seq - self.first
        others = (*bodies[:index], None, *bodies[index + 1 :])
        return self.part(seq, bodies[index : index + 1]), self._left(others, self.live - 1)

    def split(self, count: int) -> "tuple[Run, Run | None]":
        """Separate the `count` oldest messages from the others."""
        if count >= self.live:
            return self, None
        end = count
        if not self.whole:
            end = next(islice((end for end, body in enumerate(self.bodies, 1) if body is not None), count - 1, None))
        removed = self.part(self.first + end - 1, self.bodies[:end])
        return removed, self._left(self.bodies[end:], self.live - count)

    def part(self, seq: int, bodies: tuple[bytes | None, ...]) -> "Run":
        """A new run, with a key of its own, of some of the bodies. `seq`: that of the last."""
        return self._with(seq, seq, bodies, sum(body is not None for body in bodies))

    def _left(self, bodies: tuple[bytes | None, ...], live: int) -> "Run | None":
        """The run of what is left, without holes at its ends. `bodies`: up to the last body of this run."""
        if not live:
            return None
        begin, end = 0, len(bodies)
        while bodies[begin] is None:
            begin += 1
        while bodies[end - 1] is None:
            end -= 1
        return self._with(self.key, self.seq - len(bodies) + end, bodies[begin:end], live)

    def _with(self, key: int, seq: int, bodies: tuple[bytes | None, ...], live: int) -> "Run":
        index, nbytes = self.index - (self.seq - seq), sum(map(len, filter(None, bodies)))
        return Run(
            self.envelope, self.epoch, key, seq, index, self.time, self.at, self.expires, bodies, live, nbytes,
            self.overhead,
        )  # fmt: skip


def make_runs(draft: Draft, epoch: str, seq: int, index: int, now: float, *, time: float | None = None) -> list[Run]:
    """The draft's messages, accepted at `now`, with positions from `seq` and `index` on. `time`: the wall clock's time,
    if it differs from `now`."""
    made: list[Run] = []
    envelope = draft.envelope
    expires = None if envelope.ttl is None else now + envelope.ttl
    each = memory_cost(envelope)
    time = now if time is None else time
    for bodies in (tuple(draft.bodies),) if len(draft.bodies) == 1 else _cut(draft):
        live = len(bodies)
        last, nbytes = seq + live - 1, sum(map(len, bodies))
        made.append(Run(envelope, epoch, last, last, index + live - 1, time, now, expires, bodies, live, nbytes, each))
        seq += live
        index += live
    return made


def _cut(draft: Draft) -> Sequence[tuple[bytes, ...]]:
    """Divide the bodies into runs. Messages that may be removed out of order (ttl, delivery=one, an ordering) get a run
    each."""
    bodies, envelope = draft.bodies, draft.envelope
    if envelope.delivery is ONE or envelope.ttl is not None or envelope.ordering is not None:
        return [(body,) for body in bodies]
    if len(bodies) <= MAX_RUN_LENGTH and sum(map(len, bodies)) <= MAX_RUN_BYTES:
        return (tuple(bodies),)
    parts, nbytes = [[bodies[0]]], len(bodies[0])
    for body in bodies[1:]:
        nbytes += len(body)
        if len(parts[-1]) == MAX_RUN_LENGTH or nbytes > MAX_RUN_BYTES:
            parts.append([])
            nbytes = len(body)
        parts[-1].append(body)
    return [*map(tuple, parts)]
