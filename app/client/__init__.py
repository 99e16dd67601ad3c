"""The Python client: `from plainmq import Client, AsyncClient`, and the commands that use it.

`aio` and `sync` are its two faces; what they do stands once, in the modules beside them. It knows the wire and nothing
of the server's code."""

from .aio.client import AsyncClient
from .aio.items import AsyncStream, AsyncWorker
from .answers.access import Session, Ticket
from .answers.groups import GroupPage, GroupState
from .answers.jobs import Job, JobPage, JobRecord, Jobs, Redriven
from .answers.messages import Death, Gap, Line, Message, Page, Published
from .answers.scheduled import Scheduled, ScheduledMessage, ScheduledMessagePage, ScheduledPage, ScheduledPublish
from .answers.server import Attendee, SubscriberPage
from .answers.topics import TopicPage, TopicState
from .errors import (
    ClientError,
    Closed,
    Conflict,
    Forbidden,
    InvalidRequest,
    LeaseExpired,
    LimitReached,
    LogFull,
    MessagesLost,
    MessageTooLarge,
    NotFound,
    OutcomeUnknown,
    RequestRefused,
    Unauthorised,
    Unavailable,
    Unreachable,
    Untrusted,
)
from .sync.client import Client
from .sync.items import Stream, Worker

__all__ = [
    "AsyncClient",
    "AsyncStream",
    "AsyncWorker",
    "Attendee",
    "Client",
    "ClientError",
    "Closed",
    "Conflict",
    "Death",
    "Forbidden",
    "Gap",
    "GroupPage",
    "GroupState",
    "InvalidRequest",
    "Job",
    "JobPage",
    "JobRecord",
    "Jobs",
    "LeaseExpired",
    "LimitReached",
    "Line",
    "LogFull",
    "Message",
    "MessageTooLarge",
    "MessagesLost",
    "NotFound",
    "OutcomeUnknown",
    "Page",
    "Published",
    "Redriven",
    "RequestRefused",
    "Scheduled",
    "ScheduledMessage",
    "ScheduledMessagePage",
    "ScheduledPage",
    "ScheduledPublish",
    "Session",
    "Stream",
    "SubscriberPage",
    "Ticket",
    "TopicPage",
    "TopicState",
    "Unauthorised",
    "Unavailable",
    "Unreachable",
    "Untrusted",
    "Worker",
]
