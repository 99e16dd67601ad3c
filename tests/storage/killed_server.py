"""A server on a file, which is killed again and again; who talks to it goes on with the next one."""

import asyncio
import random
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.harness import ServerProcess, start_server


class Victim:
    def __init__(self, path: Path, dice: random.Random) -> None:
        self._flags = ["--engine", f"sqlite:{path}", "--max-messages", "1000000", "--max-bytes", "1GiB"]
        self._flags += ["--min-free-disk", "0"]
        self._dice = dice
        self._stack = ExitStack()
        self._server: ServerProcess
        self._up = asyncio.Event()
        self._answers = 0  # until the next kill

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stack.close()

    async def _start(self) -> None:
        self._server = await asyncio.to_thread(lambda: self._stack.enter_context(start_server(*self._flags)))
        self._up.set()

    async def server(self) -> ServerProcess:
        """The one that serves, as soon as there is one."""
        await self._up.wait()
        return self._server

    def answered(self) -> None:
        """Somebody was given an answer. After some of them comes the kill, within the time of a few others."""
        self._answers -= 1
        if self._answers == 0:
            asyncio.get_running_loop().call_later(self._dice.uniform(0, 0.02), self._kill)

    def _kill(self) -> None:
        self._up.clear()
        self._server.process.kill()

    async def die(self, times: int, answers: int = 200) -> None:
        """Be killed so often, each time after at most so many answers, and be started again at once."""
        for _ in range(times):
            self._answers = self._dice.randint(1, answers)
            status = await asyncio.to_thread(self._server.process.wait)
            assert status == -signal.SIGKILL
            self._stack.close()
            await self._start()

    async def stop(self) -> int:
        return await asyncio.to_thread(self._server.stop)
