"""Which module may import which. The table lists it; this test holds the code to the table.

A row says: this module may import those. `web/*` stands for every module of that folder, in a row's name and behind its
arrow; modules of such a row may import each other. Of several rows for a module, the one with the longest name holds.
`.log` behind an arrow is in the row's own folder. An import counts wherever it stands: in a function, or under
TYPE_CHECKING. A module without a row fails: give it one, and mind that arrows run down only.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.harness import ROOT

TABLE = """
    __main__          → cli/*
    cli/*             → __init__ server/* settings/* client/* storage/sqlite/backup access/* messages/* errors/*
    cli/bench/*       → client/* net/* errors/*
    main              → server/* access/* telemetry/* settings/* web/app web/middleware/*

    server/*          → __init__ web/* tcp/* broker/* fanout/presence storage/* log/* access/* limits/*
                        telemetry/* net/* settings/* messages/* errors/*
    web/app           → web/api/* web/streaming/* web/publish_request .permissions .problem web/middleware/*
                        broker/* access/* telemetry/* errors/*
    web/fastpath/*    → web/publish_request web/streaming/* web/permissions web/authentication web/problem web/sse
                        web/middleware/* broker/* access/* telemetry/* net/* messages/* errors/*
    web/api/*         → __init__ web/streaming/* web/permissions web/authentication web/body web/problem
                        web/publish_request web/query web/responses web/sse
                        broker/* consumers/* fanout/* log/* access/* limits/* telemetry/* messages/* errors/*
    web/streaming/*   → web/authentication web/problem web/query web/sse web/middleware/* broker/* fanout/*
                        access/* net/* messages/* errors/*
    web/publish_request → web/permissions web/query messages/* errors/*
    web/body          → web/permissions broker/* limits/* messages/* errors/*
    web/permissions   → .authentication .empty_body .query web/middleware/* log/* access/* messages/* errors/*
    web/query         → messages/* errors/*
    web/empty_body    → messages/* errors/*
    web/responses     → messages/*
    web/middleware/origin → web/problem access/* errors/*
    web/problem       → .sse .nearest web/authentication web/middleware/access_log web/middleware/security_headers
                        errors/*
    web/nearest       → errors/*
    web/authentication → web/middleware/forwarded access/* limits/* messages/* errors/*
    web/middleware/*  → access/* telemetry/* errors/*
    web/sse           → fanout/* messages/*
    tcp/*             → broker/* consumers/* fanout/* log/* access/* limits/* telemetry/* net/* messages/* errors/*

    __init__          → client/*
    client/*          → errors/*

    broker/*          → consumers/* fanout/* storage/engine log/* limits/* telemetry/* messages/* errors/*
    consumers/*       → fanout/* storage/engine limits/* telemetry/* messages/* errors/*
    fanout/*          → log/* limits/* net/* telemetry/* messages/* errors/*
    storage/sqlite/*  → storage/local storage/engine storage/clock storage/turns storage/unusable log/* telemetry/*
                        net/* messages/* errors/*
    storage/replicated/redis/* → storage/replicated/journal storage/replicated/remote storage/replicated/url
                        telemetry/* errors/* storage/unusable
    storage/replicated/nats/* → storage/replicated/journal storage/replicated/remote storage/replicated/url
                        telemetry/* errors/* storage/unusable
    storage/replicated/remote → .journal .recent storage/unusable telemetry/*
    storage/replicated/* → storage/local storage/engine storage/elsewhere storage/clock storage/turns storage/timer
                        storage/unusable log/* telemetry/* messages/* errors/*
    storage/unusable  → errors/*
    storage/memory    → .local .engine .clock .turns .timer log/* telemetry/* messages/* errors/*
    storage/local     → .engine .clock .turns log/* messages/*
    storage/turns     → log/* errors/*
    storage/timer     →
    storage/engine    → .clock .elsewhere log/* telemetry/* messages/*
    storage/elsewhere →
    storage/clock     → log/*
    log/*             → messages/* errors/*
    access/*          → settings/* net/* messages/* errors/*
    limits/*          → settings/* telemetry/* messages/* errors/*
    settings/*        → net/* messages/* errors/*
    messages/*        → errors/*
    telemetry/*       →
    net/*             → errors/*
    errors/*          →
"""

ENDPOINTS = ("web/", "tcp/")
READS_ENVIRONMENT = "settings/sources"
PRINTS = "cli/terminal"
CHOOSES_ENGINE = "server/build"
ENGINES = ("storage/memory", "storage/sqlite/engine")


class Import(NamedTuple):
    importer: str
    imported: str
    place: str  # file:line

    def __str__(self) -> str:
        return f"{self.importer} imports {self.imported} ({self.place})"


class Package:
    """The modules of a package and what they say, read with `ast`: nothing is run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.trees = {_name(path.relative_to(root)): ast.parse(path.read_bytes()) for path in root.rglob("*.py")}

    def place(self, module: str, node: ast.AST) -> str:
        return f"{self.root.name}/{module}.py:{getattr(node, 'lineno', 0)}"

    def imports(self) -> list[Import]:
        """Every import of one module of the package by another."""
        return [
            Import(module, imported, self.place(module, node))
            for module, tree in self.trees.items()
            for node in ast.walk(tree)
            for imported in self._imported(module, node)
        ]

    def _imported(self, module: str, node: ast.AST) -> Iterator[str]:
        package = self.root.name
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == package:
                    yield self._module(parts[1:])
        elif isinstance(node, ast.ImportFrom):
            base = [package, *module.split("/")][: -node.level] if node.level else []
            base += node.module.split(".") if node.module else []
            if base[:1] == [package]:
                yield from {self._module([*base[1:], alias.name]) for alias in node.names}

    def _module(self, parts: list[str]) -> str:
        """The module that these parts name: itself, or the one or the folder in which the last is a name."""
        here, above = "/".join(parts), "/".join(parts[:-1])
        candidates = (here, f"{here}/__init__".lstrip("/"), above, f"{above}/__init__".lstrip("/"))
        return next((name for name in candidates if name in self.trees), here)

    def mentions(self, words: Mapping[str, str]) -> list[tuple[str, str]]:
        """The modules that use one of the dotted names (`os.environ`, `print`), under whatever name, and where."""
        found = []
        for module, tree in self.trees.items():
            known = dict(_aliases(tree))
            for node in ast.walk(tree):
                if isinstance(node, (ast.Name, ast.Attribute)) and (name := _dotted(node, known)) in words:
                    found.append((module, f"{self.place(module, node)} uses {name}: {words[name]}"))
                elif isinstance(node, (ast.Import, ast.ImportFrom)):
                    found += [
                        (module, f"{self.place(module, node)} imports {name}: {words[name]}")
                        for name in dict.fromkeys(
                            part for _, full in _named(node) for part in (full, full.split(".")[0])
                        )
                        if name in words
                    ]
        return found


def _name(path: Path) -> str:
    return path.with_suffix("").as_posix()


def _named(node: ast.AST) -> Iterator[tuple[str, str]]:
    """The names that an import binds, and what they stand for."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.asname or alias.name.split(".")[0], alias.name if alias.asname else alias.name.split(".")[0]
    elif isinstance(node, ast.ImportFrom) and not node.level:
        for alias in node.names:
            yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _aliases(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        yield from _named(node)


def _dotted(node: ast.expr, known: Mapping[str, str]) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, known)}.{node.attr}"
    return known.get(node.id, node.id) if isinstance(node, ast.Name) else ""


def rows(text: str) -> dict[str, list[str]]:
    """The table as patterns: the row's → those it may import."""
    table: dict[str, list[str]] = {}
    name = ""
    for line in filter(str.strip, text.splitlines()):
        left, arrow, right = line.partition("→")
        name, allowed = (left.strip(), right) if arrow else (name, left)
        folder = name.rpartition("/")[0] + "/"
        table.setdefault(name, []).extend(re.sub(r"^\.", folder, word) for word in allowed.split())
    return table


def forbidden(package: Package, text: str) -> list[str]:
    """What the table does not allow, each with the place."""
    table = rows(text)
    found = []
    for imported in sorted(package.imports()):
        row = max((name for name in table if fnmatchcase(imported.importer, name)), key=len, default=None)
        allowed = table.get(row or "", [])
        own_folder = row is not None and row.endswith("/*") and fnmatchcase(imported.imported, row)
        if not own_folder and not any(fnmatchcase(imported.imported, name) for name in allowed):
            found.append(f"{imported}: not allowed, its row has {' '.join(allowed) or 'nothing'}")
    return found


def cycle(package: Package) -> list[str]:
    """A circle of imports, if there is one."""
    graph: dict[str, set[str]] = {module: set() for module in package.trees}
    for imported in package.imports():
        graph[imported.importer].add(imported.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []


def _empty_packages(package: Package) -> set[str]:
    """Folders' `__init__` files that are a docstring and nothing else: they import nothing, so they need no row."""
    return {
        name
        for name, tree in package.trees.items()
        if name.endswith("/__init__") and all(isinstance(node, ast.Expr) for node in tree.body)
    }


PACKAGE = Package(ROOT / "app")


def test_every_import_is_allowed_by_the_table() -> None:
    found = forbidden(PACKAGE, TABLE)
    assert not found, "\n".join(found)


def test_every_module_has_a_row_and_every_row_a_module() -> None:
    modules = set(PACKAGE.trees) - _empty_packages(PACKAGE)
    table = rows(TABLE)
    without_row = [name for name in modules if not any(fnmatchcase(name, row) for row in table)]
    assert not without_row, f"give these modules a row in the table: {sorted(without_row)}"
    empty = [row for row in table if not any(fnmatchcase(name, row) for name in modules)]
    assert not empty, f"these rows have no module: {empty}"


def test_arrows_in_the_table_run_down_only() -> None:
    table = rows(TABLE)
    order = list(table)
    for row, allowed in table.items():
        for name in allowed:
            below = [other for other in order if fnmatchcase(other, name) or fnmatchcase(name, other)]
            assert below, f"{row} → {name}: there is no such row"
            assert min(map(order.index, below)) > order.index(row), f"{row} → {name} does not run down"


def test_imports_go_round_in_no_circle() -> None:
    circle = cycle(PACKAGE)
    assert not circle, " → ".join(circle)


def test_the_broker_knows_no_engine_but_the_seam() -> None:
    known = {found.imported for found in PACKAGE.imports() if found.importer == "broker/broker"}
    assert {name for name in known if name.startswith("storage/")} == {"storage/engine"}


def test_only_the_server_chooses_an_engine() -> None:
    concrete = [found for found in PACKAGE.imports() if found.imported in ENGINES]
    assert {found.importer for found in concrete} == {CHOOSES_ENGINE}, "; ".join(map(str, concrete))


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_endpoint_imports_neither_the_other_endpoint_nor_an_engine(endpoint: str) -> None:
    others = (*(other for other in ENDPOINTS if other != endpoint), "storage/")
    inside = [found for found in PACKAGE.imports() if found.importer.startswith(endpoint)]
    assert inside, f"{endpoint} imports nothing at all"
    strangers = [str(found) for found in inside if found.imported.startswith(others)]
    assert not strangers, "; ".join(strangers)


ENVIRONMENT = dict.fromkeys(
    ("os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv", "dotenv"),
    "only settings reads the environment",
)
PRINTING = dict.fromkeys(("print", "click.echo", "click.secho", "sys.stdout", "sys.stderr"), "only cli/terminal prints")


@pytest.mark.parametrize(
    ("words", "owner"), [(ENVIRONMENT, READS_ENVIRONMENT), (PRINTING, PRINTS)], ids=["env", "print"]
)
def test_one_module_alone_reads_the_environment_and_one_alone_prints(words: dict[str, str], owner: str) -> None:
    users = PACKAGE.mentions(words)
    assert owner in {module for module, _ in users}, "the rule has lost its object"
    strangers = [place for module, place in users if module != owner]
    assert not strangers, "\n".join(strangers)


# The test of the test: each rule finds its breach


def build(folder: Path, **modules: str) -> Package:
    """A package with these modules; `__` in a name stands for the folder's slash."""
    root = folder / "app"
    for name, text in modules.items():
        path = root / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Package(root)


@pytest.mark.parametrize(
    "line",
    [
        "from .broker import Broker",
        "from . import broker",
        "import app.broker",
        "from app.broker import Broker as B",
        "from app import broker",
        "def f():\n    from .broker import Broker",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .broker import Broker",
    ],
)
def test_an_import_that_the_table_lacks_is_named_with_its_place(tmp_path: Path, line: str) -> None:
    package = build(tmp_path, broker="Broker = 1", log=line)
    number = len(line.splitlines())
    (found,) = forbidden(package, "broker → log\nlog → errors topic")
    assert found == f"log imports broker (app/log.py:{number}): not allowed, its row has errors topic"
    assert not forbidden(package, "broker →\nlog → errors broker")


def test_an_import_from_a_folder_is_read_relative_to_the_folder(tmp_path: Path) -> None:
    package = build(
        tmp_path, web__app="from .stream import s\nfrom ..tcp.echo import e", web__stream="", tcp__echo="", echo=""
    )
    assert {(found.importer, found.imported) for found in package.imports()} == {
        ("web/app", "web/stream"),
        ("web/app", "tcp/echo"),
    }
    (found,) = forbidden(package, "web/* →\ntcp/* →\necho →")
    assert found.startswith("web/app imports tcp/echo (app/web/app.py:2)")


def test_a_folder_with_a_row_of_its_own_has_not_the_rights_of_the_folder_around_it(tmp_path: Path) -> None:
    package = build(tmp_path, cli__load="from .bench.a import b", cli__bench__a="from ..load import c", client="")
    (found,) = forbidden(package, "cli/* → client\ncli/bench/* → client\nclient →")
    assert found.startswith("cli/bench/a imports cli/load")


def test_a_circle_is_shown_even_when_one_arrow_is_for_types_only(tmp_path: Path) -> None:
    types_only = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import A"
    package = build(tmp_path, a="from .b import B", b=types_only)
    assert sorted(set(cycle(package))) == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import os\nos.environ['X']", ENVIRONMENT),
        ("import os as o\no.getenv('X')", ENVIRONMENT),
        ("from os import environ as e", ENVIRONMENT),
        ("from dotenv import dotenv_values", ENVIRONMENT),
        ("import dotenv", ENVIRONMENT),
        ("print(1)", PRINTING),
        ("def f(say=print): ...", PRINTING),
        ("import sys\nsys.stderr.write('x')", PRINTING),
        ("from click import echo", PRINTING),
    ],
)
def test_a_stranger_to_the_environment_or_the_terminal_is_found(
    tmp_path: Path, text: str, words: dict[str, str]
) -> None:
    package = build(tmp_path, log=text)
    assert {module for module, _ in package.mentions(words)} == {"log"}
    assert not build(tmp_path / "b", log="import os\nos.getpid()\nprinted = 1").mentions(words)
