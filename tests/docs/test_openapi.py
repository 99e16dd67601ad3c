"""openapi/openapi.yaml is true: its routes, options and codes are those of the code, and a real server keeps to it."""

import asyncio
import base64
import inspect
import json
import re
import signal
import socket
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import Any
from unittest.mock import MagicMock

import httpx
import pytest
import yaml
from openapi_schema_validator import OAS32Validator, oas32_format_checker
from openapi_spec_validator import OpenAPIV31SpecValidator, OpenAPIV32SpecValidator
from referencing import Registry
from referencing.jsonschema import DRAFT202012
from starlette.requests import Request
from starlette.routing import Route

from app import __version__, errors
from app.web import query
from app.web.app import ROUTES
from app.web.permissions import ProtectedRoute, RequiredRight, RightOnFound
from app.web.problem import STATUS
from app.web.streaming import stream_request
from tests import openapi31
from tests.event_stream import SseParser, stream
from tests.harness import DEADLINE, ROOT, ServerProcess, http_client, own_address, start_server

DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "openapi" / "openapi.yaml").read_text())
METHODS = {"get", "put", "post", "delete", "patch", "head", "options", "trace", "query"}
OF_THE_FRAMEWORK = {"not_found": 404, "method_not_allowed": 405, "internal_error": 500}
EVENT_STREAM = "text/event-stream"
PROBLEM = "application/problem+json"


# Reading the document


def resolve(node: Any) -> Any:
    """The node, or what its `$ref` points at."""
    while isinstance(node, dict) and set(node) == {"$ref"}:
        target: Any = DOCUMENT
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step.replace("~1", "/").replace("~0", "~")]
        node = target
    return node


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(path, method, operation with the path's parameters)"""
    for path, item in DOCUMENT["paths"].items():
        for method in METHODS & set(item):
            operation = item[method]
            parameters = [*item.get("parameters", []), *operation.get("parameters", [])]
            yield path, method.upper(), {**operation, "parameters": [resolve(parameter) for parameter in parameters]}


OPERATIONS = {(path, method): operation for path, method, operation in operations()}


@cache
def _registry() -> Registry[Any]:
    registry: Registry[Any] = Registry().with_resource("urn:plainmq", DRAFT202012.create_resource(DOCUMENT))
    return registry


def complaints(value: Any, schema: Any) -> list[str]:
    """What is wrong with a value, under a schema of the document."""
    rooted = json.loads(re.sub(r'("\$ref": ")#', r"\1urn:plainmq#", json.dumps(schema)))
    validator = OAS32Validator(rooted, registry=_registry(), format_checker=oas32_format_checker)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def code_enum(schema: Any) -> set[str]:
    """The problem codes that a schema allows."""
    schema = resolve(schema)
    own = schema.get("properties", {}).get("code", {}).get("enum")
    return set(own if own is not None else code_enum({"$ref": schema["$ref"]}))


def documented_codes() -> dict[str, set[int]]:
    """Each problem code, and the statuses that come with it, over all responses."""
    found: dict[str, set[int]] = {}
    of_components = DOCUMENT["components"]["responses"].values()
    of_operations = [response for op in OPERATIONS.values() for response in op["responses"].values()]
    for response in map(resolve, [*of_components, *of_operations]):
        if media := response.get("content", {}).get(PROBLEM):
            schema = resolve(media["schema"])
            for code in code_enum(schema):
                found.setdefault(code, set()).add(schema["properties"]["status"]["const"])
    return found


def blocks(text: str) -> list[dict[str, Any]]:
    """The blocks of an event stream as OpenAPI 3.2 items (section 4.14.4): what the fields say, comments left out."""
    items = []
    for block in text.split("\n\n"):
        item: dict[str, Any] = {}
        for line in block.splitlines():
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "retry":
                item[name] = int(value)
            elif name:
                item[name] = f"{item[name]}\n{value}" if name in item else value
        if item:
            items.append(item)
    return items


def item_complaints(item: dict[str, Any], schema: Any, form: str = "raw") -> list[str]:
    """What is wrong with an item of a stream; JSON in its data is read and held to its own schema."""
    found = complaints(item, schema)
    schemas = DOCUMENT["components"]["schemas"]
    message = {"raw": "RawMessageEvent", "json": "JsonMessageEvent", "work": "WorkEvent"}[form]
    own = {"place": "PlaceEvent", "gap": "GapEvent", "bye": "ByeEvent", "busy": "BusyEvent"}
    kind = own.get(item.get("event", ""), message)
    found += complaints(item, schemas[kind])
    content = schemas[kind].get("properties", {}).get("data", {}).get("contentSchema")
    return found + (complaints(json.loads(item["data"]), content) if content else [])


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


_STREAM_MEDIA = DOCUMENT["components"]["responses"]["Stream"]["content"][EVENT_STREAM]
_WORK_MEDIA = DOCUMENT["components"]["responses"]["WorkStream"]["content"][EVENT_STREAM]


@pytest.mark.parametrize(
    ("media", "name"),
    [pytest.param(media, name, id=name) for media in (_STREAM_MEDIA, _WORK_MEDIA) for name in media["examples"]],
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
    assert item_complaints(item, _STREAM_MEDIA["itemSchema"])


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
        {"type": "http", "app": MagicMock(), "path_params": path, "query_string": b"topic=foo", "headers": []}
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


# The document and a real server


def check(method: str, path: str, response: httpx.Response) -> None:
    """The answer is one that the operation names, with its headers and its schema."""
    status = str(response.status_code)
    assert status in OPERATIONS[path, method]["responses"], f"{method} {path} answered {status}: {response.text}"
    check_response(response, OPERATIONS[path, method]["responses"][status])


def check_response(response: httpx.Response, documented: Any) -> None:
    """Headers and body; the items of a stream are checked by who reads it."""
    documented = resolve(documented)
    media = response.headers.get("content-type", "").partition(";")[0]
    content = documented.get("content")
    if content is None:
        assert not response.content
    elif "*/*" not in content:
        assert media in content
        if "schema" in content[media]:
            body = response.json() if media.endswith("json") else response.text
            assert not complaints(body, content[media]["schema"])
    for name, header in documented.get("headers", {}).items():
        check_header(response.headers.get(name), resolve(header))


def check_header(value: str | None, documented: Any) -> None:
    assert value is not None or not documented.get("required")
    if value is not None:
        number = documented["schema"].get("type") == "integer"
        assert not complaints(int(value) if number else value, documented["schema"])


TOPICS = "/topics"
TOPIC = "/topics/{topic}"
MESSAGES = "/topics/{topic}/messages"
MESSAGE = "/topics/{topic}/messages/{id}"
STREAM = "/topics/{topic}/stream"
GROUP = "/topics/{topic}/groups/{group}"


@pytest.mark.parametrize("body", [b"hello", b"", b"two\nlines", b"\xff\xfe\0"])
@pytest.mark.parametrize("options", ["", "?event=hi&delivery=one&ttl=10m&retain=true"])
async def test_a_publish_is_answered_as_documented(
    http: httpx.AsyncClient, topic: str, body: bytes, options: str
) -> None:
    response = await http.post(f"/topics/{topic}/messages{options}", content=body)
    assert response.status_code == 201
    check("POST", MESSAGES, response)


@pytest.mark.parametrize("written", ["/", "%2F"])
async def test_a_slash_in_a_topic_may_be_written_bare_or_encoded(
    http: httpx.AsyncClient, topic: str, written: str
) -> None:
    response = await http.post(f"/topics/{topic}{written}42/messages", content=b"x")
    assert response.json()["topic"] == f"{topic}/42"


@pytest.mark.parametrize(
    ("request_line", "code", "more"),
    [
        ("POST /topics/a%20b/messages", "topic_invalid", {}),
        ("POST /topics/a*/messages", "topic_invalid", {}),
        ("POST /topics/a%FF/messages", "topic_invalid", {}),
        ("GET /topics/a..b/stream", "topic_invalid", {}),
        ("POST /topics/a/messages?evnt=x", "option_invalid", {}),
        ("POST /topics/a/messages?ttl=soon", "option_invalid", {}),
        ("POST /topics/a/messages?delivery=one&delivery=all", "option_invalid", {}),
        ("GET /topics/a/stream?since=then", "option_invalid", {}),
        ("GET /topics/a/stream?last_event_id=42", "option_invalid", {}),
        ("GET /topics/a/stream", "option_invalid", {"headers": {"Last-Event-ID": "A-1"}}),
        ("POST /topics/a/messages", "message_too_large", {"content": bytes((1 << 20) + 1)}),
        ("POST /topics/a/messages", "encoding_unsupported", {"headers": {"Content-Encoding": "gzip"}}),
        ("POST /topics/a%20b/groups/g/pull", "topic_invalid", {}),
        ("POST /topics/a/groups/-/pull", "group_invalid", {}),
        ("POST /topics/a/groups/g/pull?max=0", "option_invalid", {}),
        ("GET /topics/a/groups/-/stream", "group_invalid", {}),
        ("GET /topics/a/groups/g/stream?credit=101", "option_invalid", {}),
        ("GET /topics/no.such/groups/g/stream", "not_found", {"headers": {"Accept": EVENT_STREAM}}),
        ("POST /topics/a/groups/g/ack", "option_invalid", {}),
        ("POST /topics/a/groups/g/ack", "message_too_large", {"content": bytes(1 << 17)}),
        ("POST /topics/no.such/groups/g/ack", "not_found", {"json": {"ids": ["k3f9a2xq-42"]}}),
    ],
)
async def test_a_refusal_is_answered_as_documented(
    http: httpx.AsyncClient, request_line: str, code: str, more: Mapping[str, Any]
) -> None:
    method, path = request_line.split()
    response = await http.request(method, path, **more)
    assert response.json()["code"] == code
    check(method, re.sub(r"/topics/[^/]+(?:/groups/[^/]+)?", _templated, path.partition("?")[0]), response)


def _templated(path: re.Match[str]) -> str:
    return GROUP if "/groups/" in path[0] else TOPIC


@pytest.mark.parametrize(
    ("method", "path", "component"),
    [
        ("GET", "/nothing/here", "NotFound"),
        ("POST", "/topics/a/messages/", "MethodNotAllowed"),
        ("POST", "/topics/a/groups/g", "MethodNotAllowed"),
        ("PUT", "/livez", "MethodNotAllowed"),
    ],
)
async def test_a_path_or_method_that_is_not_there_is_answered_as_documented(
    http: httpx.AsyncClient, method: str, path: str, component: str
) -> None:
    response = await http.request(method, path)
    check_response(response, {"$ref": f"#/components/responses/{component}"})


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_health_is_answered_as_documented(http: httpx.AsyncClient, path: str) -> None:
    response = await http.get(path)
    assert response.status_code == 200
    check("GET", path, response)


async def test_a_batch_a_repetition_and_a_delay_are_answered_as_documented(http: httpx.AsyncClient, topic: str) -> None:
    path = f"/topics/{topic}/messages"
    batch = {"Content-Type": "application/x-ndjson", "Idempotency-Key": "b"}
    answers = [
        await http.post(path, headers=batch, content=b'{"a":1}\n\n{"a":2}\n'),
        await http.post(path, headers=batch, content=b'{"a":1}\n\n{"a":2}\n'),
        await http.post(f"{path}?delay=1h", headers={"Idempotency-Key": "d"}, content=b"later"),
        await http.post(f"{path}?delay=1h", headers={"Idempotency-Key": "d"}, content=b"later"),
    ]
    assert [answer.status_code for answer in answers] == [201, 200, 202, 202]
    assert [answer.json().get("duplicate") for answer in answers] == [None, True, None, True]
    for answer in answers:
        check("POST", MESSAGES, answer)


async def test_reading_is_answered_as_documented(http: httpx.AsyncClient, topic: str) -> None:
    path = f"/topics/{topic}/messages"
    first = (await http.post(path, content=b"hello")).json()["id"]
    await http.post(f"{path}?event=e", content=b"\xff")
    lost = {"since": "another-7", "limit": "1"}
    page = await http.get(path, params=lost)
    assert page.json()["gap"]["reason"] == "epoch"
    assert page.json()["next"] == first
    rest = await http.get(path, params={"since": first, "wait": "1s"})
    assert [message["data_base64"] for message in rest.json()["messages"]] == ["/w=="]
    for answer in (page, rest):
        check("GET", MESSAGES, answer)
    lines = await http.get(path, params=lost, headers={"Accept": "application/x-ndjson"})
    check("GET", MESSAGES, lines)
    schema = resolve(OPERATIONS[MESSAGES, "GET"]["responses"]["200"])["content"]["application/x-ndjson"]["itemSchema"]
    records = [json.loads(line) for line in lines.text.splitlines()]
    assert len(records) == 2
    assert not [wrong for record in records for wrong in complaints(record, schema)]
    body = await http.get(f"{path}/{first}")
    assert (body.status_code, body.content) == (200, b"hello")
    missing = await http.get(f"{path}/{first}0")
    assert missing.status_code == 404
    for answer in (body, missing, await http.get(f"{path}/{first}!")):
        check("GET", MESSAGE, answer)


async def test_topics_are_answered_as_documented(http: httpx.AsyncClient, topic: str) -> None:
    path = f"/topics/{topic}"
    changed = await http.put(path, json={"max_messages": 5, "max_age": "1h"})
    assert changed.json()["retention"] == {"max_messages": 5, "max_bytes": 8 << 20, "max_age": "1h"}
    check("PUT", TOPIC, changed)
    for body in (b'{"max_messages":0}', b'{"most":1}', b"[" * 4000, bytes(5000)):
        refused = await http.put(path, content=body)
        assert refused.is_client_error
        check("PUT", TOPIC, refused)
    check("GET", TOPIC, await http.get(path))
    every = await http.get("/topics", params={"match": f"{topic}"})
    assert len(every.json()["topics"]) == 1
    for answer in (every, await http.get("/topics?match=a..b")):
        check("GET", TOPICS, answer)
    deleted, again = await http.delete(path), await http.delete(path)
    assert (deleted.status_code, again.status_code) == (204, 404)
    for answer in (deleted, again):
        check("DELETE", TOPIC, answer)
    check("GET", TOPIC, await http.get(path))


async def test_work_is_answered_as_documented(http: httpx.AsyncClient, topic: str) -> None:
    path = f"/topics/{topic}/groups/g"
    for body in (b"work", b"\xff"):
        await http.post(f"/topics/{topic}/messages?event=e", content=body)
    for headers, take in (({}, _pulled), ({"Accept": "application/x-ndjson"}, _pulled_lines)):
        pulled = await http.post(f"{path}/pull?max=1&lease=1m&wait=1s", headers=headers)
        check("POST", f"{GROUP}/pull", pulled)
        (record,) = take(pulled)
        assert not complaints(record, {"$ref": "#/components/schemas/LeaseRecord"})
        settled = await http.post(f"{path}/ack", json={"ids": [record["id"], "another-7"]})
        assert settled.json()["results"] == {record["id"]: "done", "another-7": "unknown"}
        check("POST", f"{GROUP}/ack", settled)
        for action in ("nack", "extend"):
            late = await http.post(f"{path}/{action}", json={"ids": [record["lease"]]})
            assert (late.status_code, late.json()["results"]) == (409, {record["lease"]: "expired"})
            check("POST", f"{GROUP}/{action}", late)


def _pulled(response: httpx.Response) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = response.json()["messages"]
    return messages


def _pulled_lines(response: httpx.Response) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.text.splitlines()]


async def test_groups_are_answered_as_documented(http: httpx.AsyncClient, topic: str) -> None:
    path = f"/topics/{topic}/groups/g"
    missing = await http.get(f"{path}/stream")
    assert missing.status_code == 404
    check("GET", f"{GROUP}/stream", missing)
    settings = {"start": "earliest", "ack_timeout": "1m", "max_deliveries": 2.0, "dead_letter": f"{topic}.lost"}
    made = await http.put(path, json=settings)
    assert {name: made.json()[name] for name in settings} == settings
    await http.post(f"/topics/{topic}/messages", content=b"work")
    seen = await http.get(path)
    assert (seen.json()["lag"], seen.json()["oldest"]["time"][-1]) == (1, "Z")
    for answer in (await http.put(path, content=bytes(1 << 17)), await http.put(path, json={"start": "latest"})):
        assert answer.is_client_error
        check("PUT", GROUP, answer)
    check("PUT", GROUP, made)
    check("GET", GROUP, seen)
    check("GET", TOPIC, await http.get(f"/topics/{topic}"))
    deleted, again = await http.delete(path), await http.delete(path)
    assert (deleted.status_code, again.status_code) == (204, 404)
    for answer in (deleted, again):
        check("DELETE", GROUP, answer)
    check("GET", GROUP, await http.get(path))


async def test_a_dead_message_is_as_documented(http: httpx.AsyncClient, topic: str) -> None:
    path = f"/topics/{topic}/groups/g"
    await http.put(path, json={"max_deliveries": 1})
    id = (await http.post(f"/topics/{topic}/messages", content=b"work")).json()["id"]
    await http.post(f"{path}/pull")
    await http.post(f"{path}/nack", json={"ids": [id]})
    page = await http.get(f"/topics/{topic}.dead/messages")
    assert page.json()["messages"][0]["dead"]["id"] == id
    check("GET", MESSAGES, page)


async def test_the_jobs_of_a_group_are_as_documented_in_each_state(http: httpx.AsyncClient, topic: str) -> None:
    path, fields = f"/topics/{topic}/groups/g", {"X-Plainmq-Title": "tea", "X-Plainmq-Retries": "2"}
    await http.put(path, json={"max_deliveries": 2, "dead_letter": f"{topic}.dead"})
    for body in (b"dies", b"waits", b"\xff", b"x" * 70_000):
        await http.post(f"/topics/{topic}/messages?event=e", content=body, headers=fields)
    for delay in ("0", "0", "1h"):
        (lease,) = _pulled(await http.post(f"{path}/pull?max=1&wait=1s"))
        await http.post(f"{path}/nack?delay={delay}", json={"ids": [lease["id"]], "reason": "no paper"})
    await http.post(f"{path}/pull?max=1")
    for state in ("ready", "leased", "delayed", "dead"):
        page = await http.get("/jobs", params={"topic": topic, "group": "g", "state": state})
        (job,) = page.json()["jobs"]
        assert job["headers"] == {"title": "tea", "retries": "2"}
        check("GET", "/jobs", page)


async def test_a_group_s_stream_is_as_documented(http: httpx.AsyncClient, topic: str) -> None:
    await http.put(f"/topics/{topic}/groups/g")
    for body in (b"work", b"\xff"):
        await http.post(f"/topics/{topic}/messages?event=e", content=body)
    async with http.stream("GET", f"/topics/{topic}/groups/g/stream") as response:
        check("GET", f"{GROUP}/stream", response)
        items = await _items(response, 2)
    assert [item.get("event") for item in items] == ["e", "e"]
    for item in items:
        assert not item_complaints(item, _WORK_MEDIA["itemSchema"], "work")


async def test_a_group_too_many_is_answered_as_documented(http: httpx.AsyncClient, topic: str) -> None:
    answers = [await http.put(f"/topics/{topic}/groups/{number}") for number in range(101)]
    assert [answer.status_code for answer in answers] == [200] * 100 + [429]
    for answer in answers:
        check("PUT", GROUP, answer)
    check("POST", f"{GROUP}/pull", await http.post(f"/topics/{topic}/groups/another/pull"))


async def test_a_stream_for_scripts_ends_by_itself(server: ServerProcess, topic: str) -> None:
    async with client(server) as http:
        for number in range(3):
            await http.post(f"/topics/{topic}/messages", content=str(number).encode())
    for path in (STREAM.format(topic=topic) + "?", f"/stream?topic={topic}&topic=no.*&format=raw&"):
        async with client(server) as http:
            limited = await http.get(f"{path}since=earliest&limit=2")
        assert [item.get("data") for item in blocks(limited.text)] == ["0", "1"]
        async with client(server) as http:
            timed = await http.get(f"{path}timeout=10ms")
        assert [item["event"] for item in blocks(timed.text)] == ["place"]
        check("GET", "/stream" if path.startswith("/stream") else STREAM, limited)


async def test_a_stream_that_ends_says_so_when_its_connection_ends_too(server: ServerProcess, topic: str) -> None:
    """Or else a client with a pool sends its next request into a connection that the server has closed."""
    async with stream(server, f"/topics/{topic}/stream?timeout=10ms") as ending:
        assert await ending.next() is None
        if ending.headers.get("connection") != "close":
            await ending.open("/livez", {})
            assert ending.status == 200


async def _items(response: httpx.Response, ids: int) -> list[dict[str, Any]]:
    """The items of a stream until `ids` of them were messages, or its end."""
    text = ""
    items: list[dict[str, Any]] = []
    async for part in response.aiter_text():
        text += part
        items = blocks(text[: text.rfind("\n\n") + 2])
        if sum("id" in item and item.get("event") != "place" for item in items) >= ids:
            break
    return items


@pytest.mark.parametrize("form", ["raw", "json"])
async def test_a_stream_s_items_are_as_documented(http: httpx.AsyncClient, topic: str, form: str) -> None:
    for body in (b"hello", b"two\nlines", b"\xff", b"", b"a\rb"):
        await http.post(f"/topics/{topic}/messages?event=price", content=body)
    path = f"/topics/{topic}/stream?format={form}&last_event_id=another-7"
    async with http.stream("GET", path) as response:
        check("GET", STREAM, response)
        assert response.headers["x-accel-buffering"] == "no"
        items = await _items(response, 5)
    assert [item.get("event") for item in items] == ["gap", *["price"] * 5]
    for item in items:
        assert not item_complaints(item, _STREAM_MEDIA["itemSchema"], form)


async def test_a_body_that_a_stream_cannot_carry_comes_as_a_data_url(http: httpx.AsyncClient, topic: str) -> None:
    await http.post(f"/topics/{topic}/messages", content=b"a\rb", headers={"Content-Type": "text/x"})
    async with http.stream("GET", f"/topics/{topic}/stream?since=earliest") as response:
        item = (await _items(response, 1))[-1]
    assert item["data"] == f"data:text/x;base64,{base64.b64encode(bytes([97, 13, 98])).decode()}"


@contextmanager
def full_server() -> Iterator[ServerProcess]:
    """Room for one topic of about five messages and for one subscriber."""
    small = ["--max-message", "1000", "--max-bytes", "100000", "--max-total-bytes", "9000"]
    with start_server("--max-topics", "1", "--max-subscribers", "1", *small) as process:
        yield process


@pytest.fixture(scope="module")
def full() -> Iterator[ServerProcess]:
    with full_server() as process:
        yield process


@asynccontextmanager
async def client(process: ServerProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with http_client(process.url) as http:
        yield http


async def test_a_server_that_is_full_answers_as_documented(full: ServerProcess) -> None:
    async with client(full) as http:
        answers = [await http.post("/topics/only/messages", content=bytes(1000)) for _ in range(8)]
        answers.append(await http.post("/topics/another/messages", content=b"x"))
    assert {answer.status_code for answer in answers} == {201, 429, 507}
    for answer in answers:
        check("POST", MESSAGES, answer)


async def test_a_client_beyond_its_share_is_answered_as_documented() -> None:
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    with start_server(
        "--host", address, "--auth", "none", "--publish-rate", "1", "--publish-burst", "1", tcp_port=0
    ) as process:
        process.url = f"http://{address}:{process.port}"
        async with client(process) as http:
            batch = {"Content-Type": "application/x-ndjson"}
            await http.post("/topics/foo/messages", content=b"1\n" * 60, headers=batch)
            for path in ("/topics/foo/messages", "/topics/foo/messages?event=x"):
                refused = await http.post(path, content=b"x")
                assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
                check("POST", MESSAGES, refused)


async def test_one_subscriber_too_many_is_answered_as_documented(full: ServerProcess) -> None:
    path = "/topics/only/stream"
    async with stream(full, path), client(full) as http:
        refused = await http.get(path)
        assert refused.status_code == 503
        check("GET", STREAM, refused)
        as_event = await http.get(path, headers={"Accept": EVENT_STREAM})
        assert as_event.status_code == 200
        check("GET", STREAM, as_event)
        (item,) = blocks(as_event.text)
        assert item["event"] == "busy"
        assert not item_complaints(item, _STREAM_MEDIA["itemSchema"])


async def test_a_server_that_stops_answers_as_documented() -> None:
    with start_server() as process:
        late = socket.create_connection((process.host, process.port), DEADLINE)
        with late:
            late.sendall(b"POST /topics/foo/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\na")
            async with client(process) as http, http.stream("GET", "/topics/foo/stream") as response:
                process.process.send_signal(signal.SIGTERM)
                items = blocks((await response.aread()).decode())
            late.sendall(b"b")
            answer = b"".join(iter(lambda: late.recv(65536), b""))
        assert process.process.wait(DEADLINE) == 0
    assert [item.get("event") for item in items] == ["place", "bye"]
    assert json.loads(items[-1]["data"]) == {"reason": "draining"}
    for item in items:
        assert not item_complaints(item, _STREAM_MEDIA["itemSchema"])
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *fields = head.decode().split("\r\n")
    headers = dict(field.split(": ", 1) for field in fields)
    check("POST", MESSAGES, httpx.Response(int(status.split()[1]), headers=headers, content=body))
    assert json.loads(body)["code"] == "draining"
