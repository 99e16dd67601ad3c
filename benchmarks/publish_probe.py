"""A process that publishes to a server at short intervals, and measures how long each publish waits for its answer."""

import multiprocessing as mp
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.harness import connect, receive_until
from tests.harness import ServerProcess

INTERVAL: Final = 0.005  # seconds between two publishes
TIMEOUT: Final = 120.0  # seconds


class Wait(NamedTuple):
    """The wait of one publish, in seconds; and the CPU time that the server and its event loop used meanwhile."""

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
    longest, loop_thread = NO_WAIT, threads / str(server.process.pid)
    with connect(server.port) as sock:
        sock.settimeout(TIMEOUT)
        while True:
            begin, server_cpu, loop_cpu = time.perf_counter(), sum(map(_cpu, threads.iterdir())), _cpu(loop_thread)
            sock.sendall(head + b"Content-Length: 5\r\n\r\nhello")
            receive_until(sock, b'"durability":')
            seconds, loop_cpu = time.perf_counter() - begin, _cpu(loop_thread) - loop_cpu
            wait = Wait(seconds, sum(map(_cpu, threads.iterdir())) - server_cpu, loop_cpu)
            longest = Wait(*map(max, longest, wait))
            if pipe.poll(max(INTERVAL - (time.perf_counter() - begin), 0.0)):
                pipe.recv()
                pipe.send(longest)
                longest = NO_WAIT


def _cpu(thread: Path) -> float:
    """Seconds of CPU time of a thread (`/proc/PID/task/TID`)."""
    return int((thread / "schedstat").read_text().split()[0]) / 1e9
