"""JSON records of topics and jobs, as both endpoints show them."""

from typing import Any

import msgspec

from ..log.groups.job import InFlight, JobState
from ..log.groups.listing import ListedJob
from ..messages.lease import Lease
from ..messages.message import Message, rfc3339
from ..messages.record import as_record, shown_body
from ..messages.units import format_duration
from .directory import TopicInfo


def topic_record(info: TopicInfo) -> dict[str, Any]:
    state = info.state
    return {
        "topic": state.topic,
        "messages": state.messages,
        "bytes": state.bytes,
        "delayed": state.delayed,
        "first": state.first,
        "last": state.last,
        "subscribers": info.subscribers,
        "groups": state.groups,
        "rate": state.rate,
        "paused": state.paused,
        "retention": {
            "max_messages": state.retention.max_messages,
            "max_bytes": state.retention.max_bytes,
            "max_age": format_duration(state.retention.max_age),
        },
    }


def job_record(listed: ListedJob, shows_body: bool) -> dict[str, Any]:
    message, job = listed.message, listed.job
    record = _message_record(message, shows_body) | {"state": listed.state}
    if message.death is not None:
        record["original"] = message.death.id
    return record if job is None else record | _attempt_record(listed, job)


def _message_record(message: Message, shows_body: bool) -> dict[str, Any]:
    """Without the body and the headers for a client that may not read them; of a long body only the beginning."""
    bare = msgspec.structs.replace(message, data=b"", headers=message.headers if shows_body else None)
    record = as_record(bare)
    del record["data"]
    return record | {"size": len(message.data)} | (shown_body(message.data) if shows_body else {})


def _attempt_record(listed: ListedJob, job: InFlight) -> dict[str, Any]:
    record: dict[str, Any] = {"attempt": job.attempt}
    ahead = listed.ahead
    if listed.state is JobState.DELAYED:
        record["due"] = rfc3339(job.due + ahead)
    if job.expires is not None:
        record |= {
            "lease": Lease(listed.message, job.attempt, job.expires).id,
            "since": rfc3339(job.since + ahead),
            "until": rfc3339(job.expires + ahead),
            "consumer": job.holder or None,
        }
    if job.reason:
        first = job.last_failure if job.first_failure is None else job.first_failure
        record |= {
            "reason": job.reason,
            "first_failure": rfc3339(first + ahead),
            "last_failure": rfc3339(job.last_failure + ahead),
        }
    return record
