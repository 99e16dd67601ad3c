"""Hooks that read files again on SIGHUP. Each hook is independent of the others. A hook that fails is tried again until
it succeeds: when the signal comes, a file may be half written, or the key of a certificate not there yet."""

import logging
from asyncio import TimerHandle, get_running_loop
from collections.abc import Callable, MutableMapping
from typing import Final

from .file_status import FileStatus

RETRY: Final = 5.0  # seconds until a failed hook is tried again

_log = logging.getLogger("plainmq.reload")


class ReloadHooks:
    """The hooks, by a name for log sentences, such as `the certificate in /etc/mq.pem`. In `stale`, which the metrics
    report, a kind is 1 while its newest state is not in force."""

    def __init__(self, stale: MutableMapping[str, int], retry: float = RETRY) -> None:
        self._stale = stale
        self._retry = retry
        self._parts: dict[str, tuple[Callable[[], None], FileStatus]] = {}
        self._timer: TimerHandle | None = None

    def add(self, kind: str, name: str, reload: Callable[[], None], meanwhile: str = "the old one stays") -> None:
        """`reload` raises an error if it fails. `meanwhile` says in the log what is in force then; `kind` is the key in
        `stale`."""
        self._parts[name] = reload, FileStatus(kind, name, meanwhile, self._stale)

    def run(self) -> None:
        """Run all hooks, and log the result of each."""
        if not self._parts:
            _log.warning("SIGHUP: there is nothing to read again")
        self._read(list(self._parts))

    def close(self) -> None:
        """Cancel the next attempt."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _read(self, names: list[str]) -> None:
        self.close()
        failed = [name for name in names if not self._reread(name)]
        if failed:
            self._timer = get_running_loop().call_later(self._retry, self._read, failed)

    def _reread(self, name: str) -> bool:
        reload, status = self._parts[name]
        try:
            reload()
        except Exception as error:
            status.failed(error)
            return False
        _log.info("%s was read again", name)
        status.loaded()
        return True
