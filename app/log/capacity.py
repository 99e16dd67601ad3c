"""Capacity: whether the log and a topic have room for new messages, and the error if they have not."""

from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

from ..errors import LogFull, MessageTooLarge
from ..messages.message import Draft, newest
from .groups.job import JOB_COST
from .groups.unacked import UnackedIndex
from .memory import Memory
from .run import one_cost, resident_cost
from .topic_log import TOPIC_COST, Retention, TopicLog, Weight, weigh

_IS_RETAINED = attrgetter("envelope.retain")


class Freed(NamedTuple):
    """Bytes of memory. `resident`: the part that messages take even if they are on a disk."""

    memory: int = 0
    resident: int = 0


def check(drafts: Sequence[Draft], topic: TopicLog | None, memory: Memory) -> None:
    """`topic`: that of the drafts, if it exists. `memory`: of the whole log. Raises LogFull, MessageTooLarge."""
    limits = memory.limits
    retention = topic.retention if topic else limits.retention
    retained = [*filter(_IS_RETAINED, drafts)]
    coming = kept = weigh(retained)
    if coming.messages > retention.max_messages or coming.nbytes > retention.max_bytes:
        kept = _weigh_newest(retained, retention)
    need = memory.total + kept.memory - limits.total_bytes
    if topic is None:
        need += TOPIC_COST
    elif topic.unacked is not None:
        # Without groups, only the last one stays for certain: the others make room.
        staying = coming if topic.unacked.groups else weigh(newest(retained, 1))
        _check_held(topic, topic.unacked, staying)
        need += kept.messages * len(topic.unacked.groups) * JOB_COST
    lack = kept.resident - memory.left() if kept.resident else 0
    if need <= 0 and lack <= 0:
        return
    freed = Freed() if topic is None else _reclaimable(topic, kept)
    if freed.resident < lack:
        raise memory.full()
    if freed.memory < need:
        raise LogFull(
            f"the log takes {memory.total} of {limits.total_bytes} bytes and the retention of "
            f"{drafts[0].envelope.topic!r} frees too little: shorten a retention, delete a topic or raise "
            f"{limits.total_setting}"
        )


def _weigh_newest(drafts: Sequence[Draft], retention: Retention) -> Weight:
    """The weight of the messages that retention would keep. Raises MessageTooLarge."""
    kept = newest(drafts, retention.max_messages)
    longest = max((len(body) for draft in kept for body in draft.bodies), default=0)
    if longest > retention.max_bytes:
        raise MessageTooLarge(
            f"the message has {longest} bytes; topic {drafts[0].envelope.topic!r} keeps at most {retention.max_bytes}"
        )
    return weigh(kept)


def _check_held(topic: TopicLog, unacked: UnackedIndex, coming: Weight) -> None:
    """Raises MessageTooLarge when the topic can never hold so much for its groups, LogFull when it cannot now."""
    retention = topic.retention
    if coming.messages > retention.max_messages or coming.nbytes > retention.max_bytes:
        raise MessageTooLarge(
            f"a batch of {coming.messages} messages ({coming.nbytes} bytes) is more than topic {topic.name!r} "
            f"keeps for its groups, {retention.max_messages} ({retention.max_bytes} bytes): send it in parts"
        )
    count, nbytes = unacked.count + coming.messages, unacked.bytes + coming.nbytes
    if coming.messages and (count > retention.max_messages or nbytes > retention.max_bytes):
        raise LogFull(
            f"{_why(topic.name, unacked)} {unacked.count} messages ({unacked.bytes} bytes); "
            f"it keeps at most {retention.max_messages} ({retention.max_bytes} bytes): "
            f"wait for the workers, raise its retention or delete {'a group' if unacked.groups else 'the topic'}"
        )


def _why(name: str, unacked: UnackedIndex) -> str:
    if unacked.groups:
        return f"the groups of topic {name!r} have not acked"
    return f"topic {name!r} still holds dead letters,"


def _reclaimable(topic: TopicLog, coming: Weight) -> Freed:
    """What the topic's retention would free if the coming messages were accepted."""
    messages = topic.messages.live + coming.messages - topic.retention.max_messages
    nbytes = topic.bytes + coming.nbytes - topic.retention.max_bytes
    memory = known = 0
    for run in topic.messages.after(0):
        for seq, size in run.sizes():
            if messages <= 0 and nbytes <= 0:
                return Freed(memory, known)
            if run.envelope.redrive is not None:
                continue
            if topic.unacked is None or not run.for_all or not topic.unacked.is_needed(seq):
                messages -= 1
                nbytes -= size
                memory += size + run.overhead + one_cost(run.envelope)
                known += resident_cost(run.envelope, run.expires is not None)
    return Freed(memory, known)
