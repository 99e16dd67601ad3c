"""Kill one part of a cluster after the other, while a counter goes through it that misses nothing.

    python failures.py              starts all parts on this machine: it needs redis-server and haproxy
    python failures.py --docker     kills those of `docker compose up --build --wait`

A publisher counts, and a subscriber reads what it has counted, both through haproxy. Each number must come once, and in
order.
The parts have the same configuration both ways; on this machine, only addresses are replaced.
"""

import argparse
import asyncio
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from asyncio import create_task
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from random import SystemRandom
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Final, Protocol
from uuid import uuid4

from plainmq import AsyncClient, Message

HERE: Final = Path(__file__).resolve().parent
VICTIMS: Final = ("plainmq-1", "plainmq-2", "redis-1", "redis-2")
OTHER: Final = {"redis-1": "redis-2", "redis-2": "redis-1"}
PAUSE: Final = 0.01  # seconds between two numbers
ENOUGH: Final = 100  # numbers that must have come before the next step
DEADLINE: Final = 60.0  # seconds for each step
LOOK: Final = 0.1  # seconds between two looks


class Cluster(Protocol):
    url: str

    def kill(self, name: str) -> None: ...

    def start(self, name: str) -> None: ...

    def ready(self, name: str) -> bool:
        """Whether this server is."""

    def run(self, name: str, *command: str) -> str:
        """What a command prints that asks this part."""


class Docker:
    """The parts of compose.yaml."""

    url = "http://127.0.0.1:8000"

    def kill(self, name: str) -> None:
        self._compose("kill", name)

    def start(self, name: str) -> None:
        self._compose("up", "--detach", "--no-recreate", "--no-deps", name)

    def ready(self, name: str) -> bool:
        return "healthy" in self._compose("ps", "--format", "{{.Health}}", name).split()

    def run(self, name: str, *command: str) -> str:
        return self._compose("exec", "-T", name, *command)

    def _compose(self, *words: str) -> str:
        command = ["docker", "compose", "--file", str(HERE / "compose.yaml"), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Local:
    """All parts as processes, on free ports of this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        ports = {
            name: _free_port() for name in ("redis-1", "redis-2", "sentinel", "http", "line", "plainmq-1", "plainmq-2")
        }
        lines = {name: _free_port() for name in ("plainmq-1", "plainmq-2")}
        self._ports = ports
        self.url = f"http://127.0.0.1:{ports['http']}"
        self._places = {
            "172.28.0.11 6379": f"127.0.0.1 {ports['redis-1']}",
            "172.28.0.13:26379": f"127.0.0.1:{ports['sentinel']}",
            "port 26379": f"port {ports['sentinel']}\ndir {folder}",
            "bind *": "bind 127.0.0.1",
            "bind :8000": f"bind 127.0.0.1:{ports['http']}",
            "bind :7777": f"bind 127.0.0.1:{ports['line']}",
            "172.28.0.21:8000": f"127.0.0.1:{ports['plainmq-1']}",
            "172.28.0.22:8000": f"127.0.0.1:{ports['plainmq-2']}",
            "172.28.0.21:7777": f"127.0.0.1:{lines['plainmq-1']}",
            "172.28.0.22:7777": f"127.0.0.1:{lines['plainmq-2']}",
        }
        self._commands = {
            "redis-1": self._redis("redis-1"),
            "redis-2": [*self._redis("redis-2"), "--replicaof", "127.0.0.1", str(ports["redis-1"])],
            "sentinel": ["redis-server", self._configuration("sentinel.conf"), "--sentinel"],
            "plainmq-1": _serve(ports["plainmq-1"], lines["plainmq-1"]),
            "plainmq-2": _serve(ports["plainmq-2"], lines["plainmq-2"]),
            "haproxy": ["haproxy", "-db", "-f", self._configuration("haproxy.cfg")],
        }

    def _redis(self, name: str) -> list[str]:
        data = self._folder / name
        data.mkdir()
        return ["redis-server", self._configuration("redis.conf"), "--port", str(self._ports[name]), "--dir", str(data)]

    def _text(self, name: str) -> str:
        text = (HERE / name).read_text()
        for theirs, ours in self._places.items():
            text = text.replace(theirs, ours)
        return text

    def _configuration(self, name: str) -> str:
        path = self._folder / name
        path.write_text(self._text(name))
        return str(path)

    def _environment(self) -> dict[str, str]:
        lines = [line for line in self._text("plainmq.env").splitlines() if "=" in line]
        own = {name: value for name, value in os.environ.items() if not name.startswith("PLAINMQ_")}
        return own | {"PLAINMQ_DATA_DIR": str(self._folder)} | dict(line.split("=", 1) for line in lines)

    def start_all(self) -> None:
        for name in ("redis-1", "redis-2"):
            self.start(name)
            wait(lambda name=name: self.run(name, "redis-cli", "ping").startswith("PONG"))  # type: ignore[misc]
        wait(lambda: has_replica(self, "redis-1"))
        self.start("sentinel")
        wait(lambda: "ok" in self.run("sentinel", "redis-cli", "sentinel", "ckquorum", "main").lower())
        for name in ("plainmq-1", "plainmq-2", "haproxy"):
            self.start(name)

    def start(self, name: str) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                self._commands[name], stdout=log, stderr=log, env=self._environment(), cwd=self._folder
            )

    def kill(self, name: str) -> None:
        self._processes[name].kill()
        self._processes[name].wait()

    def ready(self, name: str) -> bool:
        for part, process in self._processes.items():
            if process.poll() is not None:
                raise SystemExit(f"{part} has ended: {(self._folder / f'{part}.log').read_text()[-1000:]}")
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self._ports[name]}/readyz", timeout=1):
            return True
        return False

    def run(self, name: str, *command: str) -> str:
        program, *words = command
        port = ["-p", str(self._ports[name])]
        return subprocess.run([program, *port, *words], check=False, capture_output=True, text=True).stdout

    def close(self) -> None:
        for name in self._processes:
            self.kill(name)


def _serve(port: int, line_port: int) -> list[str]:
    return [sys.executable, "-m", "plainmq", "serve", "--port", str(port), "--tcp-port", str(line_port)]


def _free_port() -> int:
    """Below those that the system gives to connections."""
    while True:
        port = SystemRandom().randrange(10_000, 32_768)
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def has_replica(cluster: Cluster, name: str) -> bool:
    return "state=online" in cluster.run(name, "redis-cli", "info", "replication")


def wait(condition: Callable[[], bool]) -> None:
    end = monotonic() + DEADLINE
    while not condition():
        if monotonic() > end:
            raise SystemExit(f"this was not so within {DEADLINE:.0f} s: {condition.__qualname__}")
        sleep(LOOK)


class Counter:
    """What was published and received. `wrong`: each number that did not come once and in order."""

    def __init__(self) -> None:
        self.published = self.received = 0
        self.wrong: list[str] = []
        self.begin()

    def begin(self) -> None:
        """Measure the longest pauses anew, in seconds."""
        self.unconfirmed = self.silent = 0.0
        self._confirmed_at = self._received_at = monotonic()

    def confirm(self) -> None:
        self.published += 1
        self.unconfirmed = max(self.unconfirmed, monotonic() - self._confirmed_at)
        self._confirmed_at = monotonic()

    def receive(self, message: Message) -> None:
        if (number := int(message.text)) != self.received:
            self.wrong.append(f"{number} came in place of {self.received}")
        self.received = number + 1
        self.silent = max(self.silent, monotonic() - self._received_at)
        self._received_at = monotonic()

    def __str__(self) -> str:
        return f"{self.published:>9} {self.received:>9} {len(self.wrong):>6}"


async def publish(client: AsyncClient, topic: str, counter: Counter) -> None:
    while True:
        await client.publish(topic, str(counter.published))
        counter.confirm()
        await asyncio.sleep(PAUSE)


async def read(client: AsyncClient, topic: str, counter: Counter) -> None:
    gaps = counter.wrong.append
    async for message in client.subscribe(topic, since="earliest", on_gap=lambda gap: gaps(gap.sentence)):
        counter.receive(message)


async def show(counter: Counter) -> None:
    """The counter at this moment, on a terminal."""
    while sys.stdout.isatty():
        print(f"{counter}\r", end="", flush=True)
        await asyncio.sleep(LOOK)


async def kill_and_start(cluster: Cluster, name: str, counter: Counter) -> None:
    before = counter.published
    counter.begin()
    await asyncio.to_thread(cluster.kill, name)
    await asyncio.to_thread(wait, lambda: counter.received >= before + ENOUGH)
    pauses = f"{counter.unconfirmed:.1f} s without a publish, {counter.silent:.1f} s without a message"
    print(f"{counter}   {name} was killed: {pauses}", flush=True)
    await asyncio.to_thread(cluster.start, name)
    other = OTHER.get(name)
    await asyncio.to_thread(wait, lambda: has_replica(cluster, other) if other else cluster.ready(name))
    print(f"{counter}   {name} is back", flush=True)


async def run(cluster: Cluster, victims: Sequence[str]) -> Counter:
    counter, topic = Counter(), f"counter.{uuid4().hex[:8]}"
    print("published  received  wrong", flush=True)
    async with AsyncClient(cluster.url, retry_for=DEADLINE) as publisher, AsyncClient(cluster.url) as reader:
        tasks = [create_task(publish(publisher, topic, counter)), create_task(read(reader, topic, counter))]
        tasks.append(create_task(show(counter)))
        await asyncio.to_thread(wait, lambda: counter.received >= ENOUGH)
        for name in victims:
            await kill_and_start(cluster, name, counter)
        tasks[0].cancel()
        await asyncio.wait(tasks[:1])
        await asyncio.to_thread(wait, lambda: counter.received >= counter.published)
        for task in tasks[1:]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return counter


@contextmanager
def local_cluster() -> Iterator[Local]:
    for program in ("redis-server", "redis-cli", "haproxy"):
        if not shutil.which(program):
            raise SystemExit(f"{program} is not installed: apt install redis-server haproxy")
    with TemporaryDirectory() as folder:
        cluster = Local(Path(folder))
        try:
            cluster.start_all()
            wait(lambda: cluster.ready("plainmq-1") and cluster.ready("plainmq-2"))
            yield cluster
        finally:
            cluster.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill parts of a cluster while a counter goes through it.")
    parser.add_argument("--docker", action="store_true", help="those that docker compose has started")
    parser.add_argument("victims", nargs="*", default=VICTIMS, help=f"default: {' '.join(VICTIMS)}")
    options = parser.parse_args()
    with nullcontext(Docker()) if options.docker else local_cluster() as cluster:
        counter = asyncio.run(run(cluster, options.victims))
    for sentence in counter.wrong:
        print(sentence)
    if counter.wrong:
        raise SystemExit(1)
    print(f"all {counter.published} numbers came, each once and in order")


if __name__ == "__main__":
    main()
