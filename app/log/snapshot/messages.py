"""Messages in a snapshot: runs in the order of the log, from which the indexes of messages are built."""

from collections.abc import Iterator
from typing import Final

import msgspec

from ...messages.message import ONE, Draft, Envelope
from ..run import Run
from ..state import LogStateMachine
from ..topic_log import TopicLog
from .record import Record, Restored

PART_BYTES: Final = 64 << 10  # of a record of messages, unless one has more: restoring it takes few milliseconds
_ROW_BYTES: Final = 48  # of a run besides its bodies, about


class RunRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The fields are those of Run. `topic`: its number. `envelope`: None if it is that of the topic's run before.
    `missing`: how many messages it has lost at its end, by which its key and its seq differ. `time`: None if equal to
    `at`."""

    topic: int
    envelope: Envelope | None
    seq: int
    missing: int
    index: int
    time: float | None
    at: float
    expires: float | None
    overhead: int
    bodies: tuple[bytes | None, ...]


class RunsRecord(Record, frozen=True, array_like=True, gc=False, tag="runs"):
    rows: list[RunRow]

    @classmethod
    def all(cls, core: LogStateMachine) -> "Iterator[RunsRecord]":
        numbers = {name: number for number, name in enumerate(core.log.topics)}
        envelopes: dict[str, Envelope] = {}
        rows, nbytes = list[RunRow](), 0
        for run in core.log.messages.after(0):
            topic, envelope = run.envelope.topic, run.envelope
            before = envelopes.get(topic)
            known = before is envelope or before == envelope
            if not known:
                envelopes[topic] = envelope
            rows.append(
                RunRow(
                    numbers[topic], None if known else envelope, run.seq, run.key - run.seq, run.index,
                    None if run.time == run.at else run.time, run.at, run.expires, run.overhead, run.bodies,
                )
            )  # fmt: skip
            nbytes += run.nbytes + _ROW_BYTES
            if nbytes >= PART_BYTES:
                yield cls(rows)
                rows, nbytes = [], 0
        if rows:
            yield cls(rows)

    def restore(self, restored: Restored) -> None:
        log = restored.core.log
        epoch_of = log.epochs.of
        for row in self.rows:
            topic, bodies = restored.topics[row.topic], row.bodies
            if row.envelope is not None:
                restored.envelopes[row.topic] = topic.share(Draft(row.envelope, ())).envelope
            envelope = restored.envelopes[row.topic]
            present = [body for body in bodies if body is not None]
            run = Run(
                envelope, epoch_of(row.seq), row.seq + row.missing, row.seq, row.index,
                row.at if row.time is None else row.time, row.at, row.expires, bodies, len(present),
                sum(map(len, present)), row.overhead,
            )  # fmt: skip
            topic.messages.extend((run,))
            _restore_indexes(restored.core, topic, run)


def _restore_indexes(core: LogStateMachine, topic: TopicLog, run: Run) -> None:
    envelope = run.envelope
    if run.expires is not None:
        core.log.expiries.set(run.seq, run.expires)
    if envelope.ordering is not None:
        core.log.ordered.add(*run.place_in_order)
    if envelope.delivery is ONE:
        core.log.single_delivery.restore(topic.name, run.seq)
    if envelope.death is not None:
        assert topic.unacked is not None
        topic.unacked.dead.add(run.seq, run.nbytes, (envelope.death.topic, envelope.death.group))


class InTransitRecord(Record, frozen=True, array_like=True, gc=False, tag="in_transit"):
    """The topics of the messages that are in transit to one subscriber, by seq, and the nodes that have them."""

    topics: dict[int, str]
    nodes: dict[int, str]

    @classmethod
    def of(cls, core: LogStateMachine) -> "InTransitRecord":
        return cls(core.log.single_delivery.in_transit, core.log.single_delivery.nodes)

    def restore(self, restored: Restored) -> None:
        restored.core.log.single_delivery.resume(self.topics)
        restored.core.log.single_delivery.nodes = self.nodes
