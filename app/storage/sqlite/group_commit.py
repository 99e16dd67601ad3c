"""Group commit: which requests are committed together."""

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Sequence
from typing import Final

from .request import Request, total_size

MAX_BATCH: Final = 1_000  # requests in one transaction: more would gain little, and the first ones wait
COMMIT_WINDOW: Final = 0.004  # seconds to wait for the clients that were answered last; skipped after it brought nobody


class GroupCommit:
    """Collects requests in the event loop, and sends them to the writer, a transaction at a time.

    Requests that arrive during a commit form the next transaction. It waits for a moment for the clients that were
    answered last, because they often publish again at once.
    """

    def __init__(self, loop: AbstractEventLoop, send: Callable[[list[Request]], None]) -> None:
        self._loop = loop
        self._send = send
        self._queued: list[Request] = []  # requests that the writer does not have yet
        self._queued_size = 0  # publishes in _queued
        self._expected_size = 0  # publishes to wait for before the next transaction
        self._window_wasted = False  # the last commit window brought nobody
        self._committing = False  # the writer has a transaction
        self._turn_scheduled = False  # _end_turn() will be called
        self._commit_window: TimerHandle | None = None

    def add(self, request: Request) -> None:
        self._queued.append(request)
        self._queued_size += request.size
        if not (self._committing or self._turn_scheduled):
            self._turn_scheduled = True
            self._loop.call_soon(self._end_turn)

    def send_all(self) -> None:
        """Send all requests to the writer, without waiting for it."""
        while self._queued:
            self._send_batch()

    def take_all(self) -> list[Request]:
        """Remove all requests that the writer does not have."""
        requests, self._queued = self._queued, []
        return requests

    def on_writer_free(self, requests: Sequence[Request]) -> None:
        """The writer is free. The clients of these requests may publish again soon, so that many are expected."""
        self._committing = False
        self._expected_size = self._queued_size + (0 if self._window_wasted else total_size(requests))
        self._window_wasted = False
        self._end_turn()

    def _end_turn(self) -> None:
        """Send the queued requests to the writer, unless more are expected within the commit window."""
        self._turn_scheduled = False
        if self._committing or not self._queued:
            return
        if self._queued_size >= self._expected_size or len(self._queued) >= MAX_BATCH:
            self._send_batch()
        elif self._commit_window is None:
            self._commit_window = self._loop.call_later(COMMIT_WINDOW, self._end_commit_window)

    def _end_commit_window(self) -> None:
        self._window_wasted = True
        self._send_batch()

    def _send_batch(self) -> None:
        if self._commit_window is not None:
            self._commit_window.cancel()
            self._commit_window = None
        requests, self._queued = self._queued[:MAX_BATCH], self._queued[MAX_BATCH:]
        self._queued_size -= total_size(requests)
        self._committing = True
        self._send(requests)
