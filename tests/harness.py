"""A server as a child process, and other helpers of many tests. Every wait has a deadline."""

import os
import pty
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from random import SystemRandom
from typing import Any, Final, TypeVar

import httpx

from app.access.authenticator import AnonymousAccess, Authenticator
from app.messages.message import Draft, Envelope
from tests import forked

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent
DEADLINE = 20.0  # seconds: far longer than any step of a test takes
_RANDOM: Final = SystemRandom()  # Hypothesis gives `random` the same seed in every process
OPEN = Authenticator(AnonymousAccess.ANONYMOUS)  # no token is needed


def draft(topic: str, *bodies: bytes, delay: float | None = None, key: str | None = None, **options: Any) -> Draft:
    """`options` are those of the Envelope."""
    return Draft(Envelope(topic, **options), [*bodies], delay, key)


def whole(slices: Generator[None, None, T]) -> T:
    """Run all slices of an operation, and return its result."""
    while True:
        try:
            next(slices)
        except StopIteration as end:
            value: T = end.value
            return value


def take_nothing(port: int, request: bytes) -> socket.socket:
    """A client that sends a request and reads nothing. The caller closes the socket."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    sock.connect(("127.0.0.1", port))
    sock.sendall(request)
    return sock


def free_port() -> int:
    """A port below the ephemeral range: the system gives those to others at any time."""
    while True:
        port = _RANDOM.randrange(10_000, 32_768)
        with socket.socket() as sock, suppress(OSError):
            sock.bind(("127.0.0.1", port))
            return port


def own_address() -> str | None:
    """An address of this machine that is not loopback: the source of a packet to another network. None is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("203.0.113.1", 9))
        except OSError:
            return None
        address: str = sock.getsockname()[0]
        return address


@contextmanager
def at_a_terminal(*flags: str) -> Iterator[tuple[subprocess.Popen[bytes], bytes]]:
    """A server whose standard streams are a terminal: the process and its output at the start. The terminal is closed
    afterwards."""
    ours, terminal = pty.openpty()
    command = [sys.executable, "-m", "app", "serve", "--port", "0", "--tcp-port", "0", *flags]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True
    ) as process:
        try:
            os.close(terminal)
            output = b""
            while not output.endswith(b"/stream\r\n"):  # the last line
                output += os.read(ours, 1_000)
            os.close(ours)
            yield process, output
        finally:
            process.kill()


class ServerProcess:
    """A server as a child process."""

    def __init__(self, process: subprocess.Popen[str], port: int, tcp_port: int, banner: str) -> None:
        self.process = process
        self.host, self.port, self.tcp_port = "127.0.0.1", port, tcp_port
        self.url = f"{'https' if f'https://{self.host}:{port}' in banner else 'http'}://{self.host}:{self.port}"
        self.banner = banner

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the signal, and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)

    def complaints(self) -> list[str]:
        """Log lines after the start, without those of level info and reports of a slow machine. The server must have
        ended."""
        assert self.process.stderr
        return [line for line in self.process.stderr if " info " not in line and "the event loop stalled" not in line]

    def resident(self) -> int:
        """Resident memory in bytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def file_of(self, number: int) -> str:
        """The target of a file descriptor of the process."""
        return str(Path(f"/proc/{self.process.pid}/fd/{number}").readlink())


@contextmanager
def start_server(
    *flags: str, port: int = 0, tcp_port: int | None = None, program: Sequence[str] = ("app",)
) -> Iterator[ServerProcess]:
    """`plainmq serve` with these flags. A tcp_port of 0 means no line port. `program` is the module that is run, with
    its own arguments."""
    tcp_port = free_port() if tcp_port is None else tcp_port
    command = ["-m", *program, "serve", "--port", str(port), "--tcp-port", str(tcp_port), *flags]
    with _child(command, {}) as process:
        over_tls = "--tcp-tls" in flags
        last = ("s_client" if over_tls else "telnet://") if tcp_port else "  subscribe"
        banner = _read_until(process, last, '"message":"listening"')
        yield ServerProcess(process, _port_in(banner), tcp_port, banner)


@contextmanager
def start_uvicorn() -> Iterator[ServerProcess]:
    """`uvicorn app.main:app`: plain ASGI, without plainmq's own HTTP protocol."""
    with start_uvicorn_with() as process:
        yield process


@contextmanager
def start_uvicorn_with(**variables: str) -> Iterator[ServerProcess]:
    """The same, with these environment variables."""
    tcp_port = free_port()
    environment = {"PLAINMQ_TCP_PORT": str(tcp_port)} | variables
    with _child(["-m", "uvicorn", "app.main:app", "--port", "0"], environment) as process:
        banner = _read_until(process, "Uvicorn running")
        yield ServerProcess(process, _port_in(banner), tcp_port, banner)


@contextmanager
def _child(arguments: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, *arguments]
    process = forked.Popen[str](command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait(DEADLINE)
        assert process.stderr
        process.stderr.close()


def _read_until(process: subprocess.Popen[str], *ends: str) -> str:
    assert process.stderr
    lines = []
    for line in process.stderr:
        lines.append(line)
        if any(end in line for end in ends):
            break
    return "".join(lines)


def _port_in(banner: str) -> int:
    match = re.search(r"https?://[^/\s\"]+:(\d+)", banner)
    assert match, f"the server did not start: {banner}"
    return int(match[1])


WITHOUT_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # loading the trusted certificates takes 20 ms a client


def http_client(url: str = "", *, timeout: float = DEADLINE, **options: Any) -> httpx.AsyncClient:
    """A client with this base URL. It speaks TLS only if `verify` is given."""
    return httpx.AsyncClient(**{"verify": WITHOUT_TLS} | options, base_url=url, timeout=timeout)
