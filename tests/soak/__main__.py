"""A soak: an hour of mixed load by every protocol, with short-lived and interrupted connections. At the end the ledger
is checked, and that the server uses no more memory, files and tasks than after the first ten minutes.

    python -m tests.soak --engine memory --minutes 60

It writes the samples as CSV and as a plot (matplotlib, in the extra `bench`) to benchmarks/soak, and prints a report.
The exit status is 1 if a promise was broken or something grew. It takes about a tenth of one core.
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
from tests.soak.ledger import SoakLedger
from tests.soak.load import Load
from tests.soak.samples import BOUNDS, Row, find_growth, slope_per_hour, write

FLAGS = (
    "--max-messages", "300", "--topic-idle", "60s", "--stream-age", "5m", "--max-age", "1h", "--max-topics", "1000",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    from tests.soak.plot import plot  # fails now if there is no matplotlib, and not after an hour

    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with tempfile.TemporaryDirectory() as folder:
        engine = {"memory": "memory", "sqlite": f"sqlite://{folder}/soak.db"}[options.engine]
        with start_server("--engine", engine, *FLAGS) as server:
            output = ServerOutput(server)
            ledger, rows = uvloop.run(_soak(server, options))
            status = server.stop()
            output.wait()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / options.engine
    write(rows, path.with_suffix(".csv"))
    title = f"plainmq, {options.engine}: {options.minutes:g} minutes of mixed load"
    plot(rows, path.with_suffix(".png"), title, options.warm_up)
    return _report(options, ledger, rows, output, status)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="An hour of mixed load.")
    parser.add_argument("--engine", choices=("memory", "sqlite"), default="memory")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--warm-up", type=float, default=10.0, help="minutes after which nothing may grow")
    parser.add_argument("--rate", type=float, default=12.0, help="publishes a second")
    parser.add_argument("--churn", type=float, default=5.0, help="percent of the clients disconnected every 10 s")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between samples")
    parser.add_argument("--flat-or-not", action="store_true", help="check only the ledger, not the growth")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "soak")
    return parser


class ServerOutput:
    """Reads the server's standard error in a thread, so that the pipe never fills."""

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

    def wait(self) -> None:
        """Return when the server has ended."""
        self._thread.join(DEADLINE)


async def _soak(server: ServerProcess, options: argparse.Namespace) -> tuple[SoakLedger, list[Row]]:
    async with AsyncExitStack() as stack:
        load = await stack.enter_async_context(Load(server, options.rate, options.churn))
        rows = await load.run(options.minutes * 60, options.every)
    return load.ledger, rows


def _report(options: argparse.Namespace, ledger: SoakLedger, rows: list[Row], output: ServerOutput, status: int) -> int:
    faults = ledger.check()
    growth = find_growth(rows, options.warm_up * 60)
    last = rows[-1]
    print(f"{options.engine}, {options.minutes:g} minutes: {last['published']:.0f} published, ", end="")
    print(f"{last['delivered']:.0f} delivered, {len(ledger.publications)} in the ledger, ", end="")
    print(f"{len(ledger.subscribers)} subscribers; {last['cpu_s'] / last['seconds']:.1%} of a core")
    after_warm_up = [row for row in rows if row["seconds"] >= options.warm_up * 60]
    for column in BOUNDS:
        print(f"  {column}: {after_warm_up[0][column]:g} to {after_warm_up[-1][column]:g}", end=", ")
        print(f"{slope_per_hour(after_warm_up, column):+.2f} an hour")
    print(f"  ledger: {dict(faults) or 'no fault'}; acked again: {ledger.acked_again}; {ledger.details or ''}")
    unanswered = sum(map(len, ledger.maybe_acked.values()))
    print(f"  acks without an answer: {unanswered}; counts: {dict(sorted(ledger.counts.items()))}")
    print(
        f"  the server's exit status: {status}; it logged {output.lines} lines, the last:", *output.last, sep="\n    "
    )
    print("\n".join(growth) or "  flat")
    too_much = growth and not options.flat_or_not
    return 1 if faults or too_much or status or output.tracebacks else 0


if __name__ == "__main__":
    begin = time.monotonic()
    code = main()
    print(f"  took {time.monotonic() - begin:.0f} s")
    sys.exit(code)
