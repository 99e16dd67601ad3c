"""Commands of publishers."""

from collections.abc import Sequence

from ...messages.message import Draft, Receipt, Scheduled, count_bytes, count_messages
from ...messages.scheduled_id import ScheduledId
from ..accepted import Accepted, PartialResult
from ..state import LogStateMachine
from .command import Change, Effect, Publish


class PublishDrafts(Publish, frozen=True, array_like=True, gc=False):
    """What Append and AppendEach share."""

    drafts: Sequence[Draft]

    @property
    def size(self) -> int:
        return count_messages(self.drafts)

    @property
    def body_bytes(self) -> int:
        return count_bytes(self.drafts)


class Append(PublishDrafts, frozen=True, array_like=True, gc=False, tag="append"):
    """LogStateMachine.append()"""

    def carry_out(self, core: LogStateMachine, now: float) -> Accepted | Receipt | Scheduled:
        return core.append(self.drafts, now)


class AppendEach(PublishDrafts, frozen=True, array_like=True, gc=False, tag="append_each"):
    """LogStateMachine.append_each()"""

    def carry_out(self, core: LogStateMachine, now: float) -> Accepted | PartialResult:
        return core.append_each(self.drafts, now)


class PublishScheduled(Publish, frozen=True, array_like=True, gc=False, tag="publish_scheduled"):
    id: ScheduledId

    def carry_out(self, core: LogStateMachine, now: float) -> Accepted:
        return core.publish_scheduled(self.id, now)


class CancelScheduled(Change, frozen=True, array_like=True, gc=False, tag="cancel_scheduled"):
    id: ScheduledId

    def decide(self, core: LogStateMachine, now: float) -> None:
        core.cancel_scheduled(self.id, now)


class SetResult(Effect, frozen=True, array_like=True, gc=False, tag="set_result"):
    """The first publish with this idempotency key was delivered: its receipt says to how many."""

    receipt: Receipt
    key: str

    def carry_out(self, core: LogStateMachine, now: float) -> None:  # noqa: ARG002
        core.deferred_result(self.receipt, self.key)
