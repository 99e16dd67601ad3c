"""Commands that change consumer groups."""

from collections.abc import Sequence

from ...messages.lease import Action, Lease, LeaseId, Outcome
from ...messages.message import Id
from ...messages.position import Gap, Start
from ..groups.redrive import Redriven, RedriveTarget
from ..slices import Slices
from ..state import LogStateMachine
from .command import Change, SlicedChange


class Join(SlicedChange, frozen=True, array_like=True, gc=False, tag="join"):
    topic: str
    group: str
    make: bool

    def decide(self, core: LogStateMachine, now: float) -> Slices[Gap | None]:
        return core.group_admin.join(self.topic, self.group, now, make=self.make)


class ConfigureGroup(SlicedChange, frozen=True, array_like=True, gc=False, tag="configure_group"):
    """`changes`: fields of GroupSettings. `start`: a position, as written and as parsed."""

    topic: str
    group: str
    changes: dict[str, str | int | float | None]
    start: tuple[str, Start] | None
    make: bool

    def decide(self, core: LogStateMachine, now: float) -> Slices[None]:
        return core.configure_group(self.topic, self.group, self.changes, self.start, now, make=self.make)


class PauseGroup(Change, frozen=True, array_like=True, gc=False, tag="pause_group"):
    topic: str
    group: str
    paused: bool

    def decide(self, core: LogStateMachine, now: float) -> None:  # noqa: ARG002
        core.groups.pause(self.topic, self.group, self.paused)


class Seek(SlicedChange, frozen=True, array_like=True, gc=False, tag="seek"):
    """`to`: a position, as written and as parsed."""

    topic: str
    group: str
    to: tuple[str, Start]

    def decide(self, core: LogStateMachine, now: float) -> Slices[None]:
        return core.seeking.seek(self.topic, self.group, self.to, now)


class DropGroup(SlicedChange, frozen=True, array_like=True, gc=False, tag="drop_group"):
    topic: str
    group: str

    def decide(self, core: LogStateMachine, now: float) -> Slices[None]:  # noqa: ARG002
        return core.group_admin.drop(self.topic, self.group)


class Claim(Change, frozen=True, array_like=True, gc=False, tag="claim"):
    """`bound`: the run of a server whose connection the leases are bound to; empty if they are not."""

    topic: str
    group: str
    count: int
    nbytes: int
    seconds: float | None
    bound: str
    holder: str

    def decide(self, core: LogStateMachine, now: float) -> list[Lease]:
        return core.groups.claim(
            self.topic, self.group, count=self.count, nbytes=self.nbytes, seconds=self.seconds, bound=self.bound,
            holder=self.holder, now=now,
        )  # fmt: skip


class Settle(Change, frozen=True, array_like=True, gc=False, tag="settle"):
    """A consumer settles leases."""

    topic: str
    group: str
    action: Action
    ids: Sequence[LeaseId]
    seconds: float | None
    reason: str | None

    def decide(self, core: LogStateMachine, now: float) -> list[Outcome]:
        return core.groups.settle(
            self.topic, self.group, self.action, self.ids, seconds=self.seconds, reason=self.reason, now=now
        )


class Operate(SlicedChange, frozen=True, array_like=True, gc=False, tag="operate"):
    """An operator releases or skips messages."""

    topic: str
    group: str
    action: Action
    ids: Sequence[LeaseId]

    def decide(self, core: LogStateMachine, now: float) -> Slices[list[Outcome]]:
        return core.operating.settle(self.topic, self.group, self.action, self.ids, now)


class Redrive(SlicedChange, frozen=True, array_like=True, gc=False, tag="redrive"):
    """`ids`: of dead letters, or of the messages that died; None: all."""

    target: RedriveTarget
    ids: Sequence[Id] | None

    def decide(self, core: LogStateMachine, now: float) -> Slices[Redriven]:
        if self.ids is None:
            return core.redriving.all(self.target, now)
        return core.redriving.some(self.target, self.ids, now)
