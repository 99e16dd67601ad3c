"""The async client: `from plainmq.client import Client`."""

from .answers import Gap, Line, Published, Record, Scheduled
from .client import Client, ClientError, RequestRefused, Unreachable

__all__ = [
    "Client",
    "ClientError",
    "Gap",
    "Line",
    "Published",
    "Record",
    "RequestRefused",
    "Scheduled",
    "Unreachable",
]
