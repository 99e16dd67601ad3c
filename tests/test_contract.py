"""openapi.yaml against a real server: generated requests, lawful and not, get answers as documented and no 5xx."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, unquote

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from app.errors import OptionInvalid
from app.topic import MAX_LENGTH
from app.units import parse_duration
from tests.harness import ROOT, ServerProcess, start_server

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


@pytest.fixture(scope="module")
def roomy() -> Iterator[ServerProcess]:
    """A server on which a topic for every example has room."""
    with start_server("--max-topics", "1000000", "--max-total-bytes", "1GiB") as process:
        yield process


@schema.parametrize()
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_the_server_keeps_its_contract(case: Any, roomy: ServerProcess) -> None:
    waits = "timeout" if case.operation.path.endswith("stream") else "wait"
    query = case.query or {}
    if _is_lawful(query.get(waits, "1s")) and (waits == "timeout" or waits in query):
        case.query = {**query, waits: "50ms"}  # no longer than it has to
    excluded = [ignored_auth]  # nobody is asked for a token here
    excluded += [positive_data_acceptance] if _is_beyond_schemas(case) else []
    response = case.call(base_url=roomy.url, timeout=20)
    if response.status_code == HTTPStatus.REQUEST_URI_TOO_LONG:  # any request may be answered so
        assert response.json()["code"] == "target_too_long"
    else:
        case.validate_response(response, excluded_checks=excluded)


def _is_beyond_schemas(case: Any) -> bool:
    """Whether a group's request is refused for what the document says in words, since no schema can."""
    body = case.body if isinstance(case.body, dict) else {}
    topic = unquote((case.path_parameters or {}).get("topic", ""))
    reasons = (
        body.keys() & (case.query or {}).keys(),  # an option is in the query and in the body
        body.get("start"),  # it is no place of this log, or not where the group began
        body.get("dead_letter") == topic,
        len(topic) > LONGEST,
    )
    return "/groups/" in case.operation.path and any(reasons)


def _is_lawful(duration: object) -> bool:
    try:
        return isinstance(duration, str) and parse_duration(duration) <= 3_600
    except OptionInvalid:
        return False
