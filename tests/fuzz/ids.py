"""Ids, lease ids, positions, durations, sizes and group names: parsed or refused. Formatting reverses parsing."""

from collections.abc import Callable
from math import isfinite
from typing import Any, Final

import msgspec

from app.errors import OptionInvalid, PlainmqError
from app.log.epochs import Epochs
from app.log.groups.records import parse_group
from app.log.state import LogStateMachine
from app.log.store import MemoryMessageStore
from app.log.topic_log import Limits
from app.messages.lease import parse_lease_id
from app.messages.message import parse_id, rfc3339
from app.messages.position import AfterIndex, parse_start
from app.messages.topic import TopicFilter
from app.messages.units import format_duration, format_size, parse_duration, parse_size
from app.tcp.dialects.commands import parse_delay, parse_lease
from tests.harness import draft, whole

EVERYTHING: Final = TopicFilter(["**"])
TOPIC: Final = TopicFilter(["a"])


def ids(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for parse, check in CHECKS.items():
        reason = ""
        try:
            value = parse(text)
        except PlainmqError as error:
            reason = str(error)
        else:
            assert text.isascii()
            check(text, value)
        reason.encode()
        assert len(reason) < 1_000


def _formats_back(text: str, value: object) -> None:
    assert str(value) == text


def _is_a_duration(_text: str, seconds: float) -> None:
    assert isfinite(seconds)
    assert seconds >= 0
    again = parse_duration(format_duration(seconds))
    assert abs(again - seconds) <= 1e-6 * max(seconds, 1)
    rfc3339(1.8e9 + seconds)


def _is_a_size(_text: str, nbytes: int) -> None:
    assert nbytes >= 0
    assert parse_size(format_size(nbytes)) == nbytes


def _is_a_position(_text: str, start: Any) -> None:
    """The log can start a subscriber there."""
    for topic_filter in (EVERYTHING, TOPIC):
        cursor = whole(LOG.reading.locate(topic_filter, start, 1.8e9))
        assert 0 <= cursor.seq <= LOG.log.head


def _parse_index(text: str) -> int:
    """Parse `last_seen` as the line port does."""
    try:
        return msgspec.json.decode(text, type=int)
    except ValueError as error:
        raise OptionInvalid("it is no integer") from error


def _is_an_index(_text: str, index: int) -> None:
    assert 0 <= whole(LOG.reading.locate(TOPIC, AfterIndex(index), 1.8e9)).seq <= LOG.log.head


def _log() -> LogStateMachine:
    """A log with 20 messages in two topics, one of which has a message with a ttl."""
    core = LogStateMachine(Limits(), Epochs("k3f9a2"), MemoryMessageStore())
    for number in range(20):
        core.append([draft("ab"[number % 2], b"x", ttl=1.0 if number == 3 else None)], 1.8e9 + number)
    return core


LOG: Final = _log()
CHECKS: Final[dict[Callable[[str], Any], Callable[[str, Any], None]]] = {
    parse_id: _formats_back,
    parse_lease_id: _formats_back,
    parse_group: _formats_back,
    parse_duration: _is_a_duration,
    parse_lease: _is_a_duration,
    parse_delay: _is_a_duration,
    parse_size: _is_a_size,
    parse_start: _is_a_position,
    _parse_index: _is_an_index,
}
