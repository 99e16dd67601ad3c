"""Compares plainmq with other servers under the same loads. benchmarks/README.md says how to read the results.

    python -m benchmarks.compare [--rows ROW,...] [--peers PEER,...] [--rounds N] [--folder PATH]

Servers that are not installed are left out. If there is more than one CPU, the server has one for itself and the
generator has the others. In each round the servers take turns; a row's figures are the best and the median of its
rounds. The results are also written to the folder: tables in report.md, all figures in report.json, and plots if
matplotlib is installed (the extra `bench`).
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from app.cli.bench.coordinator import default_processes, run
from app.cli.bench.wire_script import WireScript
from app.net.sockets import raise_open_files
from benchmarks.peers import PEERS, RunningServer, is_installed, running_server, version_of
from benchmarks.plots import draw
from benchmarks.report import Entry, Outcome, Report, write
from benchmarks.rows import ROWS, Case, Row, load
from tests.harness import ROOT


class CpuPlacement(NamedTuple):
    """The CPUs that the server and the generator may use; empty: any."""

    server: frozenset[int]
    generator: frozenset[int]

    @classmethod
    def of_this_machine(cls) -> "CpuPlacement":
        first, *others = sorted(os.sched_getaffinity(0))
        return cls(frozenset({first}), frozenset(others)) if others else cls(frozenset(), frozenset())


def measure(row: Row, peers: set[str], rounds: int, placement: CpuPlacement, **changes: Any) -> list[Entry]:
    """An entry for each server, plainmq first. `changes` replace fields of the row's load."""
    entries = [Entry(case, []) for case in (row.ours, *row.theirs) if case.peer in peers]
    changes = {"processes": default_processes(), "cpus": placement.generator} | changes
    with ExitStack() as stack:
        running = [] if row.fresh else [stack.enter_context(_serving(row, entry.case, placement)) for entry in entries]
        for number in range(rounds):
            for index, entry in enumerate(entries):
                _show_status(f"{row.title}: round {number + 1} of {rounds}: {entry.case.name}")
                serving = _serving(row, entry.case, placement) if row.fresh else nullcontext(running[index])
                with serving as (server, script):
                    entry.results.append(run(load(row, entry.case, server, script, changes), server.processes))
    return entries


@contextmanager
def _serving(row: Row, case: Case, placement: CpuPlacement) -> Iterator[tuple[RunningServer, WireScript]]:
    with running_server(case.peer, placement.server) as server:
        script = server.peer.endpoints[case.endpoint].script(row.size)
        yield server, case.prepare(server, script) if case.prepare else script


def _show_status(text: str) -> None:
    """Replace the status line of the terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)  # noqa: T201


def compare(names: list[str], peers: set[str], rounds: int) -> Report:
    placement, begin = CpuPlacement.of_this_machine(), time.monotonic()
    outcomes: dict[str, Outcome] = {}
    for name in names:
        row = ROWS[name]
        measured = outcomes.get(row.same_as)
        entries = measured.entries if measured else measure(row, peers, min(rounds, row.rounds), placement)
        outcomes[name] = Outcome(name, row, entries)
        _show_status("")
        print(outcomes[name].table(), flush=True)  # noqa: T201
    used = {entry.case.peer for outcome in outcomes.values() for entry in outcome.entries}
    versions = {name: version_of(name) for name in PEERS if name in used}
    return Report(list(outcomes.values()), versions, rounds, time.monotonic() - begin)


def _names(known: dict[str, Any], noun: str) -> Any:
    def read(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"no such {noun}: {', '.join(unknown)}; known are {', '.join(known)}")
        return names

    return read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=_names(ROWS, "row"), default=[*ROWS], help=f"some of {', '.join(ROWS)}  [all]")
    parser.add_argument(
        "--peers", type=_names(PEERS, "peer"), default=[*PEERS], help=f"some of {', '.join(PEERS)}  [all]"
    )
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each row  [7]")
    parser.add_argument(
        "--folder",
        type=Path,
        default=ROOT / "benchmarks/results",
        help="where to write the results  [benchmarks/results]",
    )
    options = parser.parse_args()
    raise_open_files()
    peers = {"plainmq", *filter(is_installed, options.peers)}
    if absent := [name for name in options.peers if name not in peers]:
        print(f"not installed, left out: {', '.join(absent)}\n")  # noqa: T201
    report = compare(options.rows, peers, options.rounds)
    print(report.goals())  # noqa: T201
    written = write(report, options.folder)
    try:
        written += draw(report, options.folder)
    except ImportError as error:
        print(f"no plots: {error} (pip install -e '.[bench]')")  # noqa: T201
    print("written: " + ", ".join(map(str, written)))  # noqa: T201


if __name__ == "__main__":
    main()
