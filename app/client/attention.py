"""What needs attention at a server, as the command line shows it: each matter with a command that shows more."""

import shlex
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from .answers import server

OTHERWISE: Final = "plainmq top"
COMMANDS: Final[Mapping[str, str]] = {  # `{}`: the topic and the group
    "unready": "plainmq check",
    "journal_lost": "plainmq check",
    "draining": "plainmq check",
    "no_answer": "plainmq check",
    "engine_failures": "plainmq check",
    "memory": "plainmq topics --sort bytes",
    "loop_delay": OTHERWISE,
    "evicted": "plainmq subscribers",
    "dead_waiting": "plainmq group {}",
    "dead": "plainmq peek {} --state dead",
    "paused": "plainmq group {} --resume",
    "no_workers": "plainmq group {}",
}
FOLLOWING: Final[Mapping[str, str]] = {"dead": "plainmq redrive {} --all"}  # what may come after


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


def attention(matters: Iterable[server.Attention]) -> list[Attention]:
    return [_with_commands(matter) for matter in matters]


def _with_commands(matter: server.Attention) -> Attention:
    names = shlex.join(name for name in (matter.topic, matter.group) if name is not None)
    command, then = COMMANDS.get(matter.kind, OTHERWISE).format(names), FOLLOWING.get(matter.kind)
    return Attention(matter.kind, matter.text, command, matter.topic, matter.group, then and then.format(names))
