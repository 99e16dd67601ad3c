"""How paths and options are written."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

Duration = str | float | timedelta  # such as `30s`; a number is seconds
Since = str | datetime | timedelta  # such as `earliest`, `last:10`, `10m` or an id


def duration(value: Duration) -> str:
    """1.5 → `1.5s`."""
    if isinstance(value, str):
        return value
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


def place(value: Since) -> str:
    """A datetime needs its zone: without one the server refuses it."""
    return value.isoformat() if isinstance(value, datetime) else duration(value)


def given(**options: Any) -> dict[str, Any]:
    """Those that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def durations(**options: Duration | None) -> Mapping[str, str]:
    """Those that are not None, as they are written."""
    return {name: duration(value) for name, value in options.items() if value is not None}


def topic_path(topic: str, *rest: str) -> str:
    """`topics/TOPIC/...`. A segment that is a dot or two would be resolved away on the way, and name another topic."""
    path = [f"topics/{quote(topic, errors='surrogateescape')}", *(quote(word, safe="") for word in rest)]
    return "/".join(path).replace("/.", "/%2E")
