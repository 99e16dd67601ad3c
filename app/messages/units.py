"""Durations and sizes as text: `90s`, `1.5h`, `8MiB`. Settings and the wire use the same notation."""

import re
from functools import lru_cache

from ..errors import OptionInvalid

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SIZE_UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}

_DURATION = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)(ms|s|m|h|d)")
_SIZE = re.compile(r"([0-9]{1,15})(B|KiB|MiB|GiB|)")


class Seconds(float):
    """A duration in seconds whose text has a unit."""

    def __str__(self) -> str:
        return format_duration(self)


class ByteSize(int):
    """A number of bytes whose text has a unit."""

    def __str__(self) -> str:
        return format_size(self)


def parse_duration(text: str) -> float:
    """`10m` → 600.0; `0` is allowed without a unit. Raises OptionInvalid."""
    if text == "0":
        return 0.0
    if match := _DURATION.fullmatch(text):
        return float(match[1]) * SECONDS[match[2]]
    raise OptionInvalid(
        f"{text[:60]!a} is not a duration: expected a number and a unit, such as 500ms, 30s, 10m, 2h or 1d"
    )


def parse_size(text: str) -> int:
    """`8MiB` → 8388608. Raises OptionInvalid."""
    if match := _SIZE.fullmatch(text):
        return int(match[1]) * SIZE_UNITS[match[2]]
    raise OptionInvalid(f"{text[:60]!a} is not a size: expected a number of bytes, such as 65536, 64KiB, 8MiB or 1GiB")


@lru_cache(maxsize=256)
def format_duration(seconds: float) -> str:
    """600.0 → `10m`: the largest unit that gives a whole number of at most 12 digits, or else the largest unit that is
    not longer than the duration."""
    fitting = [(unit, seconds / length) for unit, length in reversed(SECONDS.items()) if seconds >= length]
    for unit, number in fitting:
        if number.is_integer() and number < 1e12:
            return f"{number:.0f}{unit}"
    unit, number = fitting[0] if fitting else ("s", seconds)
    return f"{number:.6f}".rstrip("0").rstrip(".") + unit if seconds else "0"


def format_size(nbytes: int) -> str:
    """8388608 → `8MiB`: the largest unit that gives a whole number."""
    for unit, size in reversed(SIZE_UNITS.items()):
        if nbytes >= size and nbytes % size == 0:
            return f"{nbytes // size}{'' if unit == 'B' else unit}"
    return str(int(nbytes))
