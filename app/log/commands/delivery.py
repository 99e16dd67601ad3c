"""Commands that record what subscribers have got of messages for one subscriber."""

from collections.abc import Sequence

from ..state import LogStateMachine
from .command import Command, Effect


class Take(Command, frozen=True, array_like=True, gc=False, tag="take"):
    """Subscribers are about to get these messages, each by topic and seq. The result: the seqs of those that were
    unclaimed."""

    messages: Sequence[tuple[str, int]]

    def carry_out(self, core: LogStateMachine, now: float) -> frozenset[int]:  # noqa: ARG002
        return core.take(self.messages)


class Taken(Effect, frozen=True, array_like=True, gc=False, tag="taken"):
    """These messages have reached their subscribers."""

    seqs: Sequence[int]

    def carry_out(self, core: LogStateMachine, now: float) -> None:  # noqa: ARG002
        core.taken(self.seqs)


class GiveBack(Effect, frozen=True, array_like=True, gc=False, tag="give_back"):
    """These messages have not reached a subscriber."""

    seqs: Sequence[int]

    def carry_out(self, core: LogStateMachine, now: float) -> None:  # noqa: ARG002
        core.give_back(self.seqs)
