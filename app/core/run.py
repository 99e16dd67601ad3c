"""A run: messages that took their places one after the other and differ in nothing but their bodies. The log keeps it
as one thing, and a file as one row, because each message by itself would cost far more than a body of usual size.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, dropwhile, islice
from typing import Final

import msgspec

from ..message import Death, Delivery, Draft, Envelope, Message

LONGEST: Final = 128  # messages in a run
LARGEST: Final = 16 << 10  # bytes of bodies in a run of several: if some of them go, a file's row is written anew
MESSAGE_COST: Final = 448  # bytes of memory a kept message takes beyond its body, at most; a test measures it
EXPIRY_COST: Final = 160  # likewise that it has a ttl
DEATH_COST: Final = 512  # likewise the story of a dead message
_ONE: Final = Delivery.ONE  # an enum's member is dear to look up


def cost(line: bytes | None, death: Death | None, ttl: float | None) -> int:
    """Bytes of memory that a kept message with these takes beyond its body, at most."""
    octets = MESSAGE_COST
    if line is not None:
        octets += len(line)
    if death is not None:
        octets += DEATH_COST
    return octets if ttl is None else octets + EXPIRY_COST


class Run(msgspec.Struct, frozen=True, gc=False, eq=False):
    """`seq` and `index` are those of the last message there was, whether or not it is gone: so what lies behind a place
    is in the runs behind it, and in no other. A body is None when its message is gone and one before it is not.

    It never changes: who gives up some of its messages has another one then, with the same `seq`.

    `live`: how many messages are left. `octets`: bytes of their bodies. `cost`: of memory, of each besides its body.
    """

    envelope: Envelope
    epoch: str
    seq: int
    index: int
    time: float
    expires: float | None
    bodies: Sequence[bytes | None]
    live: int
    octets: int
    cost: int

    @property
    def first(self) -> int:
        """The seq of the first message."""
        return self.seq - len(self.bodies) + 1

    @property
    def last(self) -> int:
        """The seq of the last message that is left."""
        return self.seq if self.whole else max(self.seqs)

    @property
    def whole(self) -> bool:
        """No other is gone than the first ones."""
        return self.live == len(self.bodies)

    @property
    def for_all(self) -> bool:
        return self.envelope.delivery is not _ONE

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
                )  # fmt: skip

    def singly(self) -> "Iterator[Run]":
        """Each of the messages as a run of its own."""
        return (self.part(seq, (body,), 1) for seq, body in enumerate(self.bodies, self.first) if body is not None)

    def count(self, seq: int) -> int:
        """How many messages are behind that place, which is before the run's last."""
        bodies = self.bodies[max(seq - self.seq, -len(self.bodies)) :]
        return sum(body is not None for body in bodies)

    def least(self, octets: int) -> int:
        """How many of the oldest messages have so many bytes, or more; all, if they have fewer together."""
        if octets > self.octets:
            return self.live
        sums = accumulate(size for _, size in self.sizes())
        return next(count for count, total in enumerate(sums, 1) if total >= octets) if octets > 0 else 0

    def sizes(self) -> Iterator[tuple[int, int]]:
        """Of each message, seq and bytes of the body."""
        return ((seq, len(body)) for seq, body in enumerate(self.bodies, self.first) if body is not None)

    # What goes: a run of what is given up, and one of what is left, if anything is

    def without(self, seq: int) -> "tuple[Run, Run | None]":
        """A message that is there, by itself, and the others."""
        if self.live == 1:
            return self, None
        bodies, place = self.bodies, seq - self.first
        return self._parted(seq, bodies[place : place + 1], 1, [*bodies[:place], None, *bodies[place + 1 :]])

    def split(self, count: int) -> "tuple[Run, Run | None]":
        """The oldest messages, at most so many, and the others."""
        if count >= self.live:
            return self, None
        end = count
        if not self.whole:
            end = next(islice((end for end, body in enumerate(self.bodies, 1) if body is not None), count - 1, None))
        return self._parted(self.first + end - 1, self.bodies[:end], count, self.bodies[end:])

    def _parted(
        self, seq: int, taken: Sequence[bytes | None], count: int, left: Sequence[bytes | None]
    ) -> "tuple[Run, Run]":
        """`seq`: of the last that is taken; `count`: how many are."""
        gone = self.part(seq, taken, count)
        if left[0] is None:
            left = [*dropwhile(_is_gone, left)]
        return gone, self._with(self.seq, left, self.live - count, self.octets - gone.octets)

    def part(self, seq: int, bodies: Sequence[bytes | None], live: int) -> "Run":
        """With some of its bodies; `seq` is that of the last, `live` how many are not gone."""
        return self._with(seq, bodies, live, sum(map(len, filter(None, bodies))))

    def _with(self, seq: int, bodies: Sequence[bytes | None], live: int, octets: int) -> "Run":
        index = self.index - (self.seq - seq)
        return Run(self.envelope, self.epoch, seq, index, self.time, self.expires, bodies, live, octets, self.cost)


def _is_gone(body: bytes | None) -> bool:
    return body is None


def runs(draft: Draft, epoch: str, seq: int, index: int, now: float) -> list[Run]:
    """The draft's messages, accepted at `now` and given the places from `seq` and `index` on."""
    envelope, made = draft.envelope, list[Run]()
    expires = None if envelope.ttl is None else now + envelope.ttl
    each = cost(envelope.line, envelope.death, envelope.ttl)
    for bodies in _cut(draft):
        live = len(bodies)
        seq += live
        index += live
        octets = sum(map(len, bodies))
        made.append(Run(envelope, epoch, seq - 1, index - 1, now, expires, bodies, live, octets, each))
    return made


def _cut(draft: Draft) -> Sequence[Sequence[bytes]]:
    """The bodies, in parts as long as a run may be. What may go before its turn is by itself."""
    bodies, envelope = draft.bodies, draft.envelope
    if len(bodies) == 1:
        return (bodies,)
    if envelope.delivery is _ONE or envelope.ttl is not None:
        return [(body,) for body in bodies]
    if len(bodies) <= LONGEST and sum(map(len, bodies)) <= LARGEST:
        return (bodies,)
    parts, octets = [[bodies[0]]], len(bodies[0])
    for body in bodies[1:]:
        octets += len(body)
        if len(parts[-1]) == LONGEST or octets > LARGEST:
            parts.append([])
            octets = len(body)
        parts[-1].append(body)
    return parts
