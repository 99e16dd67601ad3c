"""A run: messages that took their places one after the other and differ in nothing but their bodies. The log keeps it
as one thing, and a file as one row, because each message by itself would cost far more than a body of usual size.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, islice
from typing import Final

import msgspec

from ..messages.message import ONE, Death, Draft, Envelope, Message

MAX_RUN_LENGTH: Final = 50  # messages in a run: so few that the places of those that are gone take little
MAX_RUN_BYTES: Final = 16 << 10  # bytes of bodies in a run of several: if some of them go, a file's row is written anew
MESSAGE_COST: Final = 448  # bytes of memory a kept message takes beyond its body, at most; a test measures it
EXPIRY_COST: Final = 160  # likewise that it has a ttl
DEATH_COST: Final = 512  # likewise the story of a dead message
HELD_COST: Final = 128  # within that: that the dead message is held
ONE_COST: Final = 352  # likewise that it is for one subscriber: that it waits, or is on its way; not in cost()


def memory_cost(line: bytes | None, death: Death | None, ttl: float | None) -> int:
    """Bytes of memory that a kept message with these takes beyond its body, at most."""
    nbytes = MESSAGE_COST
    if line is not None:
        nbytes += len(line)
    if death is not None:
        nbytes += DEATH_COST
    return nbytes if ttl is None else nbytes + EXPIRY_COST


def one_cost(envelope: Envelope) -> int:
    return ONE_COST if envelope.delivery is ONE else 0


def resident_cost(envelope: Envelope, expires: bool) -> int:
    """Bytes of memory that a kept message takes even if it is on a disk."""
    nbytes = one_cost(envelope)
    if envelope.death is not None:
        nbytes += HELD_COST
    return nbytes + EXPIRY_COST if expires else nbytes


class Run(msgspec.Struct, frozen=True, gc=False, eq=False):
    """`key`: where it stands, the seq of the last message it ever had; so what lies behind a place is in the runs that
    stand behind it, and in no other. `seq` and `index`: of the last message that is left. A body is None when its
    message is gone, and one before and one behind it are not.

    `time`: when it was accepted, by the wall clock, as it is shown. `at`: the same on the log's own clock, on which it
    also `expires`.

    It never changes: who gives up some of its messages has another one then, with the same `key`.

    `live`: how many messages are left. `nbytes`: bytes of their bodies. `each`: bytes of memory that one takes besides.
    """

    envelope: Envelope
    epoch: str
    key: int
    seq: int
    index: int
    time: float
    at: float
    expires: float | None
    bodies: Sequence[bytes | None]
    live: int
    nbytes: int
    overhead: int

    @property
    def first(self) -> int:
        """The seq of the first message."""
        return self.seq - len(self.bodies) + 1

    @property
    def whole(self) -> bool:
        """None between the first and the last is gone."""
        return self.live == len(self.bodies)

    @property
    def for_all(self) -> bool:
        return self.envelope.delivery is not ONE

    # Its messages

    @property
    def messages(self) -> Iterator[Message]:
        return self._messages(range(-len(self.bodies), 0))

    @property
    def seqs(self) -> Iterable[int]:
        """Of the messages that are left, rising."""
        return range(self.first, self.seq + 1) if self.whole else [seq for seq, _ in self.sizes()]

    def after(self, seq: int) -> Iterator[Message]:
        """The messages behind that place, oldest first."""
        return self._messages(range(max(seq - self.seq, -len(self.bodies)), 0))

    def newest(self) -> Iterator[Message]:
        """The messages, newest first."""
        return self._messages(range(-1, -len(self.bodies) - 1, -1))

    def expired(self, now: float) -> bool:
        """Its ttl is over: nobody gets it any more, whether or not it was given up yet."""
        return self.expires is not None and self.expires <= now

    def has(self, seq: int) -> bool:
        place = seq - self.seq - 1
        return -len(self.bodies) <= place < 0 and self.bodies[place] is not None

    def size(self, seq: int) -> int:
        """Bytes of the body of a message that is there."""
        return len(self.bodies[seq - self.seq - 1] or b"")

    def get(self, seq: int) -> Message | None:
        place = seq - self.seq - 1
        return next(self._messages((place,)), None) if -len(self.bodies) <= place < 0 else None

    def _messages(self, places: Iterable[int]) -> Iterator[Message]:
        """Places count from the end, -1 is the last."""
        envelope, bodies, seq, index = self.envelope, self.bodies, self.seq + 1, self.index + 1
        for place in places:
            if (body := bodies[place]) is not None:
                yield Message(
                    self.epoch, seq + place, index + place, envelope.topic, body, envelope.content_type, envelope.event,
                    self.time, envelope.delivery, self.expires, envelope.line, envelope.retain, envelope.death,
                    self.at,
                )  # fmt: skip

    def count(self, seq: int) -> int:
        """How many messages are behind that place."""
        return sum(body is not None for body in self.bodies[max(seq - self.first + 1, 0) :])

    def fewest_with(self, nbytes: int) -> int:
        """How many of the oldest messages have so many bytes, or more; all, if they have fewer together."""
        if nbytes > self.nbytes:
            return self.live
        sums = accumulate(size for _, size in self.sizes())
        return next(count for count, total in enumerate(sums, 1) if total >= nbytes) if nbytes > 0 else 0

    def sizes(self) -> Iterator[tuple[int, int]]:
        """Of each message, seq and bytes of the body."""
        return ((seq, len(body)) for seq, body in enumerate(self.bodies, self.first) if body is not None)

    # What goes: a run of what is given up, and one of what is left, if anything is

    def without(self, seq: int) -> "tuple[Run, Run | None]":
        """A message that is there, by itself, and the others."""
        if self.live == 1:
            return self, None
        bodies, place = self.bodies, seq - self.first
        others = [*bodies[:place], None, *bodies[place + 1 :]]
        return self.part(seq, bodies[place : place + 1]), self._left(others, self.live - 1)

    def split(self, count: int) -> "tuple[Run, Run | None]":
        """The oldest messages, at most so many, and the others."""
        if count >= self.live:
            return self, None
        end = count
        if not self.whole:
            end = next(islice((end for end, body in enumerate(self.bodies, 1) if body is not None), count - 1, None))
        gone = self.part(self.first + end - 1, self.bodies[:end])
        return gone, self._left(self.bodies[end:], self.live - count)

    def part(self, seq: int, bodies: Sequence[bytes | None]) -> "Run":
        """A run of its own with some of the bodies; `seq` is that of the last."""
        return self._with(seq, seq, bodies, sum(body is not None for body in bodies))

    def _left(self, bodies: Sequence[bytes | None], live: int) -> "Run | None":
        """It takes no more room than it must. `bodies`: with the last of these."""
        if not live:
            return None
        begin, end = 0, len(bodies)
        while bodies[begin] is None:
            begin += 1
        while bodies[end - 1] is None:
            end -= 1
        return self._with(self.key, self.seq - len(bodies) + end, bodies[begin:end], live)

    def _with(self, key: int, seq: int, bodies: Sequence[bytes | None], live: int) -> "Run":
        index, nbytes = self.index - (self.seq - seq), sum(map(len, filter(None, bodies)))
        return Run(
            self.envelope, self.epoch, key, seq, index, self.time, self.at, self.expires, bodies, live, nbytes,
            self.overhead,
        )  # fmt: skip


def make_runs(draft: Draft, epoch: str, seq: int, index: int, now: float, *, time: float | None = None) -> list[Run]:
    """The draft's messages, accepted at `now` and given the places from `seq` and `index` on. `time`: what the wall
    clock says, if it is not the same."""
    envelope, made = draft.envelope, list[Run]()
    expires = None if envelope.ttl is None else now + envelope.ttl
    each, time = memory_cost(envelope.line, envelope.death, envelope.ttl), now if time is None else time
    for bodies in (draft.bodies,) if len(draft.bodies) == 1 else _cut(draft):
        live = len(bodies)
        last, nbytes = seq + live - 1, sum(map(len, bodies))
        made.append(Run(envelope, epoch, last, last, index + live - 1, time, now, expires, bodies, live, nbytes, each))
        seq += live
        index += live
    return made


def _cut(draft: Draft) -> Sequence[Sequence[bytes]]:
    """The bodies, in parts as long as a run may be. What may go before its turn is by itself."""
    bodies, envelope = draft.bodies, draft.envelope
    if envelope.delivery is ONE or envelope.ttl is not None:
        return [(body,) for body in bodies]
    if len(bodies) <= MAX_RUN_LENGTH and sum(map(len, bodies)) <= MAX_RUN_BYTES:
        return (bodies,)
    parts, nbytes = [[bodies[0]]], len(bodies[0])
    for body in bodies[1:]:
        nbytes += len(body)
        if len(parts[-1]) == MAX_RUN_LENGTH or nbytes > MAX_RUN_BYTES:
            parts.append([])
            nbytes = len(body)
        parts[-1].append(body)
    return parts
