"""Errors on the wire: RFC 9457 problem details, with a stable `code` and a sentence for people."""

from collections.abc import Mapping
from http import HTTPStatus
from math import ceil
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ..errors import (
    Busy,
    DeadLettersLeft,
    Draining,
    EncodingUnsupported,
    Forbidden,
    GroupInvalid,
    GroupLimit,
    HeadTooLarge,
    HostInvalid,
    HostUnknown,
    LeaseExpired,
    LengthRequired,
    Lockout,
    LogFull,
    MessageTooLarge,
    NotFound,
    NotHttp,
    OptionInvalid,
    OptionUnknown,
    OriginForbidden,
    OutcomeUnknown,
    PlainmqError,
    RateLimited,
    RequestTimeout,
    TargetTooLong,
    TokenExists,
    TokenLimit,
    TokenMissing,
    TokensUnused,
    TopicInvalid,
    TopicLimit,
    Unauthorised,
    UpgradeUnsupported,
    UseForbidden,
    VersionUnsupported,
)
from .authentication import resume_id_of
from .middleware.security_headers import secured
from .nearest import nearest
from .sse import EVENT_STREAM, refusal

STATUS: dict[type[PlainmqError], HTTPStatus] = {
    TopicInvalid: HTTPStatus.BAD_REQUEST,
    GroupInvalid: HTTPStatus.BAD_REQUEST,
    OptionInvalid: HTTPStatus.BAD_REQUEST,
    NotHttp: HTTPStatus.BAD_REQUEST,
    VersionUnsupported: HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
    UpgradeUnsupported: HTTPStatus.NOT_IMPLEMENTED,
    HeadTooLarge: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    TargetTooLong: HTTPStatus.REQUEST_URI_TOO_LONG,
    RequestTimeout: HTTPStatus.REQUEST_TIMEOUT,
    HostInvalid: HTTPStatus.BAD_REQUEST,
    HostUnknown: HTTPStatus.MISDIRECTED_REQUEST,
    OriginForbidden: HTTPStatus.FORBIDDEN,
    Unauthorised: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    UseForbidden: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    LeaseExpired: HTTPStatus.CONFLICT,
    DeadLettersLeft: HTTPStatus.CONFLICT,
    TokenExists: HTTPStatus.CONFLICT,
    TokensUnused: HTTPStatus.CONFLICT,
    Lockout: HTTPStatus.CONFLICT,
    LengthRequired: HTTPStatus.LENGTH_REQUIRED,
    MessageTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    EncodingUnsupported: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    TokenLimit: HTTPStatus.TOO_MANY_REQUESTS,
    TopicLimit: HTTPStatus.TOO_MANY_REQUESTS,
    GroupLimit: HTTPStatus.TOO_MANY_REQUESTS,
    RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    OutcomeUnknown: HTTPStatus.GATEWAY_TIMEOUT,
    Busy: HTTPStatus.SERVICE_UNAVAILABLE,
    LogFull: HTTPStatus.INSUFFICIENT_STORAGE,
    PlainmqError: HTTPStatus.INTERNAL_SERVER_ERROR,
}

_HEADERS: dict[type[PlainmqError], dict[str, str]] = {
    Busy: {"Retry-After": "5"},
    TokenMissing: {"WWW-Authenticate": 'Bearer realm="plainmq"'},  # RFC 6750, section 3.1: no `error` without a token
    Unauthorised: {"WWW-Authenticate": 'Bearer realm="plainmq", error="invalid_token"'},
}


class Problem(msgspec.Struct):
    """RFC 9457, section 3.1, with a `code` for programs."""

    type: str
    title: str
    status: int
    code: str
    detail: str


def problem(
    status: HTTPStatus, code: str, detail: str, headers: Mapping[str, str] | None = None, **members: Any
) -> Response:
    """`members`: further members for programs (RFC 9457, section 3.2)."""
    body = msgspec.structs.asdict(Problem("about:blank", status.phrase, status, code, detail)) | members
    return Response(msgspec.json.encode(body) + b"\n", status, headers, "application/problem+json")


async def refuse(request: Request, error: Exception) -> Response:
    """The response to a PlainmqError."""
    assert isinstance(error, PlainmqError)
    request.app.state.broker.counters.refusals[error.code] += 1
    if isinstance(error, (NotFound, TopicInvalid, OptionUnknown)):
        error = type(error)(f"{error}{_hint(request)}")
    pressure = request.app.state.broker.admission.pressure if isinstance(error, Draining) else 1.0
    return response_to(error, "text/event-stream" in request.headers.get("accept", ""), pressure, resume_id_of(request))


def response_to(error: PlainmqError, as_event: bool, pressure: float = 1.0, resume_id: str = "") -> Response:
    """`as_event`: the client accepts events, so a Busy is sent as one. `pressure`: how long it should stay away, from
    0 to 1. `resume_id`: the last event id that it should come back with."""
    return _busy_event(error, pressure, resume_id) if as_event and isinstance(error, Busy) else problem_of(error)


def problem_of(error: PlainmqError) -> Response:
    """The problem response of an error."""
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    headers = next((headers for kind, headers in _HEADERS.items() if isinstance(error, kind)), None)
    if isinstance(error, RateLimited):
        headers = {"Retry-After": str(max(ceil(error.wait), 1))}
    return problem(status, error.code, str(error), headers)


def _busy_event(error: Busy, pressure: float, resume_id: str) -> Response:
    """An EventSource never retries after an error status (WHATWG HTML, 9.2.3), so it gets an event and an end."""
    event = "bye" if isinstance(error, Draining) else "busy"
    body = refusal(event, error.code, pressure, resume_id)
    return Response(body, headers={"Content-Type": EVENT_STREAM, "Cache-Control": "no-store"})


async def explain(request: Request, error: Exception) -> Response:
    """The response to an error of Starlette's: an unknown path, or a method that the path does not have."""
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return _explain_method(request)
    status = HTTPStatus(error.status_code)
    request.app.state.broker.counters.refusals[status.name.lower()] += 1
    detail = f"there is nothing at {request.scope['path'][:200]!a}{_hint(request)}"
    return problem(status, status.name.lower(), detail)


def meant_by(request: Request) -> str | None:
    """The request that may have been meant instead."""
    path = request.scope.get("raw_path", b"").decode("ascii", "replace")
    return nearest(request.method, path, request.app.routes) if path.isascii() and path.isprintable() else None


def _hint(request: Request) -> str:
    """The end of a sentence."""
    meant = meant_by(request)
    return f"; did you mean {meant}?" if meant else ""


async def forget(_request: Request, _error: Exception) -> Response:
    """The response to a client that disconnected within its request: nobody receives it."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)


async def fail(_request: Request, _error: Exception) -> Response:
    """The response to a fault of the server, which is logged. The middleware does not see it, so the security headers
    are added here."""
    fault = problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "this is a fault of the server; it was logged")
    fault.raw_headers = secured(fault.raw_headers)
    return fault


def _explain_method(request: Request) -> Response:
    """405 with the methods of all routes of the path: Starlette names those of one route only."""
    routes = [route for route in request.app.routes if route.path_regex.match(request.scope["path"])]
    here = [route for route in routes if route.path == routes[0].path]  # more specific paths come first
    allowed = ", ".join(sorted({method for route in here for method in route.methods}))
    detail = f"{request.method} is not possible here; expected {allowed}{_hint(request)}"
    request.app.state.broker.counters.refusals["method_not_allowed"] += 1
    return problem(HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", detail, {"Allow": allowed})
