"""The Python client: `from plainmq import Client, AsyncClient`, and the commands that use it.

`aio` and `sync` are its two faces; what they do stands once, in the modules beside them. It knows the wire and nothing
of the server's code."""

from .aio.client import AsyncClient
from .aio.items import AsyncStream, AsyncWorker
from .answers import (
    Death,
    Gap,
    GroupState,
    Job,
    JobPage,
    JobRecord,
    Jobs,
    Line,
    Message,
    Page,
    Published,
    Redriven,
    Scheduled,
    Ticket,
    TopicState,
)
from .errors import (
    ClientError,
    Closed,
    Forbidden,
    InvalidRequest,
    LeaseExpired,
    LimitReached,
    LogFull,
    MessagesLost,
    MessageTooLarge,
    NotFound,
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
    "Client",
    "ClientError",
    "Closed",
    "Death",
    "Forbidden",
    "Gap",
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
    "Page",
    "Published",
    "Redriven",
    "RequestRefused",
    "Scheduled",
    "Stream",
    "Ticket",
    "TopicState",
    "Unauthorised",
    "Unavailable",
    "Unreachable",
    "Untrusted",
    "Worker",
]
