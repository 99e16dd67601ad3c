"""The same work, done by plainmq and by others in turn: what it costs them. How to read it: benchmarks/README.md.

    python -m benchmarks.compare [--rows ROW,...] [--peers PEER,...] [--rounds N] [--folder PATH]

Nothing is installed; servers that are not there are left out. Each server has one CPU for itself and the generator has
the others, where there is more than one. A row's figures are the best and the median of the rounds, in each of which
the servers take turns. The results are also written to the folder: the tables in report.md, all figures in report.json,
and plots where matplotlib is installed (the extra `bench`).
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from app.bench.coordinator import default_processes, run
from app.bench.wire_script import WireScript
from app.net.sockets import raise_open_files
from benchmarks.peers import PEERS, Started, present, started, version_of
from benchmarks.plots import draw
from benchmarks.report import Entry, Outcome, Report, write
from benchmarks.rows import ROWS, Case, Row, load
from tests.harness import ROOT


class Placing(NamedTuple):
    """Which CPUs are whose; empty is any."""

    server: frozenset[int]
    generator: frozenset[int]

    @classmethod
    def here(cls) -> "Placing":
        first, *others = sorted(os.sched_getaffinity(0))
        return cls(frozenset({first}), frozenset(others)) if others else cls(frozenset(), frozenset())


def measure(row: Row, peers: set[str], rounds: int, placing: Placing, **changes: Any) -> list[Entry]:
    """Our entry first. The changes are made to the row's load."""
    entries = [Entry(case, []) for case in (row.ours, *row.theirs) if case.peer in peers]
    changes = {"processes": default_processes(), "cpus": placing.generator} | changes
    with ExitStack() as stack:
        ready = [] if row.fresh else [stack.enter_context(_serving(row, entry.case, placing)) for entry in entries]
        for number in range(rounds):
            for place, entry in enumerate(entries):
                _say(f"{row.title}: round {number + 1} of {rounds}: {entry.case.name}")
                serving = _serving(row, entry.case, placing) if row.fresh else nullcontext(ready[place])
                with serving as (server, script):
                    entry.results.append(run(load(row, entry.case, server, script, changes), server.processes))
    return entries


@contextmanager
def _serving(row: Row, case: Case, placing: Placing) -> Iterator[tuple[Started, WireScript]]:
    with started(case.peer, placing.server) as server:
        script = server.peer.endpoints[case.endpoint].script(row.size)
        yield server, case.prepare(server, script) if case.prepare else script


def _say(text: str) -> None:
    """Where it is, for somebody who waits."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)  # noqa: T201


def compare(names: list[str], peers: set[str], rounds: int) -> Report:
    placing, begin = Placing.here(), time.monotonic()
    outcomes: dict[str, Outcome] = {}
    for name in names:
        row = ROWS[name]
        same = outcomes.get(row.like)
        entries = same.entries if same else measure(row, peers, min(rounds, row.rounds), placing)
        outcomes[name] = Outcome(name, row, entries)
        _say("")
        print(outcomes[name].table(), flush=True)  # noqa: T201
    used = {entry.case.peer for outcome in outcomes.values() for entry in outcome.entries}
    versions = {name: version_of(name) for name in PEERS if name in used}
    return Report(list(outcomes.values()), versions, rounds, time.monotonic() - begin)


def _names(known: dict[str, Any], what: str) -> Any:
    def read(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"no such {what}: {', '.join(unknown)}; there are {', '.join(known)}")
        return names

    return read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=_names(ROWS, "row"), default=[*ROWS], help=f"of {', '.join(ROWS)}  [all]")
    parser.add_argument("--peers", type=_names(PEERS, "peer"), default=[*PEERS], help=f"of {', '.join(PEERS)}  [all]")
    parser.add_argument("--rounds", type=int, default=7, help="short ones, since the machine may have other work  [7]")
    parser.add_argument("--folder", type=Path, default=ROOT / "benchmarks/results", help="[benchmarks/results]")
    options = parser.parse_args()
    raise_open_files()
    peers = {"plainmq", *filter(present, options.peers)}
    if absent := [name for name in options.peers if name not in peers]:
        print(f"not installed, left out: {', '.join(absent)}\n")  # noqa: T201
    report = compare(options.rows, peers, options.rounds)
    print(report.verdict())  # noqa: T201
    written = write(report, options.folder)
    try:
        written += draw(report, options.folder)
    except ImportError as error:
        print(f"no plots: {error} (pip install -e '.[bench]')")  # noqa: T201
    print("written: " + ", ".join(map(str, written)))  # noqa: T201


if __name__ == "__main__":
    main()
