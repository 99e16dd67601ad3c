"""openapi/openapi.yaml: its operations, its codes, and what does not fit its schemas."""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import httpx
import yaml
from openapi_schema_validator import OAS32Validator, oas32_format_checker
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from tests.harness import ROOT

DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "openapi" / "openapi.yaml").read_text())
METHODS = {"get", "put", "post", "delete", "patch", "head", "options", "trace", "query"}
EVENT_STREAM = "text/event-stream"
PROBLEM = "application/problem+json"


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


STREAM_MEDIA = DOCUMENT["components"]["responses"]["Stream"]["content"][EVENT_STREAM]
WORK_MEDIA = DOCUMENT["components"]["responses"]["WorkStream"]["content"][EVENT_STREAM]


# Answers


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
