"""Answers to commands that report more than success: as text for people, and as the fields of a JSON object."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ..access.grant import Grant, Right
from ..broker.directory import TopicInfo
from ..broker.records import job_record, topic_record
from ..log.directory import ListPage
from ..log.groups.listing import JobPage, ListedJob
from ..messages.message import rfc3339
from ..messages.record import as_text
from .encoders import escaped

MAX_SHOWN: Final = 200  # characters of a body in text


class Answer(msgspec.Struct, frozen=True):
    def text(self) -> str:
        raise NotImplementedError

    def fields(self) -> Mapping[str, Any]:
        raise NotImplementedError


class Done(Answer, frozen=True):
    """`word`: what is now the case, in text."""

    word: str
    values: Mapping[str, Any] = {}

    def text(self) -> str:
        return self.word

    def fields(self) -> Mapping[str, Any]:
        return self.values


class Figures(Answer, frozen=True):
    values: Mapping[str, Any]

    def text(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.values.items())

    def fields(self) -> Mapping[str, Any]:
        return self.values


class TopicsAnswer(Answer, frozen=True):
    """In text one line per topic, below a line with their number."""

    page: ListPage[TopicInfo]

    def text(self) -> str:
        return "\n".join([f"topics={len(self.page.items)}", *map(_topic_line, self.page.items)])

    def fields(self) -> Mapping[str, Any]:
        return {"topics": [*map(topic_record, self.page.items)]}


class JobsAnswer(Answer, frozen=True):
    """Bodies are shown to a client that may subscribe to their topic."""

    page: JobPage
    grant: Grant

    def text(self) -> str:
        more = " and more" if self.page.next else ""
        lines = [_job_line(job, self._shows_body(job)) for job in self.page.jobs]
        return "\n".join([f"jobs={len(lines)}{more}", *lines])

    def fields(self) -> Mapping[str, Any]:
        records = [job_record(job, self._shows_body(job)) for job in self.page.jobs]
        return {"jobs": records, "next": self.page.next}

    def _shows_body(self, listed: ListedJob) -> bool:
        return self.grant.allows(Right.SUBSCRIBE, listed.message.topic)


def _topic_line(topic: TopicInfo) -> str:
    state = topic.state
    return (
        f"TOPIC {state.topic} messages={state.messages} bytes={state.bytes} "
        f"first={state.first or '-'} last={state.last or '-'} subscribers={topic.subscribers}"
    )


def _job_line(listed: ListedJob, shows_body: bool) -> str:
    message, job, death = listed.message, listed.job, listed.message.death
    parts = [listed.state.upper(), message.id]
    if job is not None:
        parts.append(f"attempt={job.attempt}")
        if job.expires is not None:
            parts += [f"consumer={job.holder or '-'}", f"until={rfc3339(job.expires + listed.ahead)}"]
    if reason := death.reason if death else job.reason if job else "":
        parts.append(f'reason="{escaped(reason)}"')
    if shows_body:
        parts.append(escaped(as_text(message)[:MAX_SHOWN]))
    return " ".join(parts)
