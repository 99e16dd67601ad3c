"""What is read again while the server runs, on SIGHUP. No part waits for another. One that fails is tried again until
it can be read: a file may be half written, or its partner not there yet, when the signal comes."""

import logging
from asyncio import TimerHandle, get_running_loop
from collections.abc import Callable, MutableMapping
from typing import Final

from .trouble import Trouble

RETRY: Final = 5.0  # seconds until what failed is tried again

_log = logging.getLogger("plainmq.reload")


class ReloadHooks:
    """`add` what can be read again, under a name for people, such as `the certificate in /etc/mq.pem`. `stale` says of
    each kind whether its newest state is not in force."""

    def __init__(self, stale: MutableMapping[str, int], retry: float = RETRY) -> None:
        self._stale = stale
        self._retry = retry
        self._parts: dict[str, tuple[Callable[[], None], Trouble]] = {}
        self._timer: TimerHandle | None = None

    def add(self, kind: str, name: str, reload: Callable[[], None], meanwhile: str = "the old one stays") -> None:
        """`reload` raises what is wrong; `meanwhile`: what holds then. `kind`: for the metrics."""
        self._parts[name] = reload, Trouble(kind, name, meanwhile, self._stale)

    def run(self) -> None:
        """Read everything again, and log what came of it."""
        if not self._parts:
            _log.warning("SIGHUP: there is nothing to read again")
        self._read(list(self._parts))

    def close(self) -> None:
        """Try nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _read(self, names: list[str]) -> None:
        self.close()
        failed = [name for name in names if not self._reread(name)]
        if failed:
            self._timer = get_running_loop().call_later(self._retry, self._read, failed)

    def _reread(self, name: str) -> bool:
        reload, trouble = self._parts[name]
        try:
            reload()
        except Exception as error:
            trouble.lasts(error)
            return False
        _log.info("%s was read again", name)
        trouble.is_over()
        return True
