"""The records that a server writes to standard error, read while it runs."""

import asyncio
import json
import re
from typing import Any

import httpx
import pytest

from tests.harness import DEADLINE, ServerProcess, http_client

Record = dict[str, Any]
JSON = ("--log-format", "json")
ALL = ("--access-log", "all")
HUMAN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (debug|info|warning|error|critical) \S.*")
FORMATS = pytest.mark.parametrize("format", ["human", "json"])


async def raw(server: ServerProcess, data: bytes) -> bytes:
    """Everything that the HTTP endpoint answers to these bytes, after which it closes."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(data)
    async with asyncio.timeout(DEADLINE):
        answer = await reader.read()
    writer.close()
    return answer


def client(server: ServerProcess) -> httpx.AsyncClient:
    return http_client(server.url)


async def stop(server: ServerProcess) -> int:
    return await asyncio.to_thread(server.stop)


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
