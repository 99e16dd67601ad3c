"""Each row of the announced memory, filled to its limit: the process uses no more (benchmarks/memory.py)."""

from pathlib import Path

import pytest

from app.limits.budget import items
from app.settings import Settings
from benchmarks.memory import ROWS, Row, measure


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.name}-{row.content}" for row in ROWS])
def test_a_full_row_uses_no_more_memory_than_is_announced(row: Row, tmp_path: Path) -> None:
    figures = measure(row, 1, str(tmp_path))
    assert figures.within_budget, figures


def test_every_row_is_filled() -> None:
    assert {row.name for row in ROWS} == {item.what for item in items(Settings())}
