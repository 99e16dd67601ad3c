"""What the commands of an operator do, and the text of each answer."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from ..access.grant import Grant, Right, authorise
from ..broker.broker import Broker
from ..errors import OptionInvalid
from ..log.groups.listing import JobQuery, ListedJob
from ..log.groups.redrive import RedriveTarget
from ..messages.lease import Action, Outcome
from ..messages.message import rfc3339
from ..messages.position import After, Ago, Since
from ..messages.record import as_text
from .dialects.base import NOT_SETTLED
from .dialects.commands import Command, Jobs, Pause, Purge, Redrive, Release, Seek, Skip
from .encoders import escaped

MOST: Final = 20  # jobs in one answer: a screen
LONGEST: Final = 200  # characters of a body that are shown


async def _jobs(broker: Broker, grant: Grant, command: Jobs) -> str:
    page = await broker.log.jobs(JobQuery(command.topic, command.group, command.state, 0, MOST))
    more = " and more" if page.next else ""
    return "\n".join([f"jobs={len(page.jobs)}{more}", *(_line(job, grant) for job in page.jobs)])


def _line(listed: ListedJob, grant: Grant) -> str:
    message, job, death = listed.message, listed.job, listed.message.death
    parts = [listed.state.upper(), message.id]
    if job is not None:
        parts.append(f"attempt={job.attempt}")
        if job.expires is not None:
            parts += [f"consumer={job.holder or '-'}", f"until={rfc3339(job.expires + listed.ahead)}"]
    if reason := death.reason if death else job.reason if job else "":
        parts.append(f'reason="{escaped(reason)}"')
    if grant.allows(Right.SUBSCRIBE, message.topic):
        parts.append(escaped(as_text(message)[:LONGEST]))
    return " ".join(parts)


async def _release(broker: Broker, _grant: Grant, command: Release) -> str:
    return await _settle(broker, command, Action.RELEASE)


async def _skip(broker: Broker, _grant: Grant, command: Skip) -> str:
    return await _settle(broker, command, Action.SKIP)


async def _settle(broker: Broker, command: Release | Skip, action: Action) -> str:
    (outcome,) = await broker.settle(command.topic, command.group, action, [command.id])
    if outcome is not Outcome.DONE:
        kind, sentence = NOT_SETTLED[outcome]
        raise kind(sentence.format(id=command.id, topic=command.topic, group=command.group))
    return outcome


async def _redrive(broker: Broker, grant: Grant, command: Redrive) -> str:
    place = (await broker.directory.group(command.topic, command.group)).state.settings.dead_letter
    authorise(grant, (Right.ADMIN,), place)
    result = await broker.changes.redrive(RedriveTarget(command.topic, command.group, place), command.ids)
    return f"redriven={len(result.seqs)} left={result.left}"


async def _seek(broker: Broker, _grant: Grant, command: Seek) -> str:
    await broker.changes.seek(command.topic, command.group, command.to)
    state = (await broker.directory.group(command.topic, command.group)).state
    return f"position={state.position} ready={state.ready}"


async def _pause(broker: Broker, _grant: Grant, command: Pause) -> str:
    if command.group is None:
        await broker.changes.pause(command.topic, command.paused)
    else:
        await broker.changes.pause_group(command.topic, command.group, command.paused)
    return "paused" if command.paused else "resumed"


async def _purge(broker: Broker, _grant: Grant, command: Purge) -> str:
    if command.before is not None and not isinstance(command.before[1], (After, Since, Ago)):
        raise OptionInvalid(f"{command.before[0][:60]!a}: expected an id, a time or a duration such as 10m")
    return f"purged={await broker.changes.purge(command.topic, command.before)}"


OPERATIONS: Final[Mapping[type[Command], Callable[[Broker, Grant, Any], Awaitable[str]]]] = {
    Jobs: _jobs,
    Redrive: _redrive,
    Release: _release,
    Skip: _skip,
    Seek: _seek,
    Pause: _pause,
    Purge: _purge,
}
