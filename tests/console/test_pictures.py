"""The pictures in the pages can be taken again, and each is in a page."""

import os
from pathlib import Path
from typing import Any

import pytest

pictures = pytest.importorskip("tests.console.pictures", reason="playwright is not installed (PyPI package playwright)")

from tests.harness import ROOT  # noqa: E402


async def test_all_pictures_can_be_taken_again(browser: Any, tmp_path: Path) -> None:
    await pictures.take(browser, tmp_path)
    assert {name.removesuffix(".png") for name in os.listdir(tmp_path)} == set(pictures.PICTURES)  # noqa: PTH208


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_each_picture_is_in_a_page(name: str) -> None:
    assert (ROOT / "docs" / f"{name}.png").exists()
    pages = [path.read_text() for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))]
    assert any(f"{name}.png" in page for page in pages)
