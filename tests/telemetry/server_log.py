"""The records that a server writes to standard error, read while it runs."""

import asyncio
import json
from typing import Any

from tests.harness import DEADLINE, ServerProcess

Record = dict[str, Any]


class ServerLog:
    """The lines of a server's standard error from now on; what was read stays in `lines`."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self.lines: list[str] = server.banner.splitlines()

    async def line(self) -> str | None:
        """The next one; None when the server has closed it."""
        stderr = self._server.process.stderr
        assert stderr
        async with asyncio.timeout(DEADLINE):
            line = await asyncio.to_thread(stderr.readline)
        if line:
            self.lines.append(line.removesuffix("\n"))
        return self.lines[-1] if line else None

    async def until(self, message: str, **fields: object) -> Record:
        """The next record of that message with these fields; of JSON."""
        while (line := await self.line()) is not None:
            record: Record = json.loads(line)
            if record["message"] == message and fields.items() <= record.items():
                return record
        raise AssertionError(f"{message} was not told: {self.lines}")

    async def rest(self) -> list[str]:
        """Every line to the end of the server, and those before."""
        while await self.line() is not None:
            pass
        return self.lines

    async def records(self) -> list[Record]:
        return [json.loads(line) for line in await self.rest()]
