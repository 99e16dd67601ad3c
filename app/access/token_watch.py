"""The watch over the file of tokens: it is checked about once a second, and a long file is read in parts."""

from asyncio import get_running_loop
from collections.abc import Callable, Collection, MutableMapping
from functools import partial
from typing import Final

from ..net.file_status import FileStatus
from .grant import Grant
from .tokens import TokenFile

CHECK_INTERVAL: Final = 1.0  # seconds between checks of the file: a removed token is refused that soon
WHILE_STALE: Final = "tokens that are not in it as they were are refused, and nothing that is new in it is good"


class TokenFileWatch:
    """The last check is good for times `since` to `until`: the clock may also be set back."""

    def __init__(
        self, file: TokenFile | None, now: float, stale: MutableMapping[str, int] | None,
        on_read: Callable[[Collection[Grant]], None],
    ) -> None:  # fmt: skip
        """The file (None: there is none to watch) is read at once. `stale["tokens"]` is set to 1 while it is not in
        force as it is. `on_read` is called with the grants that are gone, possibly none, after each change of what is
        known of the file. Raises FileInvalid."""
        self.file = file
        self._on_read = on_read
        self._read_scheduled = False  # _read_on() will be called
        self._checked_at(now)
        if file is not None:
            what = f"the file of tokens, {file.path},"
            self._status = FileStatus("tokens", what, WHILE_STALE, {} if stale is None else stale)
            file.read_whole()

    def check_if_due(self, now: float) -> None:
        """Check the file if the last check is old, or if the clock was set back."""
        if not self.since <= now < self.until:
            self.check(now, retry=True)

    def check(self, now: float, retry: bool = False) -> None:
        """Apply changes of the file. `retry`: also try again a file that could not be applied last time."""
        if retry:
            self._checked_at(now)
        if self.file is not None:
            self.apply(self.file, partial(self.file.refresh, retry))

    def apply(self, file: TokenFile, step: Callable[[], None]) -> None:
        """Run a step that may change the grants of the file."""
        before = file.grants
        step()
        self._on_read(before - file.grants if file.grants is not before else ())
        if file.reading:
            if not self._read_scheduled:
                self._read_scheduled = True
                get_running_loop().call_soon(self._read_on, file)
        elif file.error is not None:
            self._status.failed(file.error)
        else:
            self._status.loaded()

    def _read_on(self, file: TokenFile) -> None:
        """Read the next part of a long file; other tasks run between parts."""
        self._read_scheduled = False
        self.apply(file, file.read_on)

    def _checked_at(self, now: float) -> None:
        self.since, self.until = now, now + CHECK_INTERVAL
