"""One request and what became of it, for the log and the metrics: whatever answers, it passes here on its way out."""

import re
from collections.abc import Mapping
from secrets import token_hex
from time import monotonic
from typing import Any, Final

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...access.grant import ANONYMOUS, UNAUTHENTICATED, Grant
from ...telemetry.accesslog import AccessLog, address

LAWFUL: Final = re.compile(rb"[A-Za-z0-9._~+/=:@-]{1,128}")  # a request id that somebody else has made

_KEY: Final = "plainmq.exchange"
_ID: Final = b"x-request-id"
_PROBLEM: Final = b"application/problem+json"


class AccessRecord:
    __slots__ = (
        "begun", "client", "code", "dropped", "id", "left", "method", "octets_in", "octets_out", "receive", "status",
        "streams", "target", "token", "why",
    )  # fmt: skip

    def __init__(
        self, method: str, target: bytes, client: tuple[str, int] | None, id: str | None, token: str | None = None
    ) -> None:
        """`id` is None where nobody asked for one; `token` is the name of the one that the request came in with."""
        self.begun = monotonic()
        self.client = client
        self.method = method
        self.target = target
        self.id = id
        self.token = token
        self.status = 0  # until it is answered; it stays so for a stream that has its connection to itself
        self.code: str | None = None  # of the error, if it is one
        self.why = ""  # a stream ended
        self.left = False  # the client, before it had its answer
        self.dropped = False  # its connection has answered instead
        self.streams = False
        self.octets_in = self.octets_out = 0
        self.receive: Receive | None = None  # the server's own: it knows the connection, if anything does

    @property
    def header(self) -> list[tuple[bytes, bytes]]:
        """Of the answer: under which name the log knows the request."""
        return [] if self.id is None else [(_ID, self.id.encode())]

    def begin(self, message: Message) -> None:
        """The answer's head goes out."""
        self.status = message["status"]
        headers = [*message.get("headers", ()), *self.header]
        self.streams = any(name == b"content-type" and b"event-stream" in value for name, value in headers)
        message["headers"] = headers

    def tell(self, access: AccessLog) -> None:
        """It is over."""
        about: dict[str, Any] = {
            "client": address(self.client),
            "seconds": monotonic() - self.begun,
            "bytes_in": self.octets_in,
            "bytes_out": self.octets_out or None,
            "token": self.token,
            "request": self.id,
        }
        if self.streams:
            access.ended("stream ended", self.why or "client_left", self.target, **about)
        elif self.status >= access.least:
            code = "client_left" if self.left and self.status == 400 else self.code
            access.request(self.status, self.method, self.target, code=code, **about)


def exchange(scope: Mapping[str, Any]) -> AccessRecord | None:
    """The request's own; None where nobody watches."""
    found: AccessRecord | None = scope.get("state", {}).get(_KEY)
    return found


def named(grant: Grant) -> str | None:
    """Whose it is; None where nobody was asked."""
    return None if grant is ANONYMOUS or grant is UNAUTHENTICATED else grant.name


def code_of(body: bytes) -> str | None:
    """The code of the problem that a body is."""
    try:
        return msgspec.json.decode(body, type=_Coded).code
    except msgspec.DecodeError:
        return None


class _Coded(msgspec.Struct):
    code: str | None = None


class AccessLogMiddleware:
    """The outermost of our middleware: even who is turned away is seen."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = scope.setdefault("state", {})[_KEY] = _of(scope)
        seen.receive = receive
        state = scope["app"].state

        async def take() -> Message:
            message = await receive()
            seen.octets_in += len(message.get("body", b""))
            seen.left = seen.left or message["type"] == "http.disconnect"
            return message

        async def give(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.begin(message)
                state.broker.counters.answers[seen.status] += not seen.left  # or nobody gets it
            else:
                body = message.get("body", b"")
                seen.octets_out += len(body)
                if seen.status >= 400 and seen.code is None:
                    seen.code = code_of(body)
            await send(message)

        try:
            await self._app(scope, take, give)
        except Exception:  # it is answered, and reported with its traceback, further out
            seen.status, seen.code = 500, "internal_error"
            state.broker.counters.answers[500] += 1
            state.broker.counters.refusals[seen.code] += 1
            raise
        finally:
            if seen.status and not seen.dropped:
                seen.tell(state.access)


def _of(scope: Scope) -> AccessRecord:
    query = scope["query_string"]
    target = scope.get("raw_path", b"") + (b"?" + query if query else b"")
    return AccessRecord(scope["method"], target, scope.get("client"), _request_id(scope))


def _request_id(scope: Scope) -> str:
    """The client's, if it is lawful and the only one; else a new one."""
    given = [value for name, value in scope["headers"] if name == _ID]
    return given[0].decode() if len(given) == 1 and LAWFUL.fullmatch(given[0]) else token_hex(8)
