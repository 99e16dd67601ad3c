"""What is read again while the server runs, on SIGHUP. One part that fails keeps what it had, and no other waits."""

import logging
from collections.abc import Callable

from ..errors import PlainmqError

_log = logging.getLogger("plainmq.reload")


class Reloads:
    """`add` what can be read again, under a name for people, such as `the certificate in /etc/mq.pem`."""

    def __init__(self) -> None:
        self._parts: dict[str, Callable[[], None]] = {}

    def add(self, name: str, reload: Callable[[], None]) -> None:
        """`reload` raises PlainmqError when it cannot, and has changed nothing then."""
        self._parts[name] = reload

    def run(self) -> None:
        """Read everything again, and log what came of it."""
        if not self._parts:
            _log.warning("SIGHUP: there is nothing to read again")
        for name, reload in self._parts.items():
            try:
                reload()
            except PlainmqError as error:
                _log.warning("%s was not read again, the old one stays: %s", name, error)
            except Exception:
                _log.exception("%s was not read again, the old one stays", name)
            else:
                _log.info("%s was read again", name)
