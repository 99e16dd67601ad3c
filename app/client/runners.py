"""Runners of the client's coroutines: in the caller's event loop, or in an event loop of the client.

The synchronous client runs the asynchronous one in a thread with an event loop. So there is one implementation, any
thread can end a call, and Ctrl-C ends one at once. A call costs two thread switches, some 50 µs.
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

JOIN_TIMEOUT: Final = 5.0  # seconds that closing waits for the thread, which may be resolving a name

P = ParamSpec("P")
T = TypeVar("T")
Close = Callable[[], Coroutine[Any, Any, None]]


class AsyncRunner:
    """Runs coroutines in the caller's event loop."""

    def __init__(self, close: Close) -> None:
        self._close = close

    async def run(self, function: Callable[P, Coroutine[Any, Any, T]], *args: P.args, **options: P.kwargs) -> T:
        return await function(*args, **options)

    async def end(self) -> None:
        await self._close()


class Runner:
    """Runs coroutines in its own event loop, in a thread that starts with the first call. The thread ends with `end`,
    when the runner is garbage collected, or with the process; it calls `close` last."""

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
            raise RuntimeError("a client that was used before a fork has no thread in the child: create a client there")
        call = _Call(partial(function, *args, **options))
        try:
            with self._lock:  # a call that starts before `end` reaches the loop before it stops
                call.begin(self._running())
            return call.result()
        except BaseException:  # also Ctrl-C, which may come at any step
            call.cancel()
            raise

    def end(self) -> None:
        if self._loop is not None and self._process != os.getpid():
            return  # the thread is the parent's
        with self._lock:
            self._ended = True
        if self._thread is not None:
            self._stop()
            self._thread.join(JOIN_TIMEOUT)

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

    with asyncio.Runner(loop_factory=lambda: loop) as runner:  # cancels the tasks that are left
        runner.run(until_stopped())


class _Call(Generic[T]):
    """A call that runs in a loop while another thread waits for its result.

    Ctrl-C may interrupt the other thread at any step. So the coroutine is created in the loop, or it could be left
    without a task that awaits it. The thread waits in a queue that is written in C: an interrupt of
    `concurrent.futures.Future` or `threading.Condition` can leave a lock locked for ever.
    """

    def __init__(self, function: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._function = function
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[T] | None = None
        self._done: SimpleQueue[asyncio.Task[T]] = SimpleQueue()

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        loop.call_soon_threadsafe(self._start)

    def result(self) -> T:
        """Raises what the function raises; Closed."""
        task = self._done.get()
        if task.cancelled():
            raise Closed
        return task.result()

    def cancel(self) -> None:
        """Cancel the call: its caller was interrupted."""
        if self._loop is not None and not (self._task and self._task.done()):
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._cancel_task)

    def _start(self) -> None:
        self._task = asyncio.create_task(self._function())
        self._task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[T]) -> None:
        if not task.cancelled():
            task.exception()  # or asyncio warns that it was never retrieved
        self._done.put(task)

    def _cancel_task(self) -> None:
        if self._task is not None:
            self._task.cancel()
