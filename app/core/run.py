"""A run: messages that took their places one after the other and differ in nothing but their bodies. The log keeps it
as one thing, and a file as one row, because each message by itself would cost far more than a body of usual size.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

import msgspec

from ..message import Delivery, Draft, Envelope, Message

LONGEST: Final = 128  # messages in a run
LARGEST: Final = 16 << 10  # bytes of bodies in a run of several: if some of them go, a file's row is written anew
_ONE: Final = Delivery.ONE  # an enum's member is dear to look up


class Run(msgspec.Struct, gc=False, eq=False):
    """`seq` and `index` are those of the last message there was, whether or not it is gone: so what lies behind a place
    is in the runs behind it, and in no other. `gone` counts the bodies that are None: their messages are gone, and one
    before them is not."""

    envelope: Envelope
    epoch: str
    seq: int
    index: int
    time: float
    expires: float | None
    bodies: list[bytes | None]
    gone: int = 0

    def __len__(self) -> int:
        """How many messages are left."""
        return len(self.bodies) - self.gone

    def __iter__(self) -> Iterator[Message]:
        return self.after(0)

    @property
    def for_all(self) -> bool:
        return self.envelope.delivery is not _ONE

    @property
    def octets(self) -> int:
        """Bytes of the bodies."""
        return sum(map(len, filter(None, self.bodies)))

    @property
    def first(self) -> int:
        """The seq of the first message, gone or not."""
        return self.seq - len(self.bodies) + 1

    @property
    def first_index(self) -> int:
        return self.index - len(self.bodies) + 1

    def copy(self) -> "Run":
        """Another one, that loses nothing when this one does."""
        return self.part(self.seq, [*self.bodies], self.gone)

    def after(self, seq: int) -> Iterator[Message]:
        """The messages behind that place, oldest first. They may be removed meanwhile."""
        return self._messages(range(max(seq - self.seq, -len(self.bodies)), 0))

    def newest(self) -> Iterator[Message]:
        """The messages, newest first. They may be removed meanwhile."""
        return self._messages(range(-1, -len(self.bodies) - 1, -1))

    def count(self, seq: int) -> int:
        """How many messages are behind that place, which is before the run's last."""
        bodies = self.bodies[max(seq - self.seq, -len(self.bodies)) :]
        return len(bodies) - (bodies.count(None) if self.gone else 0)

    def sizes(self) -> Iterator[tuple[int, int]]:
        """Of each message, seq and bytes of the body."""
        return ((seq, len(body)) for seq, body in enumerate(self.bodies, self.first) if body is not None)

    @property
    def seqs(self) -> Iterable[int]:
        """Of the messages that are left, rising."""
        return [seq for seq, _ in self.sizes()] if self.gone else range(self.first, self.seq + 1)

    def get(self, seq: int) -> Message | None:
        return next(self._messages((seq - self.seq - 1,)), None) if self.first <= seq <= self.seq else None

    def _messages(self, places: Iterable[int]) -> Iterator[Message]:
        """Places count from the end, -1 is the last: those stay what they are when the first ones go."""
        bodies, envelope = self.bodies, self.envelope
        for place in places:
            if place >= -len(bodies) and (body := bodies[place]) is not None:
                yield Message(
                    self.epoch, self.seq + 1 + place, self.index + 1 + place, envelope.topic, body,
                    envelope.content_type, envelope.event, self.time, envelope.delivery, self.expires, envelope.line,
                    envelope.retain, envelope.death,
                )  # fmt: skip

    def remove(self, seq: int) -> "Run | None":
        """Give the message up: a run of it alone. None when it is gone already, or never was here."""
        bodies, place = self.bodies, seq - self.first
        if not 0 <= place < len(bodies) or (body := bodies[place]) is None:
            return None
        bodies[place] = None
        self.gone += 1
        while bodies and bodies[0] is None:
            del bodies[0]
            self.gone -= 1
        return self.part(seq, [body])

    def shift(self, count: int) -> "Run":
        """Give up the oldest messages, at most so many, at least one: a run of them."""
        live = min(count, len(self))
        end = self._end_of(count) if self.gone else live
        bodies, seq = self.bodies[:end], self.first + end - 1
        del self.bodies[:end]
        self.gone -= end - live
        return self.part(seq, bodies, end - live)

    def part(self, seq: int, bodies: list[bytes | None], gone: int = 0) -> "Run":
        """A run of its own with some of its bodies; `seq` is that of the last."""
        index = self.index - (self.seq - seq)
        return Run(self.envelope, self.epoch, seq, index, self.time, self.expires, bodies, gone)

    def _end_of(self, count: int) -> int:
        """The place behind that many messages, or behind the last."""
        return [*islice((place for place, body in enumerate(self.bodies, 1) if body is not None), count)][-1]


def runs(draft: Draft, epoch: str, seq: int, index: int, now: float) -> Iterator[Run]:
    """The draft's messages, accepted at `now` and given the places from `seq` and `index` on."""
    envelope = draft.envelope
    expires = None if envelope.ttl is None else now + envelope.ttl
    restless = envelope.delivery is _ONE or expires is not None  # they may go before their turn, each by itself
    parts: Iterable[list[bytes | None]] = ([body] for body in draft.bodies) if restless else _cut(draft.bodies)
    for bodies in parts:
        seq += len(bodies)
        index += len(bodies)
        yield Run(envelope, epoch, seq - 1, index - 1, now, expires, bodies)


def _cut(bodies: Sequence[bytes]) -> Iterator[list[bytes | None]]:
    """The bodies, in parts as long as a run may be."""
    if len(bodies) <= LONGEST and sum(map(len, bodies)) <= LARGEST:
        yield [*bodies]
        return
    part: list[bytes | None] = []
    octets = 0
    for body in bodies:
        octets += len(body)
        if part and (len(part) == LONGEST or octets > LARGEST):
            yield part
            part, octets = [], len(body)
        part.append(body)
    yield part
