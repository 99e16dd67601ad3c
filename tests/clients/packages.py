"""Programs that use a client library of PyPI or npm, each in a process of its own. The library is installed once, and
kept in pytest's cache, if there is one.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.harness import DEADLINE


class Program(NamedTuple):
    """`package`: as pip or npm knows it, with those beside it; `text`: the program, which is given a URL and prints a
    line of JSON for each event."""

    package: str
    text: str

    @property
    def command(self) -> list[str]:
        return ["node", "--no-warnings"] if "@" in self.package[1:] else [sys.executable]


def folder_of(request: pytest.FixtureRequest, factory: pytest.TempPathFactory, package: str) -> Path:
    name = package.replace("/", "-").replace("@", "-").replace(" ", "-").strip("-")
    cache = getattr(request.config, "cache", None)
    folder: Path = cache.mkdir(name) if cache else factory.mktemp(name)
    return folder


def install(program: Program, folder: Path) -> Path:
    """The path of the program, with its library beside it."""
    done = folder / "installed"
    if not done.exists():
        npm = ["npm", "install", "--no-audit", "--no-fund", *program.package.split()]
        pip = [sys.executable, "-m", "pip", "install", "-q", "--target", str(folder), program.package]
        subprocess.run(npm if "node" in program.command else pip, cwd=folder, check=True, timeout=240)
        done.touch()
    path = folder / ("program.mjs" if "node" in program.command else "program.py")
    path.write_text(program.text)
    return path


def missing(program: Program) -> str:
    """What is not installed that it needs; empty when it can run."""
    needed = ("node", "npm") if "node" in program.command else ()
    return ", ".join(tool for tool in needed if not shutil.which(tool))


class Said:
    """What the program says, a line each."""

    def __init__(self, lines: asyncio.StreamReader) -> None:
        self._lines = lines

    async def next(self) -> list[Any]:
        async with asyncio.timeout(DEADLINE):
            line = await self._lines.readline()
        assert line, "the program has ended"
        said: list[Any] = json.loads(line)
        return said


@asynccontextmanager
async def running(program: Program, path: Path, url: str) -> AsyncIterator[Said]:
    environment = os.environ | {"PYTHONPATH": str(path.parent), "PYTHONUNBUFFERED": "1"}
    process = await asyncio.create_subprocess_exec(
        *program.command, str(path), url, stdout=asyncio.subprocess.PIPE, env=environment
    )
    assert process.stdout
    try:
        yield Said(process.stdout)
    finally:
        process.kill()
        await process.communicate()
