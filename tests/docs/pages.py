"""What a reader is shown: the README, and the pages that docs/README.md names, in its order."""

import re
from pathlib import Path
from typing import Final

from tests.harness import ROOT

README: Final = ROOT / "README.md"
DOCS: Final = ROOT / "docs"


def pages() -> list[Path]:
    names = re.findall(r"^\d+\. \[[^\]]+\]\(([\w-]+\.md)\)", (DOCS / "README.md").read_text(), re.MULTILINE)
    return [README, *(DOCS / name for name in names)]


def all_pages() -> str:
    return "\n".join(page.read_text() for page in pages())
