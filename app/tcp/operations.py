"""What the commands of an operator do, and what each answers."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from ..access.grant import Grant, Right, authorise
from ..broker.broker import Broker
from ..errors import OptionInvalid
from ..log.groups.listing import JobQuery
from ..log.groups.redrive import RedriveTarget
from ..messages.lease import Action, Outcome
from ..messages.position import After, Ago, Since
from .answers import Answer, Done, Figures, JobsAnswer, TopicsAnswer
from .dialects.base import NOT_SETTLED
from .dialects.commands import Command, Jobs, Pause, Purge, Redrive, Release, Seek, Skip, Topics

MAX_JOBS: Final = 20  # in one answer: a screen


async def _topics(broker: Broker, _grant: Grant, _command: Topics) -> Answer:
    return TopicsAnswer(await broker.directory.topics())


async def _jobs(broker: Broker, grant: Grant, command: Jobs) -> Answer:
    page = await broker.log.jobs(JobQuery(command.topic, command.group, command.state, 0, MAX_JOBS))
    return JobsAnswer(page, grant)


async def _release(broker: Broker, _grant: Grant, command: Release) -> Answer:
    return await _settle(broker, command, Action.RELEASE)


async def _skip(broker: Broker, _grant: Grant, command: Skip) -> Answer:
    return await _settle(broker, command, Action.SKIP)


async def _settle(broker: Broker, command: Release | Skip, action: Action) -> Answer:
    (outcome,) = await broker.settle(command.topic, command.group, action, [command.id])
    if outcome is not Outcome.DONE:
        kind, sentence = NOT_SETTLED[outcome]
        raise kind(sentence.format(id=command.id, topic=command.topic, group=command.group))
    return Done(outcome)


async def _redrive(broker: Broker, grant: Grant, command: Redrive) -> Answer:
    place = (await broker.directory.group(command.topic, command.group)).state.settings.dead_letter
    authorise(grant, (Right.ADMIN,), place)
    result = await broker.changes.redrive(RedriveTarget(command.topic, command.group, place), command.ids)
    return Figures({"redriven": len(result.seqs), "left": result.left})


async def _seek(broker: Broker, _grant: Grant, command: Seek) -> Answer:
    await broker.changes.seek(command.topic, command.group, command.to)
    state = (await broker.directory.group(command.topic, command.group)).state
    return Figures({"position": state.position, "ready": state.ready})


async def _pause(broker: Broker, _grant: Grant, command: Pause) -> Answer:
    if command.group is None:
        await broker.changes.pause(command.topic, command.paused)
    else:
        await broker.changes.pause_group(command.topic, command.group, command.paused)
    return Done("paused" if command.paused else "resumed", {"paused": command.paused})


async def _purge(broker: Broker, _grant: Grant, command: Purge) -> Answer:
    if command.before is not None and not isinstance(command.before[1], (After, Since, Ago)):
        raise OptionInvalid(f"{command.before[0][:60]!a}: expected an id, a time or a duration such as 10m")
    return Figures({"purged": await broker.changes.purge(command.topic, command.before)})


OPERATIONS: Final[Mapping[type[Command], Callable[[Broker, Grant, Any], Awaitable[Answer]]]] = {
    Topics: _topics,
    Jobs: _jobs,
    Redrive: _redrive,
    Release: _release,
    Skip: _skip,
    Seek: _seek,
    Pause: _pause,
    Purge: _purge,
}
