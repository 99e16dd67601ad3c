"""The wire format of paths and options."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, TypedDict
from urllib.parse import quote

Duration = str | float | timedelta  # such as `30s`; a number is seconds
Time = str | datetime  # such as `2026-12-24T18:00:00Z`; a datetime needs its zone
Since = str | datetime | timedelta  # such as `earliest`, `last:10`, `10m` or an id


class TokenRights(TypedDict, total=False):
    """For each right, the topics and patterns that it applies to."""

    publish: Sequence[str]
    subscribe: Sequence[str]
    consume: Sequence[str]
    admin: Sequence[str]
    view: Sequence[str]


def duration(value: Duration) -> str:
    """1.5 → `1.5s`."""
    if isinstance(value, str):
        return value
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


def position(value: Since) -> str:
    """The server refuses a datetime without a zone."""
    return value.isoformat() if isinstance(value, datetime) else duration(value)


def given(**options: Any) -> dict[str, Any]:
    """The options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def durations(**options: Duration | None) -> dict[str, str]:
    """The durations that are not None, in wire format."""
    return {name: duration(value) for name, value in options.items() if value is not None}


def scheduled_path(id: str, *rest: str) -> str:
    """`scheduled/ID/...`"""
    return "/".join(["scheduled", *(quote(word, safe="") for word in (id, *rest))])


def topic_path(topic: str, *rest: str) -> str:
    """`topics/TOPIC/...`. A segment of one or two dots is escaped: it would be resolved, and lead to another topic. So
    are the slashes of a topic itself, whose name may look like another path: `foo/pause`."""
    name = quote(topic, safe="/" if rest else "", errors="surrogateescape")
    path = [f"topics/{name}", *(quote(word, safe="") for word in rest)]
    return "/".join(path).replace("/.", "/%2E")


def token_path(name: str) -> str:
    """`tokens/NAME`"""
    return f"tokens/{quote(name, safe='')}".replace("/.", "/%2E")
