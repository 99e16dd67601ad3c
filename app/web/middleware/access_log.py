"""The access record of each request, for the log and the metrics. Every response passes here on its way out."""

import re
from collections.abc import Mapping
from secrets import token_hex
from time import monotonic
from typing import Any, Final

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...access.grant import ANONYMOUS, UNAUTHENTICATED, Grant
from ...telemetry.accesslog import AccessLog, address

LAWFUL: Final = re.compile(rb"[A-Za-z0-9._~+/=:@-]{1,128}")  # a request id from outside

_KEY: Final = "plainmq.exchange"
_ID: Final = b"x-request-id"
_PROBLEM: Final = b"application/problem+json"


class AccessRecord:
    __slots__ = (
        "bytes_in",
        "bytes_out",
        "client",
        "client_left",
        "code",
        "end_reason",
        "id",
        "is_stream",
        "method",
        "server_receive",
        "started",
        "status",
        "superseded",
        "target",
        "token",
    )  # fmt: skip

    def __init__(
        self, method: str, target: bytes, client: tuple[str, int] | None, id: str | None, token: str | None = None
    ) -> None:
        """`id`: None if the response shows no request id. `token`: the name of the request's token."""
        self.started = monotonic()
        self.client = client
        self.method = method
        self.target = target
        self.id = id
        self.token = token
        self.status = 0  # 0 until the response starts; a stream that took its connection over keeps 0
        self.code: str | None = None  # of the problem, if the response is one
        self.end_reason = ""  # of a stream
        self.client_left = False  # before the response was sent
        self.superseded = False  # the connection itself has answered, and logs the request
        self.is_stream = False
        self.bytes_in = self.bytes_out = 0
        self.server_receive: Receive | None = None  # the server's own receive(), from which the connection can be found

    @property
    def response_headers(self) -> list[tuple[bytes, bytes]]:
        """The header with the request id of the log."""
        return [] if self.id is None else [(_ID, self.id.encode())]

    def begin(self, message: Message) -> None:
        """The response starts."""
        self.status = message["status"]
        headers = [*message.get("headers", ()), *self.response_headers]
        self.is_stream = any(name == b"content-type" and b"event-stream" in value for name, value in headers)
        message["headers"] = headers

    def log(self, access: AccessLog) -> None:
        """Write the record to the log."""
        about: dict[str, Any] = {
            "client": address(self.client),
            "seconds": monotonic() - self.started,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out or None,
            "token": self.token,
            "request": self.id,
        }
        if self.is_stream:
            access.ended("stream ended", self.end_reason or "client_left", self.target, **about)
        elif self.status >= access.least:
            code = "client_left" if self.client_left and self.status == 400 else self.code
            access.request(self.status, self.method, self.target, code=code, **about)


def access_record(scope: Mapping[str, Any]) -> AccessRecord | None:
    """The record of a request; None without the middleware."""
    found: AccessRecord | None = scope.get("state", {}).get(_KEY)
    return found


def named(grant: Grant) -> str | None:
    """The name of the token; None for an anonymous client."""
    return None if grant is ANONYMOUS or grant is UNAUTHENTICATED else grant.name


def code_of(body: bytes) -> str | None:
    """The `code` of a problem body."""
    try:
        return msgspec.json.decode(body, type=_Coded).code
    except msgspec.DecodeError:
        return None


class _Coded(msgspec.Struct):
    code: str | None = None


class AccessLogMiddleware:
    """Logs requests. This middleware is outside the checks, so that refused requests are logged too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = scope.setdefault("state", {})[_KEY] = _of(scope)
        record.server_receive = receive
        state = scope["app"].state

        async def receive_counted() -> Message:
            message = await receive()
            record.bytes_in += len(message.get("body", b""))
            record.client_left = record.client_left or message["type"] == "http.disconnect"
            return message

        async def send_recorded(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.begin(message)
                state.broker.counters.answers[
                    record.status
                ] += not record.client_left  # a response that nobody received is not counted
            else:
                body = message.get("body", b"")
                record.bytes_out += len(body)
                if record.status >= 400 and record.code is None:
                    record.code = code_of(body)
            await send(message)

        try:
            await self._app(scope, receive_counted, send_recorded)
        except Exception:  # Starlette answers and the server logs the traceback further out
            record.status, record.code = 500, "internal_error"
            state.broker.counters.answers[500] += 1
            state.broker.counters.refusals[record.code] += 1
            raise
        finally:
            if record.status and not record.superseded:
                record.log(state.access)


def _of(scope: Scope) -> AccessRecord:
    query = scope["query_string"]
    target = scope.get("raw_path", b"") + (b"?" + query if query else b"")
    return AccessRecord(scope["method"], target, scope.get("client"), _request_id(scope))


def _request_id(scope: Scope) -> str:
    """The request's own id, if it has exactly one and it is valid; else a new one."""
    given = [value for name, value in scope["headers"] if name == _ID]
    return given[0].decode() if len(given) == 1 and LAWFUL.fullmatch(given[0]) else token_hex(8)
