"""A sink that wakes a request which waits for the next message. It keeps no bytes."""

from asyncio import Event, timeout

from ..net.progress import ALL, Progress


class Wakeup:
    def __init__(self) -> None:
        self._event = Event()

    async def wait(self, seconds: float) -> bool:
        """Wait at most so many seconds. False if nothing came."""
        try:
            async with timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        return True

    def write(self, data: bytes) -> None:  # noqa: ARG002
        self._event.set()

    def pending(self) -> int:
        return 0

    def progress(self) -> Progress:
        return ALL

    def end(self, reason: str) -> None:  # noqa: ARG002
        self._event.set()

    def abort(self) -> None:
        self._event.set()
