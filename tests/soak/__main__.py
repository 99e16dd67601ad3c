"""A soak: mixed load through every door for an hour, with connections that come and go; then the ledger is checked, and
whether the server holds no more at the end than after the first ten minutes.

    python -m tests.soak --engine memory --minutes 60

It writes a CSV of what was sampled and a plot of it (matplotlib, in the extra `bench`) to benchmarks/soak, prints what
it found, and ends with status 1 if a promise was broken or something grew. It takes about a tenth of one core.
"""

import argparse
import resource
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import uvloop

from tests.harness import DEADLINE, ROOT, ServerProcess, start_server
from tests.soak.book import Book
from tests.soak.load import Load
from tests.soak.samples import BOUNDS, Row, rise, rising, write

FLAGS = (
    "--max-messages", "300", "--topic-idle", "60s", "--stream-age", "5m", "--max-age", "1h", "--max-topics", "1000",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    from tests.soak.plot import plot  # now, and not after an hour, if there is no matplotlib

    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with tempfile.TemporaryDirectory() as folder:
        engine = {"memory": "memory", "sqlite": f"sqlite://{folder}/soak.db"}[options.engine]
        with start_server("--engine", engine, *FLAGS) as server:
            said = Said(server)
            book, rows = uvloop.run(_soak(server, options))
            status = server.stop()
            said.all()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / options.engine
    write(rows, path.with_suffix(".csv"))
    title = f"plainmq, {options.engine}: {options.minutes:g} minutes of mixed load"
    plot(rows, path.with_suffix(".png"), title, options.warm_up)
    return _report(options, book, rows, said, status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Mixed load for an hour.")
    parser.add_argument("--engine", choices=("memory", "sqlite"), default="memory")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--warm-up", type=float, default=10.0, help="minutes after which nothing may grow")
    parser.add_argument("--rate", type=float, default=12.0, help="publishes a second")
    parser.add_argument("--churn", type=float, default=5.0, help="percent of the readers that are cut every 10 seconds")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between samples")
    parser.add_argument("--flat-or-not", action="store_true", help="judge the ledger only")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "soak")
    return parser


class Said:
    """What the server says on its standard error, read as it comes: a pipe that nobody reads could stop it."""

    def __init__(self, server: ServerProcess) -> None:
        self.lines = 0
        self.tracebacks = 0
        self.last: deque[str] = deque(maxlen=5)
        self._thread = threading.Thread(target=self._read, args=(server.process.stderr,), daemon=True)
        self._thread.start()

    def _read(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.lines += 1
            self.tracebacks += "Traceback" in line
            self.last.append(line.rstrip())

    def all(self) -> "Said":
        """When the server has ended."""
        self._thread.join(DEADLINE)
        return self


async def _soak(server: ServerProcess, options: argparse.Namespace) -> tuple[Book, list[Row]]:
    async with AsyncExitStack() as stack:
        load = await stack.enter_async_context(Load(server, options.rate, options.churn))
        rows = await load.run(options.minutes * 60, options.every)
    return load.book, rows


def _report(options: argparse.Namespace, book: Book, rows: list[Row], said: Said, status: int) -> int:
    faults = book.check()
    grown = rising(rows, options.warm_up * 60)
    last = rows[-1]
    print(f"{options.engine}, {options.minutes:g} minutes: {last['published']:.0f} published, ", end="")
    print(f"{last['delivered']:.0f} delivered, {len(book.sent)} in the ledger, {len(book.readers)} readers;", end=" ")
    print(f"{last['cpu_s'] / last['seconds']:.1%} of a core")
    late = [row for row in rows if row["seconds"] >= options.warm_up * 60]
    for column in BOUNDS:
        print(f"  {column}: {late[0][column]:g} to {late[-1][column]:g}, {rise(late, column):+.2f} an hour")
    print(f"  ledger: {dict(faults) or 'no fault'}; work done twice: {book.done_twice}; {book.whose or ''}")
    unknown = sum(map(len, book.perhaps_acked.values()))
    print(f"  acks without an answer: {unknown}; notes: {dict(sorted(book.notes.items()))}")
    print(f"  the server's exit status: {status}; it said {said.lines} lines, the last:", *said.last, sep="\n    ")
    print("  flat" if not grown else "\n".join(grown))
    grown = [] if options.flat_or_not else grown
    return 1 if faults or grown or status or said.tracebacks else 0


if __name__ == "__main__":
    begun = time.monotonic()
    code = main()
    print(f"  took {time.monotonic() - begun:.0f} s")
    sys.exit(code)
