"""Commands that change topics."""

from ...messages.position import Start
from ..slices import Slices
from ..state import LogStateMachine
from .command import SlicedChange


class Configure(SlicedChange, frozen=True, array_like=True, gc=False, tag="configure"):
    """`changes`: fields of Retention."""

    topic: str
    changes: dict[str, int | float]

    def decide(self, core: LogStateMachine, now: float) -> Slices[None]:
        return core.configure(self.topic, self.changes, now)


class Pause(SlicedChange, frozen=True, array_like=True, gc=False, tag="pause"):
    topic: str
    paused: bool

    def decide(self, core: LogStateMachine, now: float) -> Slices[None]:
        return core.pause(self.topic, self.paused, now)


class Purge(SlicedChange, frozen=True, array_like=True, gc=False, tag="purge"):
    """`before`: a position, as written and as parsed; None: all."""

    topic: str
    before: tuple[str, Start] | None

    def decide(self, core: LogStateMachine, now: float) -> Slices[int]:
        return core.purge(self.topic, self.before, now)


class Drop(SlicedChange, frozen=True, array_like=True, gc=False, tag="drop"):
    topic: str

    def decide(self, core: LogStateMachine, now: float) -> Slices[None]:
        return core.drop(self.topic, now)
