"""Helpers of the benchmarks: a server as a child process, and sockets to it."""

import os
import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import IPPROTO_TCP, TCP_NODELAY, create_connection, socket

from tests.harness import DEADLINE, ROOT


@contextmanager
def child(
    command: list[str],
    ports: Collection[int],
    log: Path | None = None,
    cpus: frozenset[int] = frozenset(),
    source: Path = ROOT,
) -> Iterator[int]:
    """Start a command on these CPUs (empty: on all), in the folder `source`. Yields its pid once it listens."""
    with (log or Path(os.devnull)).open("w") as output, _pinned_to(cpus):
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=source)  # noqa: S603
    try:
        for port in ports:
            _wait_until_listening(port, process, log)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def _pinned_to(cpus: frozenset[int]) -> Iterator[None]:
    """Processes that are started in the block run on these CPUs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _wait_until_listening(port: int, process: "subprocess.Popen[bytes]", log: Path | None) -> None:
    end = time.monotonic() + DEADLINE
    while process.poll() is None and time.monotonic() < end:
        with suppress(ConnectionRefusedError), connect(port):
            return
        time.sleep(0.02)
    raise SystemExit(f"{process.args!r} did not start: {log.read_text()[-1000:] if log else ''}")


def connect(port: int) -> socket:
    sock = create_connection(("127.0.0.1", port), DEADLINE)
    sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    return sock


def receive_some(sock: socket) -> bytes:
    data = sock.recv(1 << 16)
    if not data:
        raise SystemExit("the server closed a connection")
    return data


def receive_until(sock: socket, end: bytes) -> bytes:
    """Read until `end` was received. What came after it is returned too."""
    answer = b""
    while end not in answer:
        answer += receive_some(sock)
    return answer
