"""The commands of an operator, in text and in JSON: what is stuck, and what to do about it."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from ...errors import OptionInvalid
from ...log.groups.job import JobState
from ...log.groups.records import parse_group
from ...messages.lease import parse_lease_id
from ...messages.message import Id, parse_id
from ...messages.position import Start, parse_start
from ...messages.topic import parse_topic
from .commands import Command, Jobs, Pause, Purge, Redrive, Release, Seek, Skip

EVERY: Final = "all"

OPERATOR_USAGE: Final = {
    "jobs": "jobs TOPIC GROUP [state]",
    "redrive": "redrive TOPIC GROUP ID...",
    "release": "release TOPIC GROUP ID",
    "skip": "skip TOPIC GROUP ID",
    "seek": "seek TOPIC GROUP POSITION",
    "pause": "pause TOPIC [group]",
    "resume": "resume TOPIC [group]",
    "purge": "purge TOPIC [before]",
}
"""The line of each command in text. In JSON, the names of its arguments are keys."""

OPERATOR_HELP: Final = """\
For operators; most of it takes the right to admin:
    jobs TOPIC GROUP [state]     show messages, and take none; state: ready,
                                 leased, delayed or dead
    redrive TOPIC GROUP ID...    dead messages go back to the group; or `all`
    release TOPIC GROUP ID       the job is ready at once, whoever has it
    skip TOPIC GROUP ID          the group never hands the message out again
    seek TOPIC GROUP POSITION    hand out what comes after: an id, a time,
                                 earliest (all again) or latest (only new ones)
    pause TOPIC [group]          hand out nothing; a topic: accept nothing
    resume TOPIC [group]         go on
    purge TOPIC [before]         delete the messages, or those before an id
JSON has them too, with the arguments as keys; ids is a list, or "all":
    {"command":"redrive","topic":"foo","group":"workers","ids":"all"}"""


def _jobs(topic: str, words: list[str]) -> Command:
    group, state = (*words, JobState.READY)[:2]
    if state not in [*JobState]:
        raise OptionInvalid(f"{state[:60]!a} is not a state: expected {', '.join(JobState)}")
    return Jobs(topic, parse_group(group), JobState(state))


def _redrive(topic: str, words: list[str]) -> Command:
    group, *ids = words
    return Redrive(topic, parse_group(group), None if ids == [EVERY] else tuple[Id, ...](map(parse_id, ids)))


def _one(command: Callable[..., Command], topic: str, words: list[str]) -> Command:
    group, id = words
    return command(topic, parse_group(group), parse_lease_id(id))


def _seek(topic: str, words: list[str]) -> Command:
    group, to = words
    return Seek(topic, parse_group(group), _position(to))


def _pause(paused: bool, topic: str, words: list[str]) -> Command:
    return Pause(topic, parse_group(words[0]) if words else None, paused)


def _purge(topic: str, words: list[str]) -> Command:
    return Purge(topic, _position(words[0]) if words else None)


def _position(word: str) -> tuple[str, Start]:
    return word, parse_start(word)


MAX_IDS: Final = 1_000
_PARSERS: Final[Mapping[str, Callable[[str, list[str]], Command]]] = {
    "jobs": _jobs,
    "redrive": _redrive,
    "release": partial(_one, Release),
    "skip": partial(_one, Skip),
    "seek": _seek,
    "pause": partial(_pause, True),
    "resume": partial(_pause, False),
    "purge": _purge,
}
"""What parses the arguments of each command."""


class Argument(NamedTuple):
    """`key`: its name in JSON. `many`: there may be several values."""

    key: str
    optional: bool
    many: bool


def arguments_of(verb: str) -> list[Argument]:
    return [_argument(name) for name in OPERATOR_USAGE[verb].split()[1:]]


def _argument(name: str) -> Argument:
    many = name.endswith("...")
    return Argument(name.strip("[].").lower() + "s" * many, name.startswith("["), many)


def parse_operation(verb: str, words: Sequence[str]) -> Command | None:
    """None if the number of words is wrong. Raises TopicInvalid, GroupInvalid, OptionInvalid."""
    arguments = arguments_of(verb)
    least = sum(not argument.optional for argument in arguments)
    most = len(arguments) - 1 + (MAX_IDS if arguments[-1].many else 1)
    if not least <= len(words) <= most:
        return None
    topic, *others = words
    return _PARSERS[verb](parse_topic(topic), others)
