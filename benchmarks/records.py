"""Access log: server CPU a publish (on the fast path and through ASGI) and a line, for each --access-log.

    python -m benchmarks.records [--rounds 10] [--count 2000] [--with FOLDER]

`--with`: another working copy of plainmq, which is measured in turn with this one, under the same conditions. Records
are written to a file. All servers run at the same time and are loaded in turn, in case the machine has other work. Only
their own CPU time counts.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from app.cli.bench.process_tree import ProcessTree
from benchmarks.harness import child
from tests.harness import ROOT, free_port

PLAIN = b"POST /topics/a/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
BY_ASGI = PLAIN.replace(b"/messages", b"/messages?event=x")
NOT_FOUND = b"GET /topics/none HTTP/1.1\r\nHost: localhost\r\n\r\n"
LINE = b'{"command":"send","topic":"a","msg":"hello","delivery":"all"}\n'
CONNECTIONS = 20


@contextmanager
def server(source: Path, folder: Path, *flags: str) -> Iterator[tuple[int, int, int]]:
    """Start a server from that working copy, with its log in the folder. Yields its pid, HTTP port and line port."""
    port, tcp_port = free_port(), free_port()
    command = [sys.executable, "-m", "app", "serve", "--port", str(port), "--tcp-port", str(tcp_port), *flags]
    with child(command, [port, tcp_port], folder / f"log{port}", source=source) as pid:
        yield pid, port, tcp_port


async def send(port: int, request: bytes, end: bytes, count: int, at_once: int) -> None:
    """Send the request `count` times: `at_once` in one write, and the next when these are answered.

    They are spread over all connections. Each answer ends with `end`.
    """

    async def on_one_connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(count // at_once // CONNECTIONS):
            writer.write(request * at_once)
            for _ in range(at_once):
                await reader.readuntil(end)
        writer.close()

    await asyncio.gather(*(on_one_connection() for _ in range(CONNECTIONS)))


LOADS = {  # request, end of each answer, index of the port, requests in one write, multiple of --count
    "publish, fast path": (PLAIN, b"}\n", 0, 1, 2),
    "publish, by ASGI": (BY_ASGI, b"}\n", 0, 1, 1),
    "404, by ASGI": (NOT_FOUND, b"}\n", 0, 1, 1),
    "send, line port": (LINE, b"\r\n", 1, 50, 10),
}


async def measure(pid: int, ports: Sequence[int], load: str, count: int) -> float:
    """Microseconds of the server's CPU time a request."""
    request, end, port, at_once, times = LOADS[load]
    before = ProcessTree(pid).cpu_seconds()
    await send(ports[port], request, end, count * times, at_once)
    return (ProcessTree(pid).cpu_seconds() - before) / (count * times) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--count", type=int, default=2_000)
    parser.add_argument("--with", dest="other", type=Path)
    options = parser.parse_args()
    variants: dict[str, tuple[Path, tuple[str, ...]]] = {"other": (options.other, ())} if options.other else {}
    variants |= {which: (ROOT, ("--access-log", which)) for which in ("none", "errors", "all")}
    variants["all, json"] = ROOT, ("--access-log", "all", "--log-format", "json")
    results: dict[tuple[str, str], list[float]] = {(load, variant): [] for load in LOADS for variant in variants}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        servers = {
            variant: stack.enter_context(server(source, Path(folder), *flags))
            for variant, (source, flags) in variants.items()
        }
        for round in range(options.rounds + 1):
            for (load, variant), figures in results.items():
                pid, *ports = servers[variant]
                figure = asyncio.run(measure(pid, ports, load, options.count))
                if round:  # the first warms up
                    figures.append(figure)
    print(f"{'µs of server CPU, median':26}" + "".join(f"{variant:>11}" for variant in variants))  # noqa: T201
    for load in LOADS:
        print(f"{load:26}" + "".join(f"{median(results[load, variant]):11.1f}" for variant in variants))  # noqa: T201


if __name__ == "__main__":
    main()
