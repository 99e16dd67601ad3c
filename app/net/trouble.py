"""What is wrong with a file that should be in force: said when it begins, each minute while it lasts, and when it is
over. It is counted too, for the metrics."""

import logging
from collections.abc import MutableMapping
from time import monotonic
from typing import Final

from ..errors import PlainmqError

AGAIN: Final = 60.0  # seconds from one record of the same trouble to the next

_LOG: Final = logging.getLogger("plainmq.reload")


class Trouble:
    """`kind`: under which it is counted in `stale`; `what`: in sentences, such as `the certificate in /etc/mq.pem`."""

    def __init__(self, kind: str, what: str, meanwhile: str, stale: MutableMapping[str, int]) -> None:
        """`meanwhile`: what holds until it is over."""
        self._kind = kind
        self._what = what
        self._meanwhile = meanwhile
        self._stale = stale
        self._said: str | None = None
        self._say_at = 0.0
        stale.setdefault(kind, 0)

    def lasts(self, error: BaseException) -> None:
        self._stale[self._kind] = 1
        now, sentence = monotonic(), str(error)
        if sentence != self._said or now >= self._say_at:
            self._said, self._say_at = sentence, now + AGAIN
            fault = None if isinstance(error, PlainmqError) else error  # of ours: with its traceback
            _LOG.error("%s was not taken, %s: %s", self._what, self._meanwhile, sentence, exc_info=fault)

    def is_over(self) -> None:
        self._stale[self._kind] = 0
        if self._said is not None:
            self._said = None
            _LOG.info("%s was taken, as it is now", self._what)
