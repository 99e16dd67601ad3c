"""What needs attention at a server, the most urgent first, each with a command that shows more."""

import shlex
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from .answers.groups import GroupState
from .answers.server import Sample, Stats

FULL: Final = 0.8  # part of the memory
LATE: Final = 0.1  # seconds of loop delay: from here on, people notice


class Attention(msgspec.Struct, frozen=True, omit_defaults=True):
    """`code` is stable, for programs. `command`: what to type to see more; `then`: what to type to mend it."""

    code: str
    sentence: str
    command: str
    topic: str | None = None
    group: str | None = None
    then: str | None = None

    @property
    def text(self) -> str:
        return f"{self.sentence}: {self.command}" + (f", then {self.then}" if self.then else "")


def attention(stats: Stats, groups: Iterable[GroupState]) -> list[Attention]:
    return [*_of_server(stats), *(found for group in groups for found in _of_group(group))]


def _of_server(stats: Stats) -> Iterator[Attention]:
    if stats.server.unready:
        yield Attention("unready", f"no messages are accepted: {stats.server.unready}", "plainmq check")
    if stats.server.draining:
        yield Attention("draining", "the server is stopping", "plainmq check")
    if stats.now is None:
        yield Attention("no_answer", "the storage engine does not answer", "plainmq check")
    else:
        yield from _of_sample(stats.now, next(iter(stats.history), stats.now))


def _of_sample(now: Sample, before: Sample) -> Iterator[Attention]:
    if now.engine_failures > before.engine_failures:
        yield Attention("engine_failures", "storing has failed in the last minutes", "plainmq check")
    if now.memory > FULL * now.memory_limit:
        full = now.memory / max(now.memory_limit, 1)
        yield Attention("memory", f"the memory is {full:.0%} full", "plainmq topics --sort bytes")
    if now.loop_delay > LATE:
        yield Attention("loop_delay", f"the event loop is {now.loop_delay:.1f} s late", "plainmq top")
    if now.evicted > before.evicted:
        sentence = f"{counted(now.evicted - before.evicted, 'subscriber')} did not read, and lost the connection"
        yield Attention("evicted", sentence, "plainmq subscribers")


def _of_group(group: GroupState) -> Iterator[Attention]:
    names = shlex.join((group.topic, group.group))

    def found(code: str, sentence: str, command: str, then: str | None = None) -> Attention:
        return Attention(code, f"{sentence} in {group.group} of {group.topic}", command, group.topic, group.group, then)

    if group.dead_letters.waiting:
        sentence = f"{counted(group.dead_letters.waiting, 'dead message')} without space in {group.dead_letter}"
        yield found("dead_waiting", sentence, f"plainmq group {names}")
    if dead := group.dead:
        redrive = f"plainmq redrive {names} --all"
        yield found("dead", counted(dead, "dead message"), f"plainmq peek {names} --state dead", redrive)
    if group.paused and group.ready:
        yield found("paused", f"{counted(group.ready, 'message')} ready and paused", f"plainmq group {names} --resume")
    elif group.ready and not group.workers and not group.leased:
        yield found("no_workers", f"{counted(group.ready, 'message')} ready and no worker", f"plainmq group {names}")


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
