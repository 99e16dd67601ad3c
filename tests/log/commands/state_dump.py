"""Everything that a state machine remembers, as text: two that decide alike have the same text."""

import enum
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from app.log.deadlines import Deadlines
from app.log.delayed import Delayed
from app.log.groups.dead_index import DeadIndex
from app.log.groups.jobs import Jobs
from app.log.groups.ordered_keys import OrderedKeys
from app.log.groups.precedence import Precedence
from app.log.groups.settled_ahead import SettledAhead
from app.log.groups.unacked import UnackedIndex
from app.log.meter import Meter
from app.log.ordered_messages import OrderedMessages, SeqList, TopicOrder
from app.log.run import Run
from app.log.run_list import RunList
from app.log.store import MemoryLogMessages

PLAIN: Final = (int, float, str, bytes, bool, type(None), enum.Enum)

DECIDES_NOTHING: Final[dict[tuple[str, str], str]] = {
    ("TopicLog", "envelope"): "equal envelopes are stored once: it saves memory",
    ("Jobs", "dirty"): "the records that an engine with a file has to store",
    ("Jobs", "_newest"): "whether the first job is the oldest one: if not, the oldest one is searched",
    ("RunList", "_version"): "for iterations, which no command outlives",
    ("SingleDelivery", "node"): "whose entry is carried out: set before each",
    ("MessageClock", "moment"): "of an engine with a clock of its own, which sets it again",
}
"""Fields that are not in a snapshot, each with the reason."""

LISTS: Final[dict[type, Any]] = {
    Deadlines: lambda thing: sorted(thing._times.items()),  # a heap of pairs, which all differ; some of them are stale
    RunList: lambda thing: [*thing.after(0)],  # with holes
    MemoryLogMessages: lambda thing: [*thing.after(0)],  # in segments
    SeqList: lambda thing: [seq for block in thing._blocks for seq in block],  # blocks are as long as they happen to be
    Counter: lambda thing: sorted(thing.items()),  # nobody goes through it
    SettledAhead: lambda thing: [*thing],  # its heap may have some that were discarded
}
"""What a collection has in it, however it is arranged."""


def _by_key(items: dict[Any, Any]) -> dict[Any, Any]:
    return dict(sorted(items.items()))


def _heaps(heaps: dict[Any, list[int]]) -> dict[Any, list[int]]:
    return {key: sorted(heap) for key, heap in sorted(heaps.items())}


Seen = dict[int, tuple[int, Any]]
"""The objects so far, by id: their numbers."""

ARRANGED: Final[dict[tuple[type, str], Any]] = {
    (Jobs, "_requeued"): sorted,  # a heap: what it gives next does not depend on its arrangement
    (UnackedIndex, "_released"): sorted,  # likewise
    (OrderedKeys, "_queues"): _heaps,  # nobody goes through all of these
    (Precedence, "ready"): _heaps,  # likewise, but to sort them
    (Precedence, "searched"): _by_key,
    (DeadIndex, "_of"): _by_key,
    (Delayed, "_numbers"): _by_key,  # likewise
    (OrderedMessages, "_topics"): _by_key,
    (TopicOrder, "levels"): _by_key,  # a seq is in one of them
}
"""Fields whose arrangement decides nothing, and how they are arranged here."""


def dump(thing: Any) -> str:
    """Sorted where the order decides nothing. Without meters, which answers alone use."""
    return _dump(thing, {})


def fields(thing: Any) -> Iterator[tuple[str, str, Any]]:
    """Every field that decides something, of every object that can be reached: the name of its class, its own, and its
    value. Records that never change are values, but for runs."""
    return _fields(thing, set())


def _fields(thing: Any, seen: set[int]) -> Iterator[tuple[str, str, Any]]:
    if isinstance(thing, PLAIN) or _is_left_out(thing) or id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, dict):
        thing = [*thing.values()]
    if type(thing) in LISTS:
        thing = LISTS[type(thing)](thing)
    if isinstance(thing, set | frozenset | list | tuple):
        for item in thing:
            yield from _fields(item, seen)
    elif not _is_frozen(thing) or isinstance(thing, Run):
        for name in _names(thing):
            yield type(thing).__name__, name, getattr(thing, name)
            yield from _fields(getattr(thing, name), seen)


def _is_frozen(thing: Any) -> bool:
    return isinstance(thing, msgspec.Struct) and thing.__struct_config__.frozen


def _is_left_out(thing: Any) -> bool:
    return callable(thing) or isinstance(thing, Meter)


def _dump(thing: Any, seen: Seen) -> str:
    if isinstance(thing, PLAIN):
        return repr(thing)
    if _is_left_out(thing):
        return "-"
    if _is_frozen(thing):
        return repr(thing)  # it makes no difference whether two of them are the same object
    name = type(thing).__name__
    if isinstance(thing, list | tuple):
        name = "list"
    elif isinstance(thing, SettledAhead):  # groups that have none share one
        pass
    elif id(thing) in seen:
        return f"#{seen[id(thing)][0]}"
    else:
        seen[id(thing)] = len(seen), thing  # which keeps its id from being given to another
    return f"{name}({', '.join(_parts(thing, seen))})"


def _parts(thing: Any, seen: Seen) -> list[str]:
    if type(thing) in LISTS:
        return [_dump(item, seen) for item in LISTS[type(thing)](thing)]
    if isinstance(thing, set | frozenset):
        return sorted(map(repr, thing))
    if isinstance(thing, dict):
        return [f"{key!r}: {_dump(value, seen)}" for key, value in thing.items()]
    if isinstance(thing, list | tuple):
        return [_dump(item, seen) for item in thing]
    return [f"{name}={_dump(_value(thing, name), seen)}" for name in _names(thing)]


def _value(thing: Any, name: str) -> Any:
    return ARRANGED.get((type(thing), name), lambda value: value)(getattr(thing, name))


def _names(thing: Any) -> list[str]:
    """The fields that decide something."""
    kind = type(thing)
    if isinstance(thing, msgspec.Struct):
        names = [*thing.__struct_fields__]
    else:
        slots = [name for one in kind.__mro__ for name in getattr(one, "__slots__", ())]
        names = [name for name in [*getattr(thing, "__dict__", {}), *slots] if hasattr(thing, name)]
    return [name for name in names if (kind.__name__, name) not in DECIDES_NOTHING]
