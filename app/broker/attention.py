"""What needs attention at a server, in sentences for people."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from ..log.groups.troubles import Trouble, TroubleKind
from ..log.totals import Totals

FULL: Final = 0.8  # part of the memory
LATE: Final = 0.1  # seconds of loop delay: from here on, people notice


class Attention(msgspec.Struct, frozen=True, omit_defaults=True):
    """One matter. `kind` is for programs, `text` for people. `topic` and `group`: of a matter of one group; `count`:
    of its messages, or of disconnected subscribers."""

    kind: str
    text: str
    topic: str | None = None
    group: str | None = None
    count: int | None = None


class Health(NamedTuple):
    """What is known of the server besides its log. `evicted`, `failures`: in the last minutes. `loop_delay` is in
    seconds."""

    unready: str
    journal_lost: bool
    draining: bool
    evicted: int
    failures: int
    loop_delay: float


class Matters(msgspec.Struct, frozen=True):
    """What needs attention, the most urgent first, and the number of all matters: more than are listed, if very many
    groups need attention."""

    attention: list[Attention]
    attention_total: int


def matters(health: Health, totals: Totals | None) -> Matters:
    """`totals`: None if the engine cannot be asked."""
    found = [*_of_server(health, totals)]
    if totals is None:
        return Matters(found, len(found))
    groups = [_of_group(trouble) for trouble in totals.troubles.most_urgent]
    return Matters(found + groups, len(found) + totals.troubles.total)


def _of_server(health: Health, totals: Totals | None) -> Iterator[Attention]:
    if health.unready:
        yield Attention("unready", f"no messages are accepted: {health.unready}")
    if health.journal_lost:
        yield Attention("journal_lost", "the journal cannot be reached, so publishes are refused")
    if health.draining:
        yield Attention("draining", "the server is stopping")
    if totals is None:
        yield Attention("no_answer", "the storage engine does not answer")
    if health.failures:
        yield Attention("engine_failures", "storing has failed in the last minutes")
    if totals is not None and totals.cost > FULL * totals.cost_limit:
        yield Attention("memory", f"the memory is {totals.cost / max(totals.cost_limit, 1):.0%} full")
    if health.loop_delay > LATE:
        yield Attention("loop_delay", f"the event loop is {health.loop_delay:.1f} s late")
    if count := health.evicted:
        yield Attention("evicted", f"{counted(count, 'subscriber')} did not read, and lost the connection", count=count)


_WORDS: Final = {  # the noun that is counted, and what is wrong
    TroubleKind.DEAD_WAITING: ("dead message", " without space in {}"),
    TroubleKind.DEAD: ("dead message", ""),
    TroubleKind.PAUSED: ("message", " ready and paused"),
    TroubleKind.NO_WORKERS: ("message", " ready and no consumer"),
}


def _of_group(trouble: Trouble) -> Attention:
    noun, wrong = _WORDS[trouble.kind]
    what = counted(trouble.count, noun) + wrong.format(trouble.place)
    text = f"{what} in {trouble.group} of {trouble.topic}"
    return Attention(trouble.kind, text, trouble.topic, trouble.group, trouble.count)


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
