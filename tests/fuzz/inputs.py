"""The inputs of the repository: a file for each target, with a literal of Python bytes in each line."""

from ast import literal_eval
from collections.abc import Iterable
from pathlib import Path
from typing import Final

SEEDS: Final = Path(__file__).parent / "seeds"
FINDINGS: Final = Path(__file__).parent / "findings"


def inputs(folder: Path, name: str) -> list[bytes]:
    path = folder / f"{name}.txt"
    return [literal_eval(line) for line in path.read_text().splitlines()] if path.exists() else []


def add(folder: Path, name: str, new: Iterable[bytes]) -> None:
    all_inputs = dict.fromkeys([*inputs(folder, name), *new])
    if all_inputs:
        (folder / f"{name}.txt").write_text("".join(f"{data!r}\n" for data in all_inputs))
