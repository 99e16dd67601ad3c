"""Routes with the right that each requires: there is no route without a decision."""

import re
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ..access.grant import EVERYTHING, UNAUTHENTICATED, UNAUTHORISED, Right, authorise
from ..errors import GroupInvalid, OptionInvalid, TokenMissing, TopicInvalid
from ..log.groups.records import parse_group
from ..messages.topic import TopicFilter, parse_topic
from .authentication import GRANT, grant_of, identify
from .empty_body import announces_body, refuse_body
from .middleware.access_log import access_record, named
from .query import check_name

_OF_A_GROUP: Final = b"pull|ack|nack|extend|release|skip|redrive|seek|pause|resume"
_OF_A_TOPIC: Final = rb"messages(/[^/]+(/copy)?)?|stream|purge|pause|resume"
_BELOW: Final = re.compile(rb"/topics/.+/(%b|groups/[^/]+/(%b))$" % (_OF_A_TOPIC, _OF_A_GROUP))

# A slash inside a segment that names a group or a message: the path would be read as that of another topic.
_DIVIDED: Final = re.compile(
    rb"/topics/.+/(?:(groups)/[^/]*%2f[^/]*(?:/[^/]+)?|messages/[^/]*%2f[^/]*(?:/copy)?)$", re.IGNORECASE
)

AUTHORISE: Final = "plainmq.authorise"  # the key of the scope for the function that authorises the request again

MATCH: Final = "match"  # the option of lists that says of which topics

Subject = Callable[[Request], str | TopicFilter]


class RequiredRight(msgspec.Struct, frozen=True):
    """One of these rights on what the request names: the first says how a client without any is refused. `by_ticket`:
    a ticket is accepted too."""

    rights: tuple[Right, ...]
    subject: Subject
    by_ticket: bool = False

    def check(self, request: Request) -> None:
        authorise(grant_of(request), self.rights, self.subject(request))


class AnyToken(msgspec.Struct, frozen=True):
    """Any valid token."""

    by_ticket: bool = False

    def check(self, request: Request) -> None:
        if grant_of(request) is UNAUTHENTICATED:
            raise TokenMissing(UNAUTHORISED)


class RightOnFound(AnyToken, frozen=True, kw_only=True):
    """One of these rights on the topic of what the request names, which the handler has to find first. A client
    without the right must get the same answer as if there were nothing."""

    rights: tuple[Right, ...]

    def allows(self, request: Request, topic: str) -> bool:
        return any(grant_of(request).allows(right, topic) for right in self.rights)


class ProtectedRoute(Route):
    """`required`: None for a route that anybody may use. `reads_body`: other routes refuse a body."""

    def __init__(
        self,
        method: str,
        path: str,
        endpoint: Callable[..., Any],
        required: RequiredRight | AnyToken | None,
        *,
        reads_body: bool = False,
    ) -> None:
        super().__init__(path, endpoint, methods=[method])
        self.required = required
        self.reads_body = reads_body

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        _refuse_divided(scope.get("raw_path", b""))
        if scope["method"] in (self.methods or ()):
            self._authorise(scope)
            if not self.reads_body and announces_body(scope):
                await refuse_body(receive)
                self._authorise(scope)  # the body may have arrived slowly
        await super().handle(scope, receive, send)

    def _authorise(self, scope: Scope) -> None:
        if self.required is not None:
            scope[AUTHORISE] = partial(_authorise, Request(scope), self.required)
            scope[AUTHORISE]()


def _refuse_divided(path: bytes) -> None:
    """Raises GroupInvalid, OptionInvalid."""
    if b"%2" not in path or (found := _DIVIDED.search(path)) is None:
        return
    kind, noun = (GroupInvalid, "the name of a group") if found[1] else (OptionInvalid, "the id of a message")
    raise kind(
        f"{noun} has no slash, and the path has %2F in its place; in a topic, write the slashes either all as / or all "
        f"as %2F"
    )


def _authorise(request: Request, required: RequiredRight | AnyToken) -> None:
    grant = identify(request, required.by_ticket)
    if grant is request.scope.get(GRANT):  # authorised before: a grant never changes
        return
    request.scope[GRANT] = grant
    if record := access_record(request.scope):
        record.token = named(grant)
    required.check(request)


def authorise_again(request: Request) -> None:
    """Authorise the request once more: while its body arrived, the token may have been removed or changed."""
    request.scope[AUTHORISE]()


# The subject of a request


def topic_of(request: Request) -> str:
    """Raises TopicInvalid."""
    return parse_topic(request.path_params["topic"])


def topic_itself(request: Request) -> str:
    """The topic of the path. A path that ends in a word of another route is refused: `PUT /topics/foo/messages` is a
    mistake, and makes no topic `foo/messages` (which is written `foo%2Fmessages`). Raises TopicInvalid."""
    if _BELOW.search(request.scope.get("raw_path", b"")):
        raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED)
    return topic_of(request)


def selection_of(request: Request) -> TopicFilter:
    """A topic, or the topics that a pattern matches. Raises TopicInvalid."""
    return TopicFilter([request.path_params["topic"]])


def selections_of(request: Request) -> TopicFilter:
    """Several topics and patterns. Raises TopicInvalid, OptionInvalid."""
    check_name("topic", request.query_params)
    topics = request.query_params.getlist("topic")
    if not topics:
        raise TopicInvalid("option 'topic' is missing: expected ?topic=NAME, as often as is needed")
    return TopicFilter(topics)


def matched_by(request: Request) -> TopicFilter:
    """The topics to list: all, unless the request says which. Raises TopicInvalid."""
    return TopicFilter(request.query_params.getlist(MATCH) or [EVERYTHING])


def topic_option(request: Request) -> str:
    """The topic of the query. Raises TopicInvalid, OptionInvalid."""
    return parse_topic(_option(request, "topic"))


def group_option(request: Request) -> str:
    """The group of the query. Raises GroupInvalid, OptionInvalid."""
    return parse_group(_option(request, "group"))


def _option(request: Request, name: str) -> str:
    check_name(name, request.query_params)
    if name not in request.query_params:
        raise OptionInvalid(f"option {name!r} is missing: expected ?{name}=NAME")
    return request.query_params[name]


def everything(_request: Request) -> str:
    return EVERYTHING


def names_of(request: Request) -> tuple[str, str]:
    """The topic and the group of the path. Raises TopicInvalid, GroupInvalid."""
    return topic_of(request), parse_group(request.path_params["group"])


PUBLISH: Final = RequiredRight((Right.PUBLISH,), topic_of)
READ: Final = RequiredRight((Right.SUBSCRIBE,), selection_of)
READ_ONE: Final = RequiredRight((Right.SUBSCRIBE,), topic_of)
STREAM: Final = RequiredRight((Right.SUBSCRIBE,), selection_of, by_ticket=True)
STREAMS: Final = RequiredRight((Right.SUBSCRIBE,), selections_of, by_ticket=True)
WORK: Final = RequiredRight((Right.CONSUME,), topic_of)
WORK_STREAM: Final = RequiredRight((Right.CONSUME,), topic_of, by_ticket=True)
STATE: Final = RequiredRight((Right.SUBSCRIBE, Right.VIEW, Right.ADMIN), topic_itself)
GROUP_STATE: Final = RequiredRight((Right.CONSUME, Right.VIEW, Right.ADMIN), topic_itself)
JOBS: Final = RequiredRight((Right.CONSUME, Right.VIEW, Right.ADMIN), topic_option)
RELEASE: Final = RequiredRight((Right.CONSUME, Right.ADMIN), topic_of)
OPERATE: Final = RequiredRight((Right.ADMIN,), topic_of)
CHANGE: Final = RequiredRight((Right.ADMIN,), topic_itself)
LIST: Final = RequiredRight((Right.VIEW, Right.ADMIN), matched_by)
ADMINISTER: Final = RequiredRight((Right.ADMIN,), everything)
INSPECT: Final = RequiredRight((Right.VIEW, Right.ADMIN), everything)
WATCH: Final = RequiredRight((Right.VIEW, Right.ADMIN), everything, by_ticket=True)
SCHEDULED: Final = RightOnFound(rights=(Right.VIEW, Right.ADMIN))
SCHEDULE: Final = RightOnFound(rights=(Right.ADMIN,))
KNOWN: Final = AnyToken()
PUBLIC: Final = None
