"""Short texts of printable ASCII, such as names and keys."""

import re

from ..errors import OptionInvalid

_PRINTABLE = re.compile(r"[ -~]+")


def printable(name: str, value: str, limit: int) -> str:
    """Return the value unchanged. `name`: of the option that has it. Raises OptionInvalid."""
    if len(value) > limit or not _PRINTABLE.fullmatch(value):
        raise OptionInvalid(f"{name} {value[:60]!a} is not 1 to {limit} characters of printable ASCII")
    return value
