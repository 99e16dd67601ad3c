"""GET /jobs: the messages of a group that are ready, leased, delayed or dead. Nothing is taken."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from ...access.grant import Right
from ...broker.broker import Broker
from ...broker.records import job_record
from ...log.groups.job import JobState
from ...log.groups.listing import JobQuery
from ...log.groups.records import parse_group
from ...messages.message import parse_id
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
    records = [job_record(job, grant.allows(Right.SUBSCRIBE, job.message.topic)) for job in page.jobs]
    return json_answer({"jobs": records, "next": page.next}, headers=NEVER_STORED)
