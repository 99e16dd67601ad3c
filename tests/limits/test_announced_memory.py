"""Each row of the memory that is announced, filled to its limit: the process takes no more (benchmarks/memory.py)."""

from pathlib import Path

import pytest

from app.limits.budget import items
from app.settings import Settings
from benchmarks.memory import ROWS, Row, measure


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.what}-{row.by}" for row in ROWS])
def test_a_row_that_is_full_takes_no_more_than_is_announced(row: Row, tmp_path: Path) -> None:
    figures = measure(row, 1, str(tmp_path))
    assert figures.within, figures


def test_every_row_is_filled() -> None:
    assert {row.what for row in ROWS} == {item.what for item in items(Settings())}
