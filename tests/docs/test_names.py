"""What architecture.md and CONTRIBUTING.md name in the code is there: files, folders, classes and functions."""

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.docs.pages import DOCS
from tests.harness import ROOT

GUIDES = (DOCS / "architecture.md", ROOT / "CONTRIBUTING.md")
FENCED = re.compile(r"```.*?```", re.DOTALL)
QUOTED = re.compile(r"`([^`\n]+)`")
FILE = re.compile(r"[\w./-]+\.(py|md|yaml|toml)|[\w.-]+/[\w./-]*")
MODULE = re.compile(r"python -m (tests[\w.]+)")
MEMBER = re.compile(r"([A-Z]\w+)\.(\w+)")
ATTRIBUTE = re.compile(r"[a-z_]{2,}(\.\w+)+")
NAME = re.compile(r"[A-Z]\w+|_\w+|\w+_\w+")  # a single word in small letters may be a label, a folder or an option
IN_FILE = re.compile(r"`([\w./]+\.py)`, `(\w+)(?:\.(?!py`)(\w+))?`")


def _paths() -> Iterator[Path]:
    for path in ROOT.glob("*"):
        if path.name in {"app", "tests", "docs", "openapi"}:
            yield from path.rglob("*")
        yield path


def _definitions(tree: ast.AST, owner: str = "") -> Iterator[str]:
    """The functions, classes and names that are assigned, as `name` and, if a class has them, as `Class.name`."""
    for node in ast.iter_child_nodes(tree):
        names: list[str] = []
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names = [node.name]
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            names = [node.id if isinstance(node, ast.Name) else node.attr]
        for name in names:
            yield name
            if owner:
                yield f"{owner}.{name}"
        yield from _definitions(node, node.name if isinstance(node, ast.ClassDef) else owner)


class Code:
    def __init__(self, paths: Iterable[Path], root: Path) -> None:
        self.paths = {str(path.relative_to(root)) for path in paths}
        self.names = {
            path: {*_definitions(tree), *_strings(tree)}
            for path in self.paths
            if path.endswith(".py")
            for tree in (ast.parse((root / path).read_bytes()),)
        }
        self.all_names = set[str]().union(*self.names.values())

    def found(self, path: str) -> set[str]:
        """What a guide may mean by this path: it is relative to the repository, to `app`, or a file's name only."""
        path = path.rstrip("/")
        exact = {path, f"app/{path}"} & self.paths
        return exact or {one for one in self.paths if "/" not in path and one.rpartition("/")[2] == path}

    def missing(self, text: str) -> list[str]:
        text = FENCED.sub("", text)
        here = [
            f"{path}: {name}"
            for path, *parts in IN_FILE.findall(text)
            if (name := ".".join(filter(None, parts)))
            and not any(name in self.names[one] for one in self.found(path) if one in self.names)
        ]
        return here + [quoted for quoted in dict.fromkeys(QUOTED.findall(text)) if not self._exists(quoted)]

    def _exists(self, quoted: str) -> bool:
        if module := MODULE.fullmatch(quoted):
            path = module[1].replace(".", "/")
            return bool({f"{path}.py", f"{path}/__main__.py"} & self.paths)
        if FILE.fullmatch(quoted):
            return bool(self.found(quoted))
        if MEMBER.fullmatch(quoted) or NAME.fullmatch(quoted):
            return quoted in self.all_names
        return not ATTRIBUTE.fullmatch(quoted) or {*quoted.split(".")[1:]} <= self.all_names


def _strings(tree: ast.AST) -> Iterator[str]:
    """The codes of errors, among others."""
    return (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))


@pytest.fixture(scope="module")
def code() -> Code:
    return Code(_paths(), ROOT)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_everything_that_a_guide_names_in_the_code_is_there(guide: Path, code: Code) -> None:
    assert code.missing(guide.read_text()) == []


def test_a_name_that_is_gone_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "app" / "log").mkdir(parents=True)
    (tmp_path / "app" / "log" / "log.py").write_text("class Log:\n    head = 0\n    def accept(self): ...\n")
    (tmp_path / "app" / "log" / "run.py").write_text("def weigh(): ...\n")
    code = Code([*tmp_path.rglob("*")], tmp_path)
    good = "`log/log.py`, `Log.accept`, `log.py`, `app/log/`, `log/run.py`, `weigh`; `broker.head`, a `label`"
    assert code.missing(good) == []
    elsewhere = "`log/log.py`, `Log.weigh`; `log/log.py`, `weigh`; "
    bad = elsewhere + "`gone.py` `app/gone/` `Gone` `_gone` `log.gone` `python -m tests.gone`"
    assert code.missing(bad) == [
        "log/log.py: Log.weigh", "log/log.py: weigh", "Log.weigh", "gone.py", "app/gone/", "Gone", "_gone", "log.gone",
        "python -m tests.gone",
    ]  # fmt: skip
