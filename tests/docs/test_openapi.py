"""openapi/openapi.yaml is valid, and its routes, options, rights and codes are those of the code."""

import asyncio
import inspect
import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any
from unittest.mock import MagicMock

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator, OpenAPIV32SpecValidator
from starlette.requests import Request
from starlette.routing import Route

from app import __version__, errors
from app.web import query
from app.web.app import ROUTES
from app.web.permissions import ProtectedRoute, RequiredRight, RightOnFound
from app.web.problem import STATUS
from app.web.streaming import stream_request
from tests import openapi31
from tests.docs.document import (
    DOCUMENT,
    OPERATIONS,
    STREAM_MEDIA,
    WORK_MEDIA,
    blocks,
    check,
    complaints,
    documented_codes,
    item_complaints,
    resolve,
)
from tests.event_stream import SseParser

OF_THE_FRAMEWORK = {"not_found": 404, "method_not_allowed": 405, "internal_error": 500}


# The document by itself


def test_the_document_is_valid_openapi() -> None:
    assert DOCUMENT["openapi"].startswith("3.2.")
    problems = [str(error) for error in OpenAPIV32SpecValidator(DOCUMENT).iter_errors()]
    assert not problems, "\n".join(problems)


def test_the_copy_in_openapi_3_1_is_made_from_it_and_valid() -> None:
    """`python -m tests.openapi31` makes it anew."""
    assert openapi31.COPY.read_text() == openapi31.made()
    copy = json.loads(openapi31.made())
    assert copy["openapi"].startswith("3.1.")
    problems = [str(error) for error in OpenAPIV31SpecValidator(copy).iter_errors()]
    assert not problems, "\n".join(problems)
    assert copy["paths"].keys() == DOCUMENT["paths"].keys()
    assert copy["components"]["schemas"].keys() == DOCUMENT["components"]["schemas"].keys()


def test_a_body_is_named_so_that_generators_send_it_as_it_is() -> None:
    bodies = json.loads(openapi31.made())["paths"]["/topics/{topic}/messages"]["post"]["requestBody"]["content"]
    assert {"text/plain", "application/json", "application/octet-stream"} < bodies.keys()
    assert all("type" in media["schema"] for media in bodies.values())


@pytest.mark.parametrize("chosen", ["", "json"])
def test_a_generated_client_that_takes_the_first_type_sends_no_batch(chosen: str) -> None:
    """Some take the first of all types, others (openapi-generator for Python) the first with `json` in its name. As a
    batch, a text of two lines would be two messages."""
    types = DOCUMENT["paths"]["/topics/{topic}/messages"]["post"]["requestBody"]["content"]
    assert next(name for name in types if chosen in name) == {"": "text/plain", "json": "application/json"}[chosen]


async def test_the_server_describes_itself(http: httpx.AsyncClient) -> None:
    answer = await http.get("/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.text == openapi31.COPY.read_text()
    check("GET", "/openapi.json", answer)


def test_the_document_has_the_version_of_the_package() -> None:
    assert DOCUMENT["info"]["version"] == __version__


def test_every_reference_leads_somewhere_and_every_component_is_used_but_what_any_request_may_be_answered() -> None:
    text = json.dumps(DOCUMENT)
    used = set(re.findall(r'"\$ref": "#/components/(\w+/\w+)"', text))
    used |= {f"securitySchemes/{name}" for op in OPERATIONS.values() for way in op["security"] for name in way}
    written = {f"{kind}/{name}" for kind, all_ in DOCUMENT["components"].items() for name in all_}
    assert used <= written
    any_request = {"MethodNotAllowed", "InternalError", "HostInvalid", "HostUnknown", "OriginForbidden"}
    any_request |= {"RequestTimeout", "TargetTooLong", "HeadTooLarge", "LoginLimit", "NotHttp", "UpgradeUnsupported"}
    any_request |= {"VersionUnsupported"}
    assert written - used == {f"responses/{name}" for name in any_request}


def _documented_examples() -> Iterator[tuple[str, Any, Any]]:
    """(where, value, schema) of every example that is data."""

    def walk(node: Any, where: str) -> Iterator[tuple[str, Any, Any]]:
        if isinstance(node, dict):
            if "schema" in node:
                for name, example in node.get("examples", {}).items():
                    if "dataValue" in example:
                        yield f"{where}.{name}", example["dataValue"], node["schema"]
            if "example" in node and "type" in node:
                yield f"{where}.example", node["example"], node
            for key, value in node.items():
                yield from walk(value, f"{where}.{key}")
        elif isinstance(node, list):
            for number, value in enumerate(node):
                yield from walk(value, f"{where}[{number}]")

    yield from walk(DOCUMENT, "")


@pytest.mark.parametrize(("value", "schema"), [pytest.param(v, s, id=w) for w, v, s in _documented_examples()])
def test_an_example_fits_its_schema(value: Any, schema: Any) -> None:
    assert not complaints(value, schema)


@pytest.mark.parametrize(
    ("media", "name"),
    [pytest.param(media, name, id=name) for media in (STREAM_MEDIA, WORK_MEDIA) for name in media["examples"]],
)
def test_an_example_of_a_stream_is_one_and_its_items_fit_the_schema(media: dict[str, Any], name: str) -> None:
    text = media["examples"][name]["serializedValue"]
    assert SseParser().feed(text.encode()), "an EventSource sees nothing in it"
    for item in blocks(text):
        assert not item_complaints(item, media["itemSchema"], name if name in {"json", "work"} else "raw")


def test_the_error_table_lists_every_code_with_its_status() -> None:
    listed = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", DOCUMENT["info"]["description"], re.MULTILINE)
    assert {code: {int(status)} for status, code in listed} == documented_codes()


@pytest.mark.parametrize(
    "item",
    [
        {"event": "gap", "data": '{"requested":"x-1","reason":"lost","missed":1,"resumes_at":null}'},
        {"event": "bye", "data": '{"reason":"draining"}'},
        {"retry": 999},
        {"data": "hello"},
        {"id": "K3-1", "data": "hello"},
        {"id": "k3-1", "dada": "hello"},
    ],
)
def test_an_item_that_no_server_may_send_does_not_fit(item: dict[str, Any]) -> None:
    assert item_complaints(item, STREAM_MEDIA["itemSchema"])


# The document and the code


def template(route: Route) -> str:
    """`/topics/{topic:path}/messages` → `/topics/{topic}/messages`"""
    return re.sub(r"{(\w+):\w+}", r"{\1}", route.path)


def answered(method: str) -> bool:
    return method != "HEAD"  # Starlette adds it to every GET


def test_paths_and_methods_are_those_of_the_route_table() -> None:
    in_code = {(template(route), method) for route in ROUTES for method in route.methods or () if answered(method)}
    assert set(OPERATIONS) == in_code


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.path}-{route.endpoint.__name__}")
def test_an_operation_needs_the_right_that_its_route_requires(route: ProtectedRoute) -> None:
    (method,) = filter(answered, route.methods or ())
    documented = OPERATIONS[template(route), method]["security"]
    if route.required is None:
        assert documented == []
        return
    rights = (
        [[right.value] for right in route.required.rights]
        if isinstance(route.required, RequiredRight | RightOnFound)
        else [[]]
    )
    ways = ["bearer", "cookie", *(["ticket"] if route.required.by_ticket else [])]
    assert documented == [{way: right} for way in ways for right in rights]


class Read(Exception):
    """Raised in place of reading options: tells which a route would read."""

    def __init__(self, parsers: Mapping[str, Any], repeatable: Collection[str]) -> None:
        self.parsers = parsers
        self.repeatable = repeatable


def options_read(route: Route, monkeypatch: pytest.MonkeyPatch) -> tuple[Mapping[str, Any], Collection[str]]:
    """What the route's endpoint parses: its parsers by name, and the names that may come repeatedly."""

    def record(_query: object, parsers: Mapping[str, Any], repeatable: Collection[str] = ()) -> Any:
        raise Read(parsers, repeatable)

    for module in (query, stream_request):
        monkeypatch.setattr(module, "parse_options", record)
    path = {"topic": "foo", "id": "k3f9a2xq-42", "group": "resizers"}
    request = Request(
        {
            "type": "http",
            "http_version": "1.1",
            "app": MagicMock(),
            "path_params": path,
            "query_string": b"topic=foo",
            "headers": [],
        }
    )
    try:
        asyncio.run(route.endpoint(request))
    except Read as read:
        return read.parsers, read.repeatable
    return {}, ()


def _documented(route: Route, where: str) -> dict[str, Any]:
    """The schemas of the parameters of the operation that the route is."""
    (method,) = filter(answered, route.methods or ())
    parameters = OPERATIONS[template(route), method]["parameters"]
    return {parameter["name"]: parameter["schema"] for parameter in parameters if parameter["in"] == where}


def _route_id(route: Route) -> str:
    return f"{template(route)}-{'-'.join(filter(answered, route.methods or ()))}"


@pytest.mark.parametrize("route", ROUTES, ids=_route_id)
def test_parameters_are_those_that_the_route_reads(route: Route, monkeypatch: pytest.MonkeyPatch) -> None:
    parsers, repeatable = options_read(route, monkeypatch)
    assert set(_documented(route, "query")) == {*parsers, *repeatable}
    assert set(_documented(route, "path")) == set(re.findall(r"{(\w+)}", template(route)))


def test_every_table_of_options_is_read_by_a_route_of_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = {stream_request, *(inspect.getmodule(route.endpoint) for route in ROUTES)}
    tables = [table for module in modules for name, table in vars(module).items() if name.endswith("_OPTIONS")]
    read = [options_read(route, monkeypatch)[0] for route in ROUTES]
    assert tables
    assert all(table in read for table in tables)


WORDS = [
    *("", "0", "1", "1000", "1001", "-1", "+1", "all", "one", "true", "false", "True", "raw", "json", "xml"),
    *("latest", "earliest", "now", "last:10", "last:", "10m", "60s", "61s", "1h", "1.5h", "2h", "10 s", "-1s", "10M"),
    *("2026-01-31T12:00:00Z", "2026-01-31", "k3f9a2xq-42", "K-1", "k-01", "k-", "foo", "a.*", "a.**", "a.**.b", "a..b"),
    *("a b", "\xe9", "x" * 2000),
]


@pytest.mark.parametrize("route", ROUTES, ids=_route_id)
def test_an_option_s_parser_takes_what_its_schema_takes(route: Route, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, parser in options_read(route, monkeypatch)[0].items():
        schema = resolve(_documented(route, "query")[name])
        for word in WORDS:
            value = int(word) if schema.get("type") == "integer" and word.isascii() and word.isdigit() else word
            lawful = not complaints(value, schema)
            if parser is not str:  # what an event name may be is checked when the Draft is made
                assert _parses(parser, word) == lawful, (name, word)


def _parses(parser: Any, word: str) -> bool:
    try:
        parser(word)
    except errors.PlainmqError:
        return False
    return True


def leaves(tree: type[errors.PlainmqError]) -> set[type[errors.PlainmqError]]:
    below = [kind for kind in tree.__subclasses__() if kind.__module__ == errors.__name__]
    return set().union(*map(leaves, below)) if below else {tree}


def test_problem_codes_and_statuses_are_those_of_the_code() -> None:
    own = {
        kind.code: {int(next(STATUS[k] for k in kind.__mro__ if k in STATUS))} for kind in leaves(errors.PlainmqError)
    }
    framework = {code: {status} for code, status in OF_THE_FRAMEWORK.items()}
    assert documented_codes() == own | framework
    assert set(DOCUMENT["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]) == set(own | framework)
