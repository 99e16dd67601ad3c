"""Generates the synchronous client (app/client/sync) from the asynchronous one (app/client/aio), which differ in a few
words: `python -m tests.client.generate_sync`."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.harness import ROOT

CLIENT: Final = ROOT / "app" / "client"
WORDS: Final = {
    r"\basync (?=def|with|for)": "",
    r"\bawait ": "",
    r"\bStopAsyncIteration\b": "StopIteration",
    r"\bAsync(?=[A-Z])": "",
    r"\b__a(?=enter__|exit__|iter__|next__)": "__",
    r"\baclose\b": "close",
    r"\basyncio\b": "threads",
}
HEADER: Final = "# Made from app/client/aio/{} by `python -m tests.client.generate_sync`: change that.\n\n"
PACKAGE: Final = '"""The client for threads: the one for asyncio in other words, and in an event loop of its own."""\n'


def made() -> dict[Path, str]:
    """The files of the second, with what stands in them."""
    files = {CLIENT / "sync" / source.name: translated(source) for source in sorted((CLIENT / "aio").glob("*.py"))}
    return files | {CLIENT / "sync" / "__init__.py": PACKAGE}


def translated(source: Path) -> str:
    text = source.read_text()
    for pattern, word in WORDS.items():
        text = re.sub(pattern, word, text)
    return formatted(HEADER.format(source.name) + text)


def formatted(text: str) -> str:
    """Shorter words need fewer lines, and are sorted otherwise."""
    for command in (["check", "--select", "I", "--fix", "--quiet"], ["format", "--quiet"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--stdin-filename", "app/client/sync/x.py", "-"]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return text


if __name__ == "__main__":
    for path, content in made().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
