"""Three servers as processes, each with a link of its own to a Redis with replicas."""

import asyncio
import threading
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack
from pathlib import Path
from signal import SIGKILL
from tempfile import TemporaryDirectory
from typing import Any, Self

import msgspec

from tests.cluster.faults.link import Link
from tests.fake_clock import FakeClock
from tests.harness import ServerProcess, free_port, start_server
from tests.redis_server import RedisServer, redis_server, sentinel

NODES = 3
COMMON_FLAGS = ("--max-messages", "1000000", "--max-bytes", "1GiB")
RESTORED = "a snapshot was given back"
HEALED = "were given back"  # in the log of a node that did it


class Setup(msgspec.Struct, frozen=True):
    """`redis`: flags of its servers. `timeout`: --journal-timeout. `has_sentinel`: nodes ask it for the primary.
    `has_clock`: the one of Redis can be set."""

    redis: tuple[str, ...] = ()
    replicas: int = 0
    has_sentinel: bool = False
    has_clock: bool = False
    durability: str = "primary"
    timeout: str = "5s"
    program: str = "app"


class Member:
    """One of the nodes. It keeps its ports and its log over restarts."""

    server: ServerProcess
    """The last one that was started."""

    def __init__(self, link: Link, program: str, *flags: str) -> None:
        self.link = link
        self.program = program
        self.port, self.tcp_port = free_port(), free_port()
        self.log: list[str] = []
        self._flags = flags
        self._stack = ExitStack()
        self._runs = False

    async def start(self) -> None:
        flags = (*COMMON_FLAGS, *self._flags)
        self.server = await asyncio.to_thread(lambda: self._stack.enter_context(self._start(*flags)))
        self._runs = True
        self._reader = threading.Thread(target=self._read, args=(self.server.process.stderr,), daemon=True)
        self._reader.start()

    def _start(self, *flags: str) -> AbstractContextManager[ServerProcess]:
        return start_server(*flags, port=self.port, tcp_port=self.tcp_port, program=(self.program,))

    def _read(self, lines: Any) -> None:
        self.log.extend(lines)

    def send_signal(self, number: int) -> None:
        self.server.process.send_signal(number)

    async def end(self, number: int = SIGKILL) -> int:
        """The exit status. Idempotent."""
        if not self._runs:
            return 0
        self._runs = False
        status = await asyncio.to_thread(self.server.stop, number)
        self._reader.join()
        self._stack.close()
        return status


class Cluster:
    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.members: list[Member] = []
        self.replicas: list[RedisServer] = []
        self.clock: FakeClock | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._start_redis(stack)
            address = self._start_sentinel(stack) if self.setup.has_sentinel else ""
            for _ in range(NODES):
                link = await stack.enter_async_context(Link(self.primary.port))
                self.members.append(self._member(link, address or f"redis://127.0.0.1:{link.port}"))
                stack.push_async_callback(self.members[-1].end)
            await asyncio.gather(*(member.start() for member in self.members))
            self._stack = stack.pop_all()
        return self

    async def _start_redis(self, stack: AsyncExitStack) -> None:
        if self.setup.has_clock:
            self.clock = FakeClock(Path(stack.enter_context(TemporaryDirectory())))
        environment = self.clock.environment if self.clock else None
        self.primary = stack.enter_context(redis_server(*self.setup.redis, environment=environment))
        follow = ("--replicaof", "127.0.0.1", str(self.primary.port))
        for _ in range(self.setup.replicas):
            self.replicas.append(stack.enter_context(redis_server(*self.setup.redis, *follow)))
        await self.until_level()

    def _start_sentinel(self, stack: AsyncExitStack) -> str:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        return f"redis+sentinel://127.0.0.1:{stack.enter_context(sentinel(self.primary, folder))}/main"

    def _member(self, link: Link, address: str) -> Member:
        setup = self.setup
        durability = ("--durability", setup.durability, "--journal-timeout", setup.timeout)
        return Member(link, setup.program, "--engine", f"{address}/0?name=test", *durability)

    async def __aexit__(self, *error: Any) -> None:
        await self._stack.__aexit__(*error)

    def at(self, n: int) -> Member:
        """The nodes in a circle."""
        return self.members[n % NODES]

    async def until_level(self) -> None:
        """All replicas have what the primary has."""
        for replica in self.replicas:
            await asyncio.to_thread(replica.until, lambda: replica.is_level_with(self.primary))  # noqa: B023

    async def restart_primary(self, *flags: str) -> None:
        self.primary.kill()
        await asyncio.to_thread(self.primary.start, *flags)

    def fail_over(self) -> None:
        """The primary dies, and the first replica takes its place for all nodes."""
        self.primary.kill()
        self.promote()
        for member in self.members:
            member.link.lead_to(self.primary.port)

    def promote(self) -> RedisServer:
        """The first replica is a primary from now on, and the others follow it. The old primary, which knows nothing
        of it."""
        old, self.primary = self.primary, self.replicas.pop(0)
        self.primary.follow(None)
        for replica in self.replicas:
            replica.follow(self.primary)
        return old

    @property
    def healed(self) -> int:
        """The entries that nodes gave back to Redis."""
        return sum(int(line.partition("entries=")[2].split()[0]) for line in self.logged(HEALED))

    @property
    def restored(self) -> int:
        """The snapshots that nodes gave back to Redis."""
        return len(self.logged(RESTORED))

    def logged(self, text: str) -> list[str]:
        """The lines with it, of all nodes."""
        return [line for member in self.members for line in member.log if text in line]
