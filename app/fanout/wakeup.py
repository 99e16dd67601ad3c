"""A sink for who waits until there is something to read: it keeps nothing but that there is."""

from asyncio import Event, timeout

from ..net.progress import ALL, Progress


class Wakeup:
    def __init__(self) -> None:
        self._rung = Event()

    async def wait(self, seconds: float) -> bool:
        """Wait for news, at most that long; False when there was none."""
        try:
            async with timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            return False
        return True

    def write(self, data: bytes) -> None:  # noqa: ARG002
        self._rung.set()

    def pending(self) -> int:
        return 0

    def progress(self) -> Progress:
        return ALL

    def end(self, reason: str) -> None:  # noqa: ARG002
        self._rung.set()

    def abort(self) -> None:
        self._rung.set()
