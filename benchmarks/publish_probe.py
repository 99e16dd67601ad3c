"""A process that publishes to a server at short intervals, and measures how long each publish waits for its answer.

A publish may wait for the disk through many turns of the event loop. So a second thread sends `ping` to the line port,
which is answered in the turn that reads it: the CPU time of the loop during one of these waits is that of a turn or
two."""

import multiprocessing as mp
import time
from collections import deque
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import Final, NamedTuple

from benchmarks.harness import connect, receive_until
from tests.harness import ServerProcess

INTERVAL: Final = 0.005  # seconds between two publishes
TIMEOUT: Final = 120.0  # seconds


class Wait(NamedTuple):
    """In seconds: the wait of one publish, the CPU time that the server used meanwhile, and the CPU time that its event
    loop used during the wait of one ping."""

    seconds: float
    server_cpu: float
    loop_cpu: float


NO_WAIT: Final = Wait(0.0, 0.0, 0.0)


class PublishProbe:
    """Runs from its construction until close()."""

    def __init__(self, server: ServerProcess, headers: bytes = b"") -> None:
        self._pipe, theirs = mp.Pipe()
        self._process = mp.get_context("fork").Process(target=_probe, args=(server, headers, theirs), daemon=True)
        self._process.start()
        self.take_longest()

    def take_longest(self) -> Wait:
        """The maximum of each field of Wait, over the publishes since the last call."""
        self._pipe.send(None)
        wait: Wait = self._pipe.recv()
        return wait

    def close(self) -> None:
        self._process.terminate()
        self._process.join()


def _probe(server: ServerProcess, headers: bytes, pipe: Connection) -> None:
    head = b"POST /topics/probe/messages HTTP/1.1\r\nHost: localhost\r\n" + headers
    threads = Path(f"/proc/{server.process.pid}/task")
    turns: deque[float] = deque()  # CPU time of the loop during each ping
    Thread(target=_ping, args=(server, threads / str(server.process.pid), turns), daemon=True).start()
    longest = NO_WAIT
    with connect(server.port) as sock:
        sock.settimeout(TIMEOUT)
        while True:
            begin, server_cpu = time.perf_counter(), sum(map(_cpu, threads.iterdir()))
            sock.sendall(head + b"Content-Length: 5\r\n\r\nhello")
            receive_until(sock, b'"durability":')
            seconds, server_cpu = time.perf_counter() - begin, sum(map(_cpu, threads.iterdir())) - server_cpu
            wait = Wait(seconds, server_cpu, max([turns.popleft() for _ in range(len(turns))], default=0.0))
            longest = Wait(*map(max, longest, wait))
            if pipe.poll(max(INTERVAL - (time.perf_counter() - begin), 0.0)):
                pipe.recv()
                pipe.send(longest)
                longest = NO_WAIT


def _ping(server: ServerProcess, loop_thread: Path, turns: deque[float]) -> None:
    with connect(server.tcp_port) as sock:
        sock.settimeout(TIMEOUT)
        while True:
            loop_cpu = _cpu(loop_thread)
            sock.sendall(b"ping\n")
            receive_until(sock, b"pong")
            turns.append(_cpu(loop_thread) - loop_cpu)
            time.sleep(INTERVAL)


def _cpu(thread: Path) -> float:
    """Seconds of CPU time of a thread (`/proc/PID/task/TID`)."""
    return int((thread / "schedstat").read_text().split()[0]) / 1e9
