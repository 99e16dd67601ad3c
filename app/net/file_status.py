"""Whether the newest state of a file is loaded. A failure is logged when it begins, each minute while it lasts, and at
its end. The metrics report it too."""

import logging
from collections.abc import MutableMapping
from time import monotonic
from typing import Final

from ..errors import PlainmqError

LOG_INTERVAL: Final = 60.0  # seconds between two records of the same error

_LOG: Final = logging.getLogger("plainmq.reload")


class FileStatus:
    """The status of one file. `kind` is its key in `stale`; `name` names it in sentences, such as `the certificate in
    /etc/mq.pem`."""

    def __init__(self, kind: str, name: str, meanwhile: str, stale: MutableMapping[str, int]) -> None:
        """`meanwhile`: what is in force while loading fails, for log sentences."""
        self._kind = kind
        self._name = name
        self._meanwhile = meanwhile
        self._stale = stale
        self._logged: str | None = None
        self._log_at = 0.0
        stale.setdefault(kind, 0)

    def failed(self, error: BaseException) -> None:
        """Loading the file has failed, again or for the first time."""
        self._stale[self._kind] = 1
        now, sentence = monotonic(), str(error)
        if sentence != self._logged or now >= self._log_at:
            self._logged, self._log_at = sentence, now + LOG_INTERVAL
            unexpected = None if isinstance(error, PlainmqError) else error  # with its traceback
            _LOG.error("%s was not loaded, %s: %s", self._name, self._meanwhile, sentence, exc_info=unexpected)

    def loaded(self) -> None:
        self._stale[self._kind] = 0
        if self._logged is not None:
            self._logged = None
            _LOG.info("%s was loaded in its newest state", self._name)
