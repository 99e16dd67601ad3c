"""Where the client's coroutines run: in the caller's event loop, or in one of the client's own.

The client for threads is the async one behind a thread with an event loop: there is one implementation, a call can be
ended from any thread, and Ctrl-C ends one at once. A call costs two switches of threads, some 50 µs.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, Final, TypeVar
from weakref import finalize

from .errors import Closed

END: Final = 5.0  # seconds: the most that closing waits for the thread, which may be asking a name server

T = TypeVar("T")
Close = Callable[[], Coroutine[Any, Any, None]]


class AsyncRunner:
    """In the caller's event loop."""

    def __init__(self, close: Close) -> None:
        self._close = close

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return await coroutine

    async def end(self) -> None:
        await self._close()


class Runner:
    """In an event loop of its own, in a thread that starts with the first call. It ends with `end`, when the runner is
    forgotten, or with the process. `close` is the last thing that it does."""

    def __init__(self, close: Close) -> None:
        self._close = close
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._process = 0
        self._ended = False

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Raises what the coroutine raises; Closed."""
        try:
            with self._lock:  # what is begun before the end is begun before the loop stops
                future = asyncio.run_coroutine_threadsafe(coroutine, self._running())
        except BaseException:
            coroutine.close()
            raise
        try:
            return future.result()
        except CancelledError:
            raise Closed from None
        except BaseException:  # Ctrl-C
            future.cancel()
            raise

    def end(self) -> None:
        with self._lock:
            self._ended = True
            thread = self._thread if self._process == os.getpid() else None
        if thread is not None:
            self._stop()
            thread.join(END)

    def _running(self) -> asyncio.AbstractEventLoop:
        """Raises Closed, RuntimeError."""
        if self._ended:
            raise Closed
        if self._loop is None:
            self._loop = self._start()
        if self._process != os.getpid():
            raise RuntimeError("a client that was used before a fork has no thread in the child: make one there")
        if threading.current_thread() is self._thread:
            raise RuntimeError("`tell` runs in the client's own thread, and cannot call the client")
        return self._loop

    def _start(self) -> asyncio.AbstractEventLoop:
        loop, stop = asyncio.new_event_loop(), asyncio.Event()
        self._process = os.getpid()
        self._thread = threading.Thread(
            target=_serve, args=(loop, stop, self._close), name="plainmq client", daemon=True
        )
        self._thread.start()
        self._stop = finalize(self, loop.call_soon_threadsafe, stop.set)
        return loop


def _serve(loop: asyncio.AbstractEventLoop, stop: asyncio.Event, close: Close) -> None:
    async def until_stopped() -> None:
        await stop.wait()
        await close()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:  # it cancels what is left when it ends
        runner.run(until_stopped())
