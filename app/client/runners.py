"""Where the client's coroutines run: in the caller's event loop, or in one of the client's own.

The client for threads is the async one behind a thread with an event loop: there is one implementation, a call can be
ended from any thread, and Ctrl-C ends one at once. A call costs two switches of threads, some 50 µs.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, Generic, ParamSpec, TypeVar
from weakref import finalize

from .errors import Closed

END: Final = 5.0  # seconds: the most that closing waits for the thread, which may be asking a name server

P = ParamSpec("P")
T = TypeVar("T")
Close = Callable[[], Coroutine[Any, Any, None]]


class AsyncRunner:
    """In the caller's event loop."""

    def __init__(self, close: Close) -> None:
        self._close = close

    async def run(self, function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **options: P.kwargs) -> T:
        return await function(*args, **options)

    async def end(self) -> None:
        await self._close()


class Runner:
    """In an event loop of its own, in a thread that starts with the first call. It ends with `end`, when the runner is
    forgotten, or with the process. `close` is the last thing that it does."""

    def __init__(self, close: Close) -> None:
        self._close = close
        self._lock = threading.RLock()  # a signal's handler may call the client that it interrupts
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._process = 0
        self._ended = False

    def run(self, function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **options: P.kwargs) -> T:
        """Raises what the function raises; Closed."""
        if self._loop is not None and self._process != os.getpid():
            raise RuntimeError("a client that was used before a fork has no thread in the child: make one there")
        call = _Call(partial(function, *args, **options))
        try:
            with self._lock:  # what is begun before the end is begun before the loop stops
                call.begin(self._running())
            return call.answer()
        except BaseException:  # also Ctrl-C, which may come at any step
            call.leave()
            raise

    def end(self) -> None:
        if self._loop is not None and self._process != os.getpid():
            return  # the thread is the parent's
        with self._lock:
            self._ended = True
        if self._thread is not None:
            self._stop()
            self._thread.join(END)

    def _running(self) -> asyncio.AbstractEventLoop:
        """Raises Closed, RuntimeError."""
        if self._ended:
            raise Closed
        if self._loop is None:
            self._loop = self._start()
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


class _Call(Generic[T]):
    """What runs in a loop while another thread waits for its answer.

    Ctrl-C may come at any step of the other thread. So the coroutine is made in the loop, or one might be left that
    nobody awaits; and the thread waits in a queue that is written in C, because `concurrent.futures.Future` and
    `threading.Condition` can be left with a lock that is held for ever.
    """

    def __init__(self, function: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._function = function
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[T] | None = None
        self._done: SimpleQueue[asyncio.Task[T]] = SimpleQueue()

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        loop.call_soon_threadsafe(self._start)

    def answer(self) -> T:
        """Raises what the function raises; Closed."""
        task = self._done.get()
        if task.cancelled():
            raise Closed
        return task.result()

    def leave(self) -> None:
        """Nobody waits for the answer any more."""
        if self._loop is not None and not (self._task and self._task.done()):
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._cancel)

    def _start(self) -> None:
        self._task = asyncio.create_task(self._function())
        self._task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[T]) -> None:
        if not task.cancelled():
            task.exception()  # asyncio complains about one that nobody looks at
        self._done.put(task)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
