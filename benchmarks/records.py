"""What a record costs: server CPU per publish (the short cut, and by way of ASGI) and per line, for each --access-log.

    python -m benchmarks.records [--rounds 10] [--count 2000] [--with FOLDER]

`--with`: another working copy of plainmq, to be measured between ours, so that both have the same machine. Records go
to a file. All servers run at once and are loaded in turn, since the machine may be busy. Only their own CPU counts.
"""

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from tests.harness import ROOT, free_port

PLAIN = b"POST /topics/a/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
LONG_WAY = PLAIN.replace(b"/messages", b"/messages?event=x")
NOT_FOUND = b"GET /topics/none HTTP/1.1\r\nHost: localhost\r\n\r\n"
LINE = b'{"command":"send","topic":"a","msg":"hello","delivery":"all"}\n'
CONNECTIONS = 20


@contextmanager
def server(folder: Path, *flags: str) -> Iterator[tuple[int, int, int]]:
    """(pid, port, tcp port)"""
    port, tcp_port = free_port(), free_port()
    command = [sys.executable, "-m", "app", "serve", "--port", str(port), "--tcp-port", str(tcp_port), *flags]
    with tempfile.TemporaryFile() as stderr:
        environment = os.environ | {"PYTHONPATH": str(folder)}
        process = subprocess.Popen(command, cwd=folder, stderr=stderr, env=environment)  # noqa: S603
        try:
            deadline = time.monotonic() + 20
            while not re.search(rb'telnet://|"listening"', os.pread(stderr.fileno(), 9_999, 0)):
                assert process.poll() is None, "the server did not start"
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield process.pid, port, tcp_port
        finally:
            process.kill()
            process.wait()


def cpu(pid: int) -> float:
    """Seconds of CPU that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def ask(port: int, what: bytes, end: bytes, count: int, at_once: int) -> None:
    """On each of the connections, `at_once` of them in one write, and the next when these are answered."""

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(count // at_once // CONNECTIONS):
            writer.write(what * at_once)
            for _ in range(at_once):
                await reader.readuntil(end)
        writer.close()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))


LOADS = {  # what is sent, how each answer ends, the endpoint, how many in one write, how many times as many
    "publish, short cut": (PLAIN, b"}\n", 0, 1, 2),
    "publish, by ASGI": (LONG_WAY, b"}\n", 0, 1, 1),
    "404, by ASGI": (NOT_FOUND, b"}\n", 0, 1, 1),
    "send, line port": (LINE, b"\r\n", 1, 50, 10),
}


async def measure(pid: int, ports: Sequence[int], load: str, count: int) -> float:
    """Microseconds of the server's CPU for one."""
    what, end, endpoint, at_once, times = LOADS[load]
    before = cpu(pid)
    await ask(ports[endpoint], what, end, count * times, at_once)
    return (cpu(pid) - before) / (count * times) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--count", type=int, default=2_000)
    parser.add_argument("--with", dest="other", type=Path)
    options = parser.parse_args()
    ways: dict[str, tuple[Path, tuple[str, ...]]] = {"other": (options.other, ())} if options.other else {}
    ways |= {which: (ROOT, ("--access-log", which)) for which in ("none", "errors", "all")}
    ways["all, json"] = ROOT, ("--access-log", "all", "--log-format", "json")
    found: dict[tuple[str, str], list[float]] = {(load, way): [] for load in LOADS for way in ways}
    with ExitStack() as stack:
        servers = {way: stack.enter_context(server(folder, *flags)) for way, (folder, flags) in ways.items()}
        for round in range(options.rounds + 1):
            for (load, way), figures in found.items():
                pid, *ports = servers[way]
                figure = asyncio.run(measure(pid, ports, load, options.count))
                if round:  # the first warms up
                    figures.append(figure)
    print(f"{'µs of server CPU, median':26}" + "".join(f"{way:>11}" for way in ways))  # noqa: T201
    for load in LOADS:
        print(f"{load:26}" + "".join(f"{median(found[load, way]):11.1f}" for way in ways))  # noqa: T201


if __name__ == "__main__":
    main()
