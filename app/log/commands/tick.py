"""The command of time."""

from ..state import LogStateMachine
from .command import Effect


class Tick(Effect, frozen=True, array_like=True, gc=False, tag="tick"):
    """Do what is due."""

    def carry_out(self, core: LogStateMachine, now: float) -> None:
        core.pass_time(now)
