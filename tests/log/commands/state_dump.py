"""Everything that a state machine remembers, as text: two that decide alike have the same text."""

import enum
from typing import Any, Final

import msgspec

from app.log.deadlines import Deadlines
from app.log.meter import Meter

PLAIN: Final = (int, float, str, bytes, bool, type(None), enum.Enum)


def dump(thing: Any) -> str:
    """Sorted where the order decides nothing: sets and deadlines. Without meters, which answers alone use."""
    return _dump(thing, {})


def _dump(thing: Any, seen: dict[int, int]) -> str:
    if isinstance(thing, PLAIN):
        return repr(thing)
    if callable(thing) or isinstance(thing, Meter):
        return "-"
    if id(thing) in seen:
        return f"#{seen[id(thing)]}"
    seen[id(thing)] = len(seen)
    return f"{type(thing).__name__}({', '.join(_parts(thing, seen))})"


def _parts(thing: Any, seen: dict[int, int]) -> list[str]:
    if isinstance(thing, Deadlines):
        return sorted(f"{key!r}: {time}" for key, time in thing._times.items())
    if isinstance(thing, set | frozenset):
        return sorted(map(repr, thing))
    if isinstance(thing, dict):
        return [f"{key!r}: {_dump(value, seen)}" for key, value in thing.items()]
    if isinstance(thing, list | tuple):
        return [_dump(item, seen) for item in thing]
    return [f"{name}={_dump(getattr(thing, name), seen)}" for name in _names(thing)]


def _names(thing: Any) -> list[str]:
    if isinstance(thing, msgspec.Struct):
        return [*thing.__struct_fields__]
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    return [name for name in [*getattr(thing, "__dict__", {}), *slots] if hasattr(thing, name)]
