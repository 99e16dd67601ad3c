"""The targets: functions that take bytes, and raise if the code breaks a promise. None of them needs the fuzzer."""

from collections.abc import Callable
from importlib import import_module
from typing import Final

TARGETS: Final = {
    "lines": "tests.fuzz.lines:any_dialect",
    "literal": "tests.fuzz.lines:literal",
    "json": "tests.fuzz.lines:json_line",
    "text": "tests.fuzz.lines:text",
    "session": "tests.fuzz.wire:session",
    "topics": "tests.fuzz.names:topics",
    "ids": "tests.fuzz.ids:ids",
    "events": "tests.fuzz.frames:events",
    "tokens": "tests.fuzz.tokens:tokens",
    "requests": "tests.fuzz.wire:requests",
}
MAX_LENGTH: Final = 4_096  # bytes of an input


def load(name: str) -> Callable[[bytes], None]:
    """Import the target and the code under test: the fuzzer instruments what is imported from now on."""
    module, _, function = TARGETS[name].partition(":")
    target: Callable[[bytes], None] = getattr(import_module(module), function)
    return target
