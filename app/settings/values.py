"""The values that a setting can have: how one is read from a text, its bounds, and their description."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Final, get_args

from ..errors import OptionInvalid
from ..messages.units import ByteSize, Seconds, parse_duration, parse_size
from .hosts import is_address, is_name, is_origin, is_server_url

_WHOLE: Final = re.compile(r"[0-9]{1,18}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class Values(ABC):
    """The valid values of a setting."""

    kind: str
    """One word for a value in a help text, such as `NUMBER`."""

    allowed: str
    """The valid values, for a table; empty if any text is valid."""

    expected: str
    """The valid values, as the end of a sentence."""

    @abstractmethod
    def read(self, text: str) -> Any:
        """Raises OptionInvalid."""

    @abstractmethod
    def has(self, value: Any) -> bool: ...

    def paths(self, value: Any) -> list[str]:  # noqa: ARG002
        """The paths in a value."""
        return []


class Range(Values):
    """The values from `lowest` to `highest`, which are texts that `read` accepts."""

    noun: ClassVar[str]
    example: ClassVar[str]

    def __init__(self, lowest: str, highest: str) -> None:
        self._lowest, self._highest = self.read(lowest), self.read(highest)
        self.allowed = f"{lowest} to {highest}"
        self.expected = f"{self.noun} from {lowest} to {highest}{self.example}"

    def has(self, value: Any) -> bool:
        return bool(self._lowest <= value <= self._highest)


class Numbers(Range):
    kind, noun, example = "NUMBER", "a whole number", ""

    def read(self, text: str) -> int:
        if _WHOLE.fullmatch(text):
            return int(text)
        raise OptionInvalid(f"{text[:60]!a} is not a whole number")


class Durations(Range):
    kind, noun, example = "DURATION", "a duration", ", such as 500ms, 30s, 10m or 2h"

    def read(self, text: str) -> Seconds:
        return Seconds(parse_duration(text))


class Sizes(Range):
    kind, noun, example = "SIZE", "a size", ", such as 65536, 64KiB or 8MiB"

    def read(self, text: str) -> ByteSize:
        return ByteSize(parse_size(text))


class OneOf(Values):
    """The words of a `Literal`."""

    def __init__(self, literal: Any) -> None:
        self._words: tuple[str, ...] = get_args(literal)
        self.kind = "|".join(self._words)
        self.allowed = ", ".join(f"`{word}`" for word in self._words)
        self.expected = " or ".join(self._words)

    def read(self, text: str) -> str:
        if not self.has(text):
            raise OptionInvalid(f"{text[:60]!a} is none of them")
        return text

    def has(self, value: Any) -> bool:
        return value in self._words


class Texts(Values):
    """Texts of one line for which `valid` is true; with `many`, of each part between commas."""

    kind, allowed = "TEXT", ""

    def __init__(
        self,
        valid: Callable[[str], object] = lambda _text: True,
        expected: str = "a text of one line, without blanks around it",
        many: bool = False,
    ) -> None:
        self._valid = valid
        self._many = many
        self.expected = expected

    def read(self, text: str) -> str:
        return text

    def has(self, value: Any) -> bool:
        """With `many`, an empty text is an empty list; a text of commas only is refused, as a value is missing."""
        if not value and self._many:
            return True
        parts = listed(value) if self._many else [value]
        return not _CONTROL.search(value) and value == value.strip() and bool(parts) and all(map(self._valid, parts))


class Paths(Texts):
    """A path, or with `many` several. `before`: what stands before a path; a text without it has none."""

    def __init__(self, before: str = "", **options: Any) -> None:
        super().__init__(**options)
        self._before = before

    def paths(self, value: Any) -> list[str]:
        parts = listed(value) if self._many else [value]
        return [path for part in parts if (path := part.partition(self._before)[2] if self._before else part)]


def listed(text: str) -> list[str]:
    """`a, b` → `["a", "b"]`"""
    return [part for part in map(str.strip, text.split(",")) if part]


ANY_TEXT: Final = Texts()
SEVERAL: Final = Texts(expected="one or several in one line, with commas between them", many=True)
PATH: Final = Paths()
KEYS: Final = Paths(":", expected=SEVERAL.expected, many=True)
ENGINE: Final = Paths("sqlite:")
DURABILITY: Final = Texts(
    re.compile(r"primary|disk|replicated:[1-9]").fullmatch, "primary, disk or replicated:N with N from 1 to 9"
)
ADDRESS: Final = Texts(
    is_address, "an address or a name of this machine, such as 127.0.0.1, ::1 or 0.0.0.0 (all), without a port"
)
HOSTS: Final = Texts(
    lambda text: text == "*" or is_name(text),
    "names such as mq.example.org, without https://, port or path, as a browser sends them (münchen.de is "
    "xn--mnchen-3ya.de), with commas between them; or * for all",
    many=True,
)
ORIGINS: Final = Texts(
    lambda text: text == "*" or is_origin(text),
    "origins as a browser sends them, such as https://example.org or http://localhost:3000, without a path, and "
    "without :80 for http and :443 for https, with commas between them; or * for all",
    many=True,
)
URL: Final = Texts(
    lambda text: not text or is_server_url(text),
    "the URL of a server without a user, such as https://mq.example.org or https://example.org/mq",
)
