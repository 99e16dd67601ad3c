"""The command that sets the limits of the log."""

from ..slices import Slices
from ..state import LogStateMachine
from ..topic_log import Limits
from .command import SlicedChange


class SetLimits(SlicedChange, frozen=True, array_like=True, gc=False, tag="set_limits"):
    """A node was started with these limits, which are in force from now on: what they decide is the same on all."""

    limits: Limits

    def decide(self, core: LogStateMachine, now: float) -> Slices[None]:  # noqa: ARG002
        return core.set_limits(self.limits)
