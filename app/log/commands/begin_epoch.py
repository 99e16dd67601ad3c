"""The command that begins a new epoch of the log."""

from ..state import LogStateMachine
from .command import Effect


class BeginEpoch(Effect, frozen=True, array_like=True, gc=False, tag="begin_epoch"):
    """Accepted messages may have been lost: the ids of all later ones have this epoch."""

    epoch: str

    def carry_out(self, core: LogStateMachine, now: float) -> None:  # noqa: ARG002
        core.log.begin_epoch(self.epoch)
