"""A server that kills itself at one place on the way of a publish to the disk:

    python -m tests.storage.kill_points "after COMMIT" 5 serve --engine sqlite:log.db

It is the real one; only the methods that lie at that place are wrapped, from here.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

from app.cli import main
from app.fanout.fanout import Fanout
from app.log.state import LogStateMachine
from app.storage.sqlite.engine import SqliteEngine
from app.storage.sqlite.file import StoreFile
from app.storage.sqlite.state import StateRecords
from app.storage.sqlite.transactions import Store

Place = tuple[type[Any], str]

POINTS: Final[dict[str, tuple[Place, Place]]] = {  # how far the publish must have come; then what is never reached
    "before BEGIN": ((SqliteEngine, "append"), (Store, "commit")),
    "after INSERT": ((LogStateMachine, "_store"), (StateRecords, "write")),
    "after COMMIT": ((LogStateMachine, "_store"), (StoreFile, "mark")),
    "before the answer": ((LogStateMachine, "_store"), (Fanout, "deliver")),
}


class Trap:
    def __init__(self, point: str, publishes: int, shut: Callable[[], object]) -> None:
        """It shuts on the publish with that number."""
        self._left = publishes
        self._act = shut
        way, end = POINTS[point]
        _before(*way, self._pass)
        _before(*end, self._shut)

    def _pass(self) -> None:
        self._left -= 1

    def _shut(self) -> None:
        if self._left <= 0:
            self._act()


def _before(owner: type[Any], name: str, action: Callable[[], None]) -> None:
    method = getattr(owner, name)

    def wrapped(*args: Any, **options: Any) -> Any:
        action()
        return method(*args, **options)

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    Trap(sys.argv[1], int(sys.argv[2]), lambda: os.kill(os.getpid(), signal.SIGKILL))
    main(sys.argv[3:])
