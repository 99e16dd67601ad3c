"""Topic names, patterns and filters, compared with a second implementation that is as simple as possible."""

from app.errors import TopicInvalid
from app.messages.topic import (
    MAX_LENGTH,
    MAX_SEGMENTS,
    MAX_WILDCARDS,
    TopicFilter,
    TopicTrie,
    parse_pattern,
    parse_topic,
)


def topics(data: bytes) -> None:
    """The input is a name and patterns, divided by line feeds; latin-1, so that every byte is a character."""
    name, *patterns = data.decode("latin-1").split("\n")
    assert _accepts(parse_topic, name) == _is_name(name)
    valid = []
    for pattern in patterns[:64]:
        assert _accepts(parse_pattern, pattern) == _is_pattern(pattern)
        if _is_pattern(pattern):
            valid.append(pattern)
    if valid and _is_name(name):
        _compare(name, valid)


def _compare(name: str, patterns: list[str]) -> None:
    index: TopicTrie[str] = TopicTrie()
    for pattern in patterns:
        index.add(pattern, pattern)
        assert TopicFilter([pattern]).matches(name) == _matches(pattern, name)
    assert set(index.matching(name)) == {pattern for pattern in patterns if _matches(pattern, name)}
    assert TopicFilter(patterns).matches(name) == any(_matches(pattern, name) for pattern in patterns)
    for pattern in set(patterns):
        index.discard(pattern, pattern)
    assert vars(index) == vars(TopicTrie())  # empty again


def _accepts(parse: object, text: str) -> bool:
    assert callable(parse)
    try:
        assert parse(text) == text
    except TopicInvalid as error:
        str(error).encode("ascii")
        return False
    return True


def _split(text: str) -> list[tuple[str, str]]:
    """(separator, segment) pairs; the first separator is empty."""
    parts, separator, segment = [], "", ""
    for character in text:
        if character in "./":
            parts.append((separator, segment))
            separator, segment = character, ""
        else:
            segment += character
    return [*parts, (separator, segment)]


def _is_name(text: str) -> bool:
    printable = all(0x21 <= ord(character) <= 0x7E and character != "*" for character in text)
    return len(text) <= MAX_LENGTH and printable and all(segment for _, segment in _split(text))


def _is_pattern(text: str) -> bool:
    if "*" not in text:
        return _is_name(text)
    segments = [segment for _, segment in _split(text)]
    wild = all(segment in {"*", "**"} or _is_name(segment) for segment in segments)
    return (
        len(text) <= MAX_LENGTH
        and wild
        and "**" not in segments[:-1]
        and len(segments) <= MAX_SEGMENTS
        and segments.count("*") <= MAX_WILDCARDS
    )


def _matches(pattern: str, name: str) -> bool:
    wanted, given = _split(pattern), _split(name)
    if wanted[-1][1] == "**":
        if len(given) < len(wanted):
            return False
        last = len(wanted) - 1
        given = [*given[:last], (given[last][0], "**")]
    return len(wanted) == len(given) and all(
        separator == given_separator and segment in {"*", "**", given_segment}
        for (separator, segment), (given_separator, given_segment) in zip(wanted, given, strict=True)
    )
