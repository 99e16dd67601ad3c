"""A JSON line with a key twice is refused. The short ways to see that it has none agree with the long one."""

import json
from itertools import combinations, product
from typing import Any

import pytest

from app.errors import Refused
from app.messages.topic import TopicFilter
from app.tcp.dialects.detect import JSON

_OPTIONS = ('"cache":true', '"priority":1', '"key":"a:b"', '"msg":"x:y:z"', '"topic":"a"', '"c\\u0061che":true')
_REQUIRED = ('"topic":"foo"', '"msg":"a: \\"topic\\": 1"', '"delivery":"all"')


def _refused(line: str) -> bool:
    try:
        JSON.parse(line.encode())
    except Refused:
        return True
    return False


def _has_twice(line: str) -> bool:
    found: list[bool] = []

    def check(pairs: list[tuple[str, Any]]) -> None:
        found.append(len(dict(pairs)) < len(pairs))

    json.loads(line, object_pairs_hook=check)
    return any(found)


@pytest.mark.parametrize(("count", "last"), [*product(range(4), (False, True))])
def test_a_send_is_refused_if_and_only_if_a_key_is_there_twice(count: int, last: bool) -> None:
    for options in combinations(_OPTIONS, count):
        parts = ('"command":"send"', *_REQUIRED, *options) if last else ('"command":"send"', *options, *_REQUIRED)
        line = "{" + ",".join(parts) + "}"
        assert _refused(line) == _has_twice(line), line


@pytest.mark.parametrize("twice", ['"cache":true', '"topic":"foo"', '"command":"subscribe"'])
def test_a_subscribe_with_options_is_accepted_once_each(twice: str) -> None:
    line = '{"command":"subscribe","topic":"foo","cache":true%s}'
    assert not _refused(line % "")
    assert _refused(line % f",{twice}")


def test_the_memory_of_a_topic_filter_is_the_same_whenever_it_is_asked_for() -> None:
    for names in (["a"], ["a.*.b", "c"], [f"t{number}" for number in range(64)]):
        topic_filter = TopicFilter(names)
        assert topic_filter.memory == topic_filter.memory == TopicFilter(reversed(names)).memory
