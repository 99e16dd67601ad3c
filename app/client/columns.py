"""The columns of the tables that commands show."""

from collections.abc import Sequence
from typing import Final

from .answers.groups import GroupState
from .answers.jobs import JobRecord, JobState, Redriven
from .answers.messages import Message
from .answers.scheduled import ScheduledMessage, ScheduledPublish
from .answers.server import Attendee
from .answers.topics import TopicState
from .table import Column, Kind

WITHHELD: Final = "(the token has no right to read it)"

TOPICS: Final[Sequence[Column[TopicState]]] = (
    Column("topic", Kind.TEXT, lambda topic: topic.topic),
    Column("messages", Kind.COUNT, lambda topic: topic.messages),
    Column("size", Kind.BYTES, lambda topic: topic.bytes),
    Column("rate", Kind.RATE, lambda topic: topic.rate),
    Column("delayed", Kind.COUNT, lambda topic: topic.delayed),
    Column("groups", Kind.COUNT, lambda topic: len(topic.groups)),
    Column("subscribers", Kind.COUNT, lambda topic: topic.subscribers),
    Column("state", Kind.ID, lambda topic: "paused" if topic.paused else None),
)

TOPIC: Final[Sequence[Column[TopicState]]] = (
    *(column for column in TOPICS if column.heading != "groups"),
    Column("groups", Kind.TEXT, lambda topic: " ".join(topic.groups) or None),
    Column("first", Kind.ID, lambda topic: topic.first),
    Column("last", Kind.ID, lambda topic: topic.last),
    Column("max-messages", Kind.COUNT, lambda topic: topic.retention.max_messages),
    Column("max-bytes", Kind.BYTES, lambda topic: topic.retention.max_bytes),
    Column("max-age", Kind.TEXT, lambda topic: topic.retention.max_age),
)

GROUPS: Final[Sequence[Column[GroupState]]] = (
    Column("topic", Kind.TEXT, lambda group: group.topic),
    Column("group", Kind.TEXT, lambda group: group.group),
    Column("ready", Kind.COUNT, lambda group: group.ready),
    Column("leased", Kind.COUNT, lambda group: group.leased),
    Column("delayed", Kind.COUNT, lambda group: group.delayed),
    Column("dead", Kind.ALARM, lambda group: group.dead),
    Column("acked", Kind.COUNT, lambda group: group.acked),
    Column("rate", Kind.RATE, lambda group: group.rate),
    Column("workers", Kind.COUNT, lambda group: group.workers),
    Column("oldest", Kind.TIME, lambda group: group.oldest and group.oldest.time),
    Column("state", Kind.ID, lambda group: "paused" if group.paused else None),
)

GROUP: Final[Sequence[Column[GroupState]]] = (
    *GROUPS,
    Column("died", Kind.COUNT, lambda group: group.dead_total),
    Column("skipped", Kind.COUNT, lambda group: group.skipped),
    Column("position", Kind.ID, lambda group: group.position),
    Column("oldest id", Kind.ID, lambda group: group.oldest and group.oldest.id),
    Column("start", Kind.TEXT, lambda group: group.start),
    Column("ack-timeout", Kind.TEXT, lambda group: group.ack_timeout),
    Column("max-deliveries", Kind.COUNT, lambda group: group.max_deliveries),
    Column("dead-letter", Kind.TEXT, lambda group: group.dead_letter),
    Column("dead-letter waiting", Kind.ALARM, lambda group: group.dead_letters.waiting),
    Column("gap", Kind.TEXT, lambda group: group.gap and group.gap.sentence),
)


def _body(message: Message | JobRecord | ScheduledPublish | ScheduledMessage) -> str:
    if message.text is not None:
        return message.text
    if message.binary is None:
        return WITHHELD
    return f"({len(message.binary)} bytes that are not UTF-8)"


MESSAGES: Final[Sequence[Column[Message]]] = (
    Column("id", Kind.ID, lambda message: message.id),
    Column("time", Kind.TIME, lambda message: message.time),
    Column("event", Kind.ID, lambda message: message.event),
    Column("size", Kind.BYTES, lambda message: len(message.data)),
    Column("body", Kind.BODY, _body),
)

_ID: Final[Column[JobRecord]] = Column("id", Kind.ID, lambda job: job.id)
_ATTEMPT: Final[Column[JobRecord]] = Column("attempt", Kind.COUNT, lambda job: job.attempt)
_REASON: Final[Column[JobRecord]] = Column("reason", Kind.TEXT, lambda job: job.reason)
_BODY: Final[Column[JobRecord]] = Column("body", Kind.BODY, _body)

SCHEDULED: Final[Sequence[Column[ScheduledPublish]]] = (
    Column("id", Kind.ID, lambda publish: publish.id),
    Column("due", Kind.TIME, lambda publish: publish.due),
    Column("topic", Kind.TEXT, lambda publish: publish.topic),
    Column("messages", Kind.COUNT, lambda publish: publish.scheduled),
    Column("size", Kind.BYTES, lambda publish: publish.size),
    Column("body", Kind.BODY, _body),
)

SCHEDULED_MESSAGES: Final[Sequence[Column[ScheduledMessage]]] = (
    Column("number", Kind.COUNT, lambda message: message.number),
    Column("size", Kind.BYTES, lambda message: message.size),
    Column("body", Kind.BODY, _body),
)

SUBSCRIBERS: Final[Sequence[Column[Attendee]]] = (
    Column("who", Kind.TEXT, lambda attendee: attendee.who),
    Column("kind", Kind.ID, lambda attendee: attendee.kind),
    Column("since", Kind.TIME, lambda attendee: attendee.since),
    Column("topics", Kind.TEXT, lambda attendee: " ".join(attendee.topics)),
    Column("group", Kind.TEXT, lambda attendee: attendee.group),
    Column("leased", Kind.COUNT, lambda attendee: attendee.leased),
    Column("state", Kind.ID, lambda attendee: attendee.state),
)

RESULTS: Final[Sequence[Column[tuple[str, str]]]] = (
    Column("id", Kind.ID, lambda result: result[0]),
    Column("result", Kind.TEXT, lambda result: result[1]),
)

REDRIVEN: Final[Sequence[Column[Redriven]]] = (
    Column("redriven", Kind.COUNT, lambda answer: answer.redriven),
    Column("left", Kind.ALARM, lambda answer: answer.left),
)

JOBS: Final[dict[JobState, Sequence[Column[JobRecord]]]] = {
    "ready": (
        _ID,
        Column("time", Kind.TIME, lambda job: job.time),
        _ATTEMPT,
        Column("size", Kind.BYTES, lambda job: job.size),
        _BODY,
    ),
    "leased": (
        _ID,
        _ATTEMPT,
        Column("consumer", Kind.TEXT, lambda job: job.consumer),
        Column("since", Kind.TIME, lambda job: job.since),
        Column("until", Kind.TIME, lambda job: job.until),
        _BODY,
    ),
    "delayed": (_ID, _ATTEMPT, Column("due", Kind.TIME, lambda job: job.due), _REASON, _BODY),
    "dead": (
        _ID,
        Column("original", Kind.ID, lambda job: job.original),
        Column("died", Kind.TIME, lambda job: job.dead and job.dead.last_failure),
        Column("attempts", Kind.COUNT, lambda job: job.dead and job.dead.attempts),
        Column("reason", Kind.TEXT, lambda job: job.dead and job.dead.reason),
        _BODY,
    ),
}
