"""Whether a node can reach the journal: each change is logged once, and counted."""

from logging import WARNING
from time import monotonic

from ...telemetry.log import log_event


class ConnectionLog:
    def __init__(self) -> None:
        self.connected = False
        self.losses = 0
        self._lost_at = monotonic()
        self._reason = ""  # why it cannot be reached again, as was logged

    def lost(self, error: Exception) -> None:
        """The connection was lost, or cannot be made again."""
        if self.connected:
            self.connected = False
            self.losses += 1
            self._lost_at = monotonic()
            log_event("the journal was lost", WARNING, detail=str(error))
        elif not self._reason:
            self._reason = str(error)
            log_event("the journal cannot be reached", WARNING, detail=self._reason)

    def found(self) -> None:
        """This node can append, and knows all entries."""
        if not self.connected and (self.losses or self._reason):
            log_event("the journal was found again", seconds=monotonic() - self._lost_at)
        self.connected, self._reason = True, ""
