"""openapi.yaml against a real server: generated requests, lawful and not, get answers as documented and no 5xx."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings

from app.errors import OptionInvalid
from app.units import parse_duration
from tests.harness import ROOT, ServerProcess, start_server


@schemathesis.serializer("application/x-ndjson")
def lines(_context: Any, value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else b""


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
    case.call_and_validate(base_url=roomy.url, timeout=20)


def _is_lawful(duration: object) -> bool:
    try:
        return isinstance(duration, str) and parse_duration(duration) <= 3_600
    except OptionInvalid:
        return False
