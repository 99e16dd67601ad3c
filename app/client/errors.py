"""The exceptions of the client.

ClientError
├── Unreachable          no answer in time: no connection, or a broken one
├── Untrusted            the server's certificate cannot be trusted; nothing was sent
├── Closed               the client was closed
├── MessagesLost         requested messages are gone; `gap` says which
└── RequestRefused       the server refused the request; `code` is stable, for programs
    ├── InvalidRequest   400: a topic, a group or an option that cannot be read
    ├── Unauthorised     401: no token, or an invalid one
    ├── Forbidden        403: the token lacks the right
    ├── NotFound         404: no such topic, group or message, or no right to read it
    ├── Conflict         409: not possible in the present state; the sentence says what to do first
    │   └── LeaseExpired     every lease is over; `results` has each
    ├── MessageTooLarge  413
    ├── LimitReached     429: publishing too fast, or one topic or group too many; `retry_after` may say when
    ├── Unavailable      503: the server is stopping, or full
    ├── OutcomeUnknown   504: the server cannot say whether it was stored
    └── LogFull          507: no space, or groups have not acked enough
"""

from collections.abc import Mapping
from typing import Final

import httpx
import msgspec

from .answers.jobs import Result
from .answers.messages import Gap

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
MAX_DIGITS: Final = 9  # of a Retry-After: thirty years


class ClientError(Exception):
    """The text is a sentence for people."""


class Unreachable(ClientError):
    """No answer in time: no connection, or a broken one. A published message may have been stored or not. `waited`: the
    seconds that the request waited until it timed out; 0 if it failed earlier."""

    def __init__(self, sentence: str = "", *, waited: float = 0.0) -> None:
        super().__init__(sentence)
        self.waited = waited


class Untrusted(ClientError):
    """The server's certificate is not trusted, or is for another name. Nothing was sent."""


class Closed(ClientError):
    """The client was closed, by this thread or another. The server may have done the request or not."""

    def __init__(self) -> None:
        super().__init__("the client is closed")


class MessagesLost(ClientError):
    """Requested messages are gone: `gap` says which and why. The iterator that raised it can be used further: it
    continues with the messages that are left."""

    def __init__(self, gap: Gap) -> None:
        super().__init__(gap.sentence)
        self.gap = gap


class RequestRefused(ClientError):
    """The server refused the request, and stored nothing. With `outcome_unknown`, `internal_error`, or a `code` such as
    `http_502`, which comes from a proxy, it is not known whether the server stored anything. `status` is that of HTTP.
    `retry_after`: the seconds after which the server asks the client to try again."""

    def __init__(
        self,
        code: str,
        status: int,
        sentence: str,
        *,
        retry_after: float | None = None,
        results: Mapping[str, Result] | None = None,
    ) -> None:
        super().__init__(sentence)
        self.code = code
        self.status = status
        self.retry_after = retry_after
        self.results = dict(results or {})


class InvalidRequest(RequestRefused):
    """400: a topic, a group or an option that the server cannot read."""


class Unauthorised(RequestRefused):
    """401: the server asks for a token, or this one is unknown or expired."""


class Forbidden(RequestRefused):
    """403: the token has no right to do this."""


class NotFound(RequestRefused):
    """404: no such topic, group or message, or no right to read it."""


class Conflict(RequestRefused):
    """409: not possible in the present state, such as `dead_letters_left` or `token_exists`."""


class LeaseExpired(Conflict):
    """Every lease that was to be settled is over. `results` says what became of each id."""


class MessageTooLarge(RequestRefused):
    """413: more bytes than a message, a batch or its lines may have."""


class LimitReached(RequestRefused):
    """429: `topic_limit` or `group_limit`; or `rate_limited`, after the client has retried for `retry_for` seconds."""


class Unavailable(RequestRefused):
    """503: the server is stopping (`draining`) or full (`subscriber_limit`, `overloaded`), or its disk fails."""


class OutcomeUnknown(RequestRefused):
    """504: the server cannot say whether the disk stores it. A publish was repeated for `retry_for` seconds, with the
    same key."""


class LogFull(RequestRefused):
    """507: no space that retention may free, or groups have not acked as much as the topic may store."""


KINDS: Final[Mapping[int, type[RequestRefused]]] = {
    400: InvalidRequest,
    401: Unauthorised,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: MessageTooLarge,
    429: LimitReached,
    503: Unavailable,
    504: OutcomeUnknown,
    507: LogFull,
}


class _Problem(msgspec.Struct):
    """A problem document (RFC 9457) with our `code`."""

    code: str
    detail: str
    results: dict[str, Result] = {}


def refusal(answer: httpx.Response, body: bytearray) -> RequestRefused:
    """The exception for an answer. An answer that is not a problem document of plainmq gets the base class: a 404 of a
    proxy does not mean that there is no such topic."""
    status, after = answer.status_code, _retry_after(answer)
    try:
        problem = msgspec.json.decode(body, type=_Problem)
    except UNREADABLE:
        sentence = f"{answer.request.url} answered {status} {answer.reason_phrase}".rstrip()
        return RequestRefused(f"http_{status}", status, sentence, retry_after=after)
    sentence = problem.detail
    if problem.code == "unauthorised" and "Authorization" not in answer.request.headers:
        sentence = f"{answer.request.url.copy_with(path='/', query=None)} asks for a token"
    kind = LeaseExpired if problem.code == "lease_expired" else KINDS.get(status, RequestRefused)
    return kind(problem.code, status, sentence, retry_after=after, results=problem.results)


def not_plainmq(sentence: str, status: int = 200) -> RequestRefused:
    """The exception for an answer of another kind of server."""
    return RequestRefused("not_plainmq", status, sentence)


def _retry_after(answer: httpx.Response) -> float | None:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else None
