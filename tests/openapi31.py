"""openapi.yaml is written in OpenAPI 3.2, which says what is in a stream; many tools read 3.1 only. `python -m
tests.openapi31` makes a copy for them, which the server answers at /openapi.json.

What 3.1 lacks: `itemSchema` (the items of a stream become a string), the two kinds of an example's value (they become
one), and the summary of a tag (it becomes the description).
"""

import json
from typing import Any, Final

import yaml

from tests.harness import ROOT

ORIGINAL: Final = ROOT / "openapi" / "openapi.yaml"
COPY: Final = ROOT / "app" / "web" / "api" / "openapi.json"


def made() -> str:
    """The copy's text."""
    document: dict[str, Any] = yaml.safe_load(ORIGINAL.read_text())
    document["openapi"] = "3.1.0"
    for tag in document["tags"]:
        tag["description"] = tag.pop("summary")
    return json.dumps(_reduced(document), ensure_ascii=False, indent=1) + "\n"  # in lines, so that changes merge


def _reduced(node: Any) -> Any:
    if isinstance(node, list):
        return [_reduced(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = dict(node)
    if "itemSchema" in node:
        node["schema"] = {"type": "string", "description": f"Each item is one of {_names(node.pop('itemSchema'))}."}
    if "dataValue" in node or "serializedValue" in node:
        written = node.pop("serializedValue", None)
        node["value"] = node.pop("dataValue", written)
    if (schema := node.get("schema")) is not None and not schema.keys() - {"description"}:
        node["schema"] = {**schema, "type": "object"}  # of anything, generators make a string, or what does not run
    if node.get("const") is True:  # openapi-python-client writes what Python cannot read
        node["type"] = "boolean"
        del node["const"]
    if "$ref" in node and len(node) > 1:  # 3.1 allows it, and openapi-generator complains
        node["allOf"] = [{"$ref": node.pop("$ref")}]
    return {name: _reduced(value) for name, value in node.items()}


def _names(schema: dict[str, Any]) -> str:
    """The schemas that it refers to, as the document calls them."""
    return " or ".join(part["$ref"].rpartition("/")[2] for part in schema.get("anyOf", [schema]))


if __name__ == "__main__":
    COPY.write_text(made())
