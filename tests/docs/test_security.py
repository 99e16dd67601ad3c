"""SECURITY.md's table of threats: every row names tests, and there are such tests."""

import ast
import re
from pathlib import Path

import pytest

from tests.harness import ROOT

ROW = re.compile(r"^\| (?P<attack>[^|]+) \| (?P<defence>[^|]+) \| (?P<tests>[^|]+) \|$", re.MULTILINE)
NAME = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
COMMAND = re.compile(r"`python -m (tests\.\w+)")

DOCUMENT = (ROOT / "SECURITY.md").read_text()
ROWS = [row for row in ROW.finditer(DOCUMENT) if row["attack"] not in {"attack", "---"}]
NAMED = sorted({name.groups() for row in ROWS for name in NAME.finditer(row["tests"])})


def _tests_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_bytes())
    return {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


def test_every_row_is_of_tests_only() -> None:
    assert len(ROWS) > 20
    assert len(ROWS) == DOCUMENT.count("\n| ") - 1, "a row is not read as one"
    for row in ROWS:
        assert NAME.sub("", row["tests"]).replace(",", "").strip() == "", row["attack"]
        assert NAME.search(row["tests"]), row["attack"]


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_test_that_is_named_exists(path: str, name: str) -> None:
    assert name in _tests_in(ROOT / path)


def test_a_command_that_is_named_exists() -> None:
    for module in COMMAND.findall(DOCUMENT):
        assert (ROOT / module.replace(".", "/") / "__main__.py").exists(), module
