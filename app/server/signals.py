"""Signals of a server: how it is stopped, and told to read its files again."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from logging import WARNING
from typing import Final

from ..telemetry.log import LOG_WRITER, log_event

STDERR: Final = 2
FORCED: Final = 1  # the exit status after a second signal


class Signals:
    """The first SIGINT or SIGTERM calls `stop`. The second one ends the process at once, after `abandon`."""

    def __init__(
        self, stop: Callable[[], None], reload: Callable[[], None], abandon: Callable[[], None] = lambda: None
    ) -> None:
        self._stop = stop
        self._reload = reload
        self._abandon = abandon
        self._stopping = False
        self._on_terminal = os.isatty(STDERR)

    @contextmanager
    def handled(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        handlers: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGINT: partial(self._on_stop, signal.SIGINT),
            signal.SIGTERM: partial(self._on_stop, signal.SIGTERM),
            signal.SIGHUP: self._on_hang_up,
        }
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    def _on_hang_up(self) -> None:
        """SIGHUP: `kill -HUP` and `systemctl reload` reload files; closing the server's terminal stops the server."""
        if not self._on_terminal or os.isatty(STDERR):
            self._reload()
        elif not self._stopping:  # the shell and the kernel both send it, which is not a second signal
            self._on_stop(signal.SIGHUP)

    def _on_stop(self, number: signal.Signals) -> None:
        if self._stopping:
            log_event("stopped at once", WARNING, signal=number.name)
            self._abandon()
            LOG_WRITER.close()
            os._exit(FORCED)
        self._stopping = True
        log_event("stopping", signal=number.name)
        self._stop()
