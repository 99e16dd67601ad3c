# Made from app/client/aio/client.py by `python -m tests.client.generate_sync`: change that.

"""The client of the HTTP API: it publishes each message once, and its subscriptions continue after a reconnect.

Its methods are in the modules beside this one, by subject.

It depends on the wire format and on none of the server's code, so it works with an older or newer server too.
"""

import logging
from collections.abc import Callable
from os import PathLike
from types import TracebackType
from typing import Final, Self

from ..connection import Connection
from ..runners import Runner
from .access import Access
from .groups import Groups
from .publishing import Publishing
from .scheduled import Scheduled
from .server import Server
from .subscribing import Subscribing
from .topics import Topics
from .working import Working

_log: Final = logging.getLogger("plainmq.client")


class Client(
    Publishing,
    Scheduled,
    Subscribing,
    Working,
    Topics,
    Groups,
    Server,
    Access,
):
    """A client of one server.

        with Client("http://localhost:8000") as client:
            client.publish("rooms.kitchen", "hello")
            for message in client.subscribe("rooms.*", since="10m"):
                print(message.topic, message.data)

    `token`: its rights apply. `ca`: a file of certificates (PEM) to trust instead of those of the system. `retry_for`:
    seconds for which a request without an answer is sent again; a publish then has the same Idempotency-Key, which the
    server remembers for two minutes. `timeout`: seconds for one request and its answer, and the longest silence of a
    stream: more than the server's keep-alive, which is 15. `tell` gets a sentence when the server cannot be reached and
    will be tried again, or when a lease was over too early; without it, that is a warning of the logger
    `plainmq.client`.

    A duration is a text such as `30s`, a number of seconds, or a timedelta. A position (`since`) is an id, `latest`,
    `earliest`, `last:10`, a duration such as `10m`, or a time: RFC 3339, or a datetime with its zone.

    Raises ValueError for an invalid URL or token, or a file without certificates. Every method raises RequestRefused,
    Unreachable, Untrusted or Closed, which are all ClientError.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        token: str | None = None,
        ca: str | PathLike[str] | None = None,
        retry_for: float = 10.0,
        timeout: float = 60.0,
        tell: Callable[[str], None] = _log.warning,
    ) -> None:
        self._connection = Connection(url, token=token, ca=ca, retry_for=retry_for, timeout=timeout, tell=tell)
        self._runner = Runner(self._connection.close)
        self.url = self._connection.url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the client: iterators end, and calls that wait raise Closed."""
        self._runner.end()
