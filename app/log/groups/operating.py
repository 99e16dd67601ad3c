"""An operator's actions on messages of a group, by the ids that operators see: release and skip.

Once a message that died is redriven, its id, under which it was published, stands for its copy in the group.
"""

from collections.abc import Iterator, Sequence

from ...messages.lease import Action, LeaseId, Outcome
from ...messages.message import Id
from ..log import Log
from ..slices import LOOK_EFFORT, Slices, sliced
from .group import Group
from .groups import Groups


class Operating:
    def __init__(self, log: Log, groups: Groups) -> None:
        self._log = log
        self._groups = groups

    def settle(
        self, topic: str, name: str, action: Action, ids: Sequence[LeaseId], now: float
    ) -> Slices[list[Outcome]]:
        """The outcome for each id. Raises NotFound, LogFull."""
        wanted = {*self._originals(topic, self._groups.existing(topic, name), ids, now)}
        copies = yield from self._copies(topic, name, wanted)
        named = [copies.get(self._published_as(id), [id]) if id.attempt is None else [id] for id in ids]
        together = [one for several in named for one in several]
        outcomes = iter(self._groups.settle(topic, name, action, together, seconds=None, now=now))
        return [[next(outcomes) for _ in several][-1] for several in named]

    def _originals(self, topic: str, group: Group, ids: Sequence[LeaseId], now: float) -> Iterator[str]:
        """The messages that may have copies: the group is done with them, or they are gone."""
        for id in ids if group.redriven else ():
            seq = id.message.seq
            fresh = seq > group.cursor and seq not in group.ahead and self._groups.message(topic, seq, now) is not None
            if id.attempt is None and seq not in group.jobs.by_seq and not fresh:
                yield self._published_as(id)

    def _published_as(self, id: LeaseId) -> str:
        """The message's id with the epoch in which it was published; empty if it is not of this log."""
        seq, epochs = id.message.seq, self._log.epochs
        return str(Id(epochs.of(seq), seq)) if epochs.knows(id.message) else ""

    def _copies(self, topic: str, name: str, originals: set[str]) -> Slices[dict[str, list[LeaseId]]]:
        """The jobs that are copies of these messages. A message that was replayed, and died again, can have several."""
        found: dict[str, list[LeaseId]] = {}
        group = self._groups.existing(topic, name)
        for seqs in sliced(sorted(group.redriven or ()) if originals else (), LOOK_EFFORT):
            messages = self._log.existing(topic).messages
            for seq in seqs:
                run = messages.find(seq)
                redrive = None if run is None else run.envelope.redrive
                if run is not None and redrive is not None and redrive.original in originals:
                    found.setdefault(redrive.original, []).append(LeaseId(Id(run.epoch, seq)))
            yield
        return found
