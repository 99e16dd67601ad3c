"""openapi.yaml against real servers: generated requests, lawful and not, get answers as documented and no 5xx, where
nobody is asked for a token and where one is needed."""

from collections.abc import Callable, Iterator
from http import HTTPStatus
from operator import methodcaller
from typing import Any, Final
from urllib.parse import quote, unquote

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import load_all_checks
from schemathesis.generation.feedback import FeedbackSources
from schemathesis.pytest._test_builder import build_operation_test
from schemathesis.python._constants.orchestrator import make_constants_value_source
from schemathesis.specs.openapi.checks import ignored_auth, negative_data_rejection, positive_data_acceptance

from app.access import token_admin
from app.access.claims import every_right
from app.access.grant import Right
from app.access.tokens import make_token
from app.errors import OptionInvalid
from app.messages.topic import MAX_LENGTH
from app.messages.units import parse_duration
from tests.harness import ROOT, ServerProcess, start_server

TOO_LARGE: Final = {
    HTTPStatus.REQUEST_URI_TOO_LONG: "target_too_long",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "message_too_large",
}
LONGEST: Final = MAX_LENGTH - len(".dead")  # characters of a topic that has groups with no other dead_letter


@schemathesis.serializer("application/x-ndjson")
def lines(_context: Any, value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else b""


@schemathesis.hook
def map_path_parameters(_context: Any, parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """A value is taken to be percent-encoded already; so let it be."""
    encoded = {name: quote(value) if isinstance(value, str) else value for name, value in (parameters or {}).items()}
    return encoded or None


schema = schemathesis.openapi.from_path(ROOT / "openapi" / "openapi.yaml")
OPERATIONS: Final = {operation.label: operation for operation in map(methodcaller("ok"), schema.get_all_operations())}


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server on which a topic for every example has room."""
    folder = tmp_path_factory.mktemp("roomy")
    with start_server("--max-topics", "1000000", "--max-total-bytes", "1GiB", "--data-dir", str(folder)) as process:
        yield process


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The same, where a token is needed; one that is not good gets 401 however many came before."""
    folder = tmp_path_factory.mktemp("state")
    TOKENS.append(make_token(folder / "tokens", "contract", every_right()))
    room = ["--max-topics", "1000000", "--max-total-bytes", "1GiB", "--max-failed-logins", "0"]
    with start_server(*room, "--data-dir", str(folder)) as process:
        yield process


TOKENS: Final[list[str]] = []  # the server's; there is one once it runs
EXAMPLES: Final = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_server_keeps_its_contract(operation: str, roomy: ServerProcess) -> None:
    def keeps(case: Any) -> None:
        check(case, roomy, {}, [ignored_auth])

    for_each_request(operation, keeps, EXAMPLES)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_server_keeps_its_contract_where_a_token_is_needed(operation: str, guarded: ServerProcess) -> None:
    """What else may be sent is the affair of the test above. A header that is wrong is made good here, so that nothing
    need be rejected."""

    def keeps(case: Any) -> None:
        check(case, guarded, {"Authorization": f"Bearer {TOKENS[-1]}"}, [negative_data_rejection])

    for_each_request(operation, keeps, settings(EXAMPLES, max_examples=8))


def for_each_request(operation: str, keeps: Callable[[Any], None], examples: settings) -> None:
    """What schema.parametrize() does, but while the test runs: it makes all requests when tests are collected, which
    each process of pytest-xdist does, and its tests have one id for all operations with pytest 9.2, so that
    pytest-xdist runs only one of them."""
    load_all_checks()
    feedback = FeedbackSources(constants_value_source=make_constants_value_source(schema))
    build_operation_test(
        config=schema.config, operation=OPERATIONS[operation], test_func=keeps, given_kwargs={}, feedback=feedback,
        explicit_settings=examples,
    )()  # fmt: skip


def check(case: Any, server: ServerProcess, headers: dict[str, str], excluded: list[Any]) -> None:
    waits = "timeout" if case.operation.path.endswith("stream") else "wait"
    query = case.query or {}
    if _is_lawful(query.get(waits, "1s")) and (waits == "timeout" or waits in query):
        case.query = {**query, waits: "50ms"}  # no longer than it has to
    excluded = [*excluded, positive_data_acceptance] if _is_beyond_schemas(case) else excluded
    response = case.call(base_url=server.url, timeout=20, headers=headers)
    if "%25" in response.request.url:  # encoded twice, a value that breaks the schema keeps it
        excluded = [*excluded, negative_data_rejection]
    if response.status_code in TOO_LARGE:  # any request may be answered so
        assert response.json()["code"] == TOO_LARGE[HTTPStatus(response.status_code)]
    else:
        case.validate_response(response, excluded_checks=excluded, headers=headers)


def _is_beyond_schemas(case: Any) -> bool:
    """Whether a request is refused for what the document says in words, since no schema can."""
    if case.media_type == "application/x-ndjson" and not isinstance(case.body, str):
        return True  # a message may have no body, but a batch has a line
    body = case.body if isinstance(case.body, dict) else {}
    if case.operation.path == "/tokens":
        lasts = body.get("expires") is None or _is_lawful(body["expires"], 1.0, token_admin.LONGEST)
        return not lasts or not any(body.get(right) for right in Right)  # a token has a right
    topic = unquote((case.path_parameters or {}).get("topic", ""))
    reasons = (
        body.keys() & (case.query or {}).keys(),  # an option is in the query and in the body
        body.get("start"),  # it is no place of this log, or not where the group began
        body.get("to"),  # likewise
        body.get("dead_letter") == topic,
        len(topic) > LONGEST,
    )
    query = case.query or {}
    if query.keys() & {"at", "after", "before"}:  # too far ahead, or beside a delay; sorted otherwise, or no such place
        return True
    if query.keys() & {"priority", "key"} and query.keys() & {"delivery", "retain"}:  # of a message that no group gets
        return True
    return "/groups/" in case.operation.path and any(reasons)


def _is_lawful(duration: object, least: float = 0.0, most: float = 3_600.0) -> bool:
    try:
        return isinstance(duration, str) and least <= parse_duration(duration) <= most
    except OptionInvalid:
        return False
