"""GET /jobs: the messages of a group that are ready, leased, delayed or dead. Nothing is taken."""

from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...access.grant import Right
from ...broker.broker import Broker
from ...log.groups.job import InFlight, JobState
from ...log.groups.listing import JobQuery, ListedJob
from ...log.groups.records import parse_group
from ...messages.lease import Lease
from ...messages.message import Message, parse_id, rfc3339
from ...messages.record import as_record, shown_body
from ...messages.topic import parse_topic
from ..authentication import grant_of
from ..permissions import group_option
from ..query import Parser, choice, read_options
from ..responses import NEVER_STORED, json_answer
from .lists import PAGE_LIMIT, USUAL

_OPTIONS: Final[dict[str, Parser]] = {
    "topic": parse_topic,
    "group": parse_group,
    "state": choice("state", {state.value: state for state in JobState}),
    "after": parse_id,
    "limit": PAGE_LIMIT,
}


async def list_jobs(request: Request) -> Response:
    broker: Broker = request.app.state.broker
    options = read_options(request, _OPTIONS)
    topic, group = options["topic"], group_option(request)
    after = options["after"].seq if "after" in options else 0
    state = options.get("state", JobState.READY)
    page = await broker.log.jobs(JobQuery(topic, group, state, after, options.get("limit", USUAL)))
    grant = grant_of(request)
    records = [_record(job, grant.allows(Right.SUBSCRIBE, job.message.topic)) for job in page.jobs]
    return json_answer({"jobs": records, "next": page.next}, headers=NEVER_STORED)


def _record(listed: ListedJob, shows_body: bool) -> dict[str, Any]:
    message, job = listed.message, listed.job
    record = _message_record(message, shows_body) | {"state": listed.state}
    if message.death is not None:
        record["original"] = message.death.id
    return record if job is None else record | _job_record(listed, job)


def _message_record(message: Message, shows_body: bool) -> dict[str, Any]:
    """Without the body and the headers for a client that may not read them; of a long body only the beginning."""
    bare = msgspec.structs.replace(message, data=b"", headers=message.headers if shows_body else None)
    record = as_record(bare)
    del record["data"]
    return record | {"size": len(message.data)} | (shown_body(message.data) if shows_body else {})


def _job_record(listed: ListedJob, job: InFlight) -> dict[str, Any]:
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
