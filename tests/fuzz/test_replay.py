"""Replays the seeds and the findings of the fuzzers. The fuzzing itself is `python -m tests.fuzz all`."""

import pytest

from tests.fuzz.inputs import FINDINGS, SEEDS, inputs
from tests.fuzz.targets import TARGETS, load

INPUTS = [
    pytest.param(name, data, id=f"{name}-{folder.name}-{number}")
    for name in TARGETS
    for folder in (SEEDS, FINDINGS)
    for number, data in enumerate(inputs(folder, name))
]


@pytest.mark.parametrize(("name", "data"), INPUTS)
def test_a_stored_input_breaks_no_promise(name: str, data: bytes) -> None:
    load(name)(data)


def test_every_target_has_seeds() -> None:
    assert [name for name in TARGETS if not inputs(SEEDS, name)] == []


def test_every_file_has_a_target() -> None:
    assert {path.stem for folder in (SEEDS, FINDINGS) for path in folder.iterdir()} <= TARGETS.keys()
