"""Topics: names, patterns over names, and filters, which are sets of both.

A name has 1 to 1,024 characters of printable ASCII without `*`, in segments separated by `.` or `/`. No segment is
empty. A pattern has at most 16 segments. In a pattern, `*` stands for exactly one segment (at most four times), and a
final `**` stands for one or more segments. The separators stand for themselves.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar

from ..errors import TopicInvalid

MAX_LENGTH: Final = 1024
DEAD_LETTER_SUFFIX: Final = ".dead"  # of the default dead-letter topic
MAX_FILTER_NAMES: Final = 64
REGEX_BATCH: Final = 8  # names in one regular expression: Python caches hundreds of them, so each must be small
MAX_SEGMENTS: Final = 16  # of a pattern: each takes memory per subscriber, and time per matching publish
MAX_WILDCARDS: Final = 4  # `*` in a pattern: each multiplies the different patterns that one topic can match

SUBSCRIBER_COST: Final = 1_536  # bytes of memory of a subscriber without its names; a test measures these four
NAME_COST: Final = 400  # bytes of memory of each name, beyond its length
SEGMENT_COST: Final = 300  # likewise of each segment of a pattern, in the index
LENGTH_COST: Final = 11  # likewise of each character of a pattern, in the index and in its regular expression

_SEGMENT = r"[!-)+,\-0-~]+"  # printable ASCII but `*`, `.` and `/`
_NAME = re.compile(rf"{_SEGMENT}(?:[./]{_SEGMENT})*")
_PATTERN = re.compile(rf"\*\*|(?:\*|{_SEGMENT})(?:[./](?:\*|{_SEGMENT}))*(?:[./]\*\*)?")
_TOKEN = re.compile(r"[./]?[^./]+")
_WILD = {"*": "[^./]+", "**": ".+"}


@lru_cache(maxsize=4096)
def parse_topic(name: str) -> str:
    """Return the name unchanged. Raises TopicInvalid."""
    return _checked(name, _NAME, "a topic")


@lru_cache(maxsize=4096)
def parse_pattern(pattern: str) -> str:
    """Return the pattern or plain name unchanged. Raises TopicInvalid."""
    if is_pattern(pattern) and pattern.count(".") + pattern.count("/") >= MAX_SEGMENTS:
        raise TopicInvalid(f"a pattern has at most {MAX_SEGMENTS} segments")
    if pattern.removesuffix("**").count("*") > MAX_WILDCARDS:
        raise TopicInvalid(f"a pattern has at most {MAX_WILDCARDS} times '*', besides a last '**'")
    return _checked(pattern, _PATTERN, "a topic or pattern")


def _checked(text: str, grammar: re.Pattern[str], what: str) -> str:
    if len(text) > MAX_LENGTH:
        raise TopicInvalid(f"{what} has at most {MAX_LENGTH} characters; this one has {len(text)}")
    if not grammar.fullmatch(text):
        wildcards = (
            "; '*' stands for a whole segment, '**' for the last ones" if grammar is _PATTERN else ", without '*'"
        )
        raise TopicInvalid(
            f"{_shortened(text)} is not {what}: expected printable ASCII without spaces, in segments separated "
            f"by '.' or '/', none of them empty{wildcards}"
        )
    return text


def _shortened(text: str) -> str:
    return ascii(text) if len(text) <= 60 else ascii(text[:60]) + "..."


def dead_letter_of(topic: str) -> str:
    """The default dead-letter topic of a topic. A name that would be too long is truncated; a hash keeps it distinct
    from others with the same beginning."""
    if len(topic) + len(DEAD_LETTER_SUFFIX) <= MAX_LENGTH:
        return topic + DEAD_LETTER_SUFFIX
    end = "~" + hashlib.sha256(topic.encode()).hexdigest()[:16] + DEAD_LETTER_SUFFIX
    return topic[: MAX_LENGTH - len(end)] + end


def is_pattern(text: str) -> bool:
    return "*" in text


def tokens(name: str) -> list[str]:
    """Segments, each with the separator before it: `a.b/c` → `a`, `.b`, `/c`."""
    return _TOKEN.findall(name)


def covers(wide: str, narrow: str) -> bool:
    """Whether the pattern `wide` matches every topic that `narrow` (a topic or a pattern) matches."""
    rest = tokens(narrow)
    for token in tokens(wide):
        if not rest:
            return False
        separator, segment = _split(token)
        first, name = _split(rest.pop(0))
        if separator != first:
            return False
        if segment == "**":
            return True
        if segment != name and (segment != "*" or name == "**"):
            return False
    return not rest


def _split(token: str) -> tuple[str, str]:
    """`.b` → `.` and `b`"""
    return (token[0], token[1:]) if token[0] in "./" else ("", token)


class TopicFilter:
    """A set of topics and patterns. Equal sets are equal filters, so their subscribers can share one cohort."""

    __slots__ = ("_hash", "_memory", "_regexes", "everything", "patterns", "topics")

    def __init__(self, names: Iterable[str]) -> None:
        """Raises TopicInvalid for an invalid name, for no names, and for more than 64."""
        given = tuple(names)
        if not 1 <= len(given) <= MAX_FILTER_NAMES:
            raise TopicInvalid(f"expected 1 to {MAX_FILTER_NAMES} topics or patterns, got {len(given)}")
        every = tuple(sorted({parse_pattern(name) for name in given}))
        self.topics = tuple(name for name in every if not is_pattern(name))
        self.patterns = tuple(name for name in every if is_pattern(name))
        self.everything = "**" in self.patterns
        self._hash = hash(every)
        self._memory = 0  # until it is asked for
        self._regexes: list[re.Pattern[str]] = []  # compiled on first use: many patterns take milliseconds

    @property
    def names(self) -> tuple[str, ...]:
        return *self.topics, *self.patterns

    @property
    def effort(self) -> int:
        """The approximate cost of matches(), relative to a filter with one pattern."""
        return 1 if self.everything else 1 + len(self.patterns) // REGEX_BATCH

    @property
    def memory(self) -> int:
        """The most bytes of memory that a subscriber with this filter takes."""
        self._memory = self._memory or self._count_memory()
        return self._memory

    def _count_memory(self) -> int:
        nbytes = SUBSCRIBER_COST + NAME_COST * (len(self.topics) + len(self.patterns)) + sum(map(len, self.topics))
        for pattern in self.patterns:
            segments = 1 + pattern.count(".") + pattern.count("/")
            nbytes += SEGMENT_COST * segments + LENGTH_COST * len(pattern)
        return nbytes

    def matches(self, topic: str) -> bool:
        if not self.patterns or self.everything:
            return self.everything or topic in self.topics
        if not self._regexes:
            each = [*map(_regex_of, (*self.topics, *self.patterns))]
            parts = (each[start : start + REGEX_BATCH] for start in range(0, len(each), REGEX_BATCH))
            self._regexes = [re.compile("|".join(part)) for part in parts]
        return any(regex.fullmatch(topic) for regex in self._regexes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TopicFilter) and (self.topics, self.patterns) == (other.topics, other.patterns)

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"TopicFilter({[*self.topics, *self.patterns]})"


def _regex_of(pattern: str) -> str:
    return "".join(_token_regex(token) for token in tokens(pattern))


def _token_regex(token: str) -> str:
    separator, segment = _split(token)
    return re.escape(separator) + _WILD.get(segment, re.escape(segment))


T = TypeVar("T")


class TopicTrie(Generic[T]):
    """Values by pattern. The time of a look-up depends on the topic's segments, not on the number of patterns."""

    def __init__(self) -> None:
        self._root: dict[Any, Any] = {}  # token → node of the next level; "" → the values of the pattern that ends here

    def add(self, pattern: str, value: T) -> None:
        node = self._root
        for token in tokens(pattern):
            node = node.setdefault(token, {})
        node.setdefault("", {})[value] = None

    def discard(self, pattern: str, value: T) -> None:
        path: list[dict[Any, Any]] = [self._root]
        steps = [*tokens(pattern), ""]
        for token in steps:
            path.append(path[-1][token])
        del path[-1][value]
        for node, token in zip(reversed(path[:-1]), reversed(steps), strict=True):
            if node[token]:
                break
            del node[token]

    def matching(self, topic: str) -> Iterator[T]:
        """The values of every pattern that matches; a value of several such patterns comes once for each."""
        return self._walk(self._root, tokens(topic), 0)

    def _walk(self, node: dict[str, Any], path: list[str], depth: int) -> Iterator[T]:
        if depth == len(path):
            yield from node.get("", ())
            return
        token = path[depth]
        separator = token[0] if token[0] in "./" else ""
        yield from node.get(separator + "**", _NOTHING).get("", ())
        for step in (token, separator + "*"):
            if step in node:
                yield from self._walk(node[step], path, depth + 1)


_NOTHING: dict[str, Any] = {}
