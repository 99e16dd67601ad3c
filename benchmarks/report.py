"""The results of a comparison, as Markdown tables and as JSON."""

import json
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from app.cli.bench.coordinator import Latency, Result
from benchmarks.rows import Case, Row

GENERATOR: Final = "¹"  # marks a figure that the generator may have limited: it had no CPU time to spare


class Entry(NamedTuple):
    """A server in a row, with a result for each round."""

    case: Case
    results: list[Result]

    def best(self, row: Row) -> float:
        return min(map(row.figure, self.results))

    def median(self, row: Row) -> float:
        return statistics.median(map(row.figure, self.results))

    def rate(self) -> float:
        """Deliveries a second, or published messages if there are no readers, in the best round."""
        return max((one.delivered or one.published) / (one.seconds or 1.0) for one in self.results)

    def memory(self) -> float | None:
        """KiB a reader, in the first round: later, a server still has the memory of earlier readers."""
        first = self.results[0]
        return first.memory / 1024 / first.readers if first.memory is not None and first.readers else None

    def latency(self, name: str) -> float:
        """Milliseconds, the median of the rounds: of deliveries; without readers, of answers; without publishers, of
        joining."""
        values: list[float] = [getattr(_latency(one), name) for one in self.results]
        return statistics.median(values) / 1e3

    def missing(self) -> int:
        return sum(abs(one.missing) for one in self.results)

    def generator_bound(self) -> bool:
        return sum(one.bottleneck == "generator" for one in self.results) * 2 > len(self.results)


def _latency(result: Result) -> Latency:
    if not result.published:
        return result.join_latency
    return result.latency if result.readers else result.answer_latency


class GoalCheck(NamedTuple):
    row: str
    unit: str
    figure: float
    goal: float

    @property
    def met(self) -> bool:
        return self.figure <= self.goal


class Outcome(NamedTuple):
    """A row and its results. The first entry is plainmq."""

    name: str
    row: Row
    entries: list[Entry]

    def goal_checks(self) -> Iterator[GoalCheck]:
        """The figure of plainmq against each goal, best round against best round."""
        ours, *others = self.entries
        if self.row.goal is not None:
            yield GoalCheck(self.name, self.row.unit, ours.best(self.row), self.row.goal)
        for entry in others:
            if entry.case.goal is not None:
                ratio = ours.best(self.row) / entry.best(self.row)
                yield GoalCheck(self.name, f"of {entry.case.name}", ratio, entry.case.goal)

    def table(self) -> str:
        head = ["", f"best {self.row.unit}", "median", "ours/theirs", "goal", "per s", "p50 ms", "p90", "p99", "p99.9"]
        return (
            f"### {self.row.title} (`{self.name}`)\n\n{_markdown([[*head, 'KiB/reader', 'missing'], *self._lines()])}\n"
        )

    def _lines(self) -> Iterator[list[str]]:
        ours = self.entries[0].best(self.row)
        for entry in self.entries:
            first = entry is self.entries[0]
            goal = self.row.goal if first else entry.case.goal
            best, memory = entry.best(self.row), entry.memory()
            yield [
                entry.case.name,
                f"{best:.2f}" + GENERATOR * entry.generator_bound(),
                f"{entry.median(self.row):.2f}",
                "" if first else f"{ours / best:.2f}" if best else "-",
                "" if goal is None else f"{goal:g}",
                f"{entry.rate():,.0f}",
                *(f"{entry.latency(name):.2f}" for name in ("p50", "p90", "p99", "p999")),
                "" if memory is None else f"{memory:.1f}",
                str(entry.missing()),
            ]

    def data(self) -> dict[str, Any]:
        return {
            "row": self.name,
            "unit": self.row.unit,
            "goal": self.row.goal,
            "servers": [
                {
                    "server": entry.case.name,
                    "goal": entry.case.goal,
                    "best": entry.best(self.row),
                    "median": entry.median(self.row),
                    "rounds": [_plain(result) for result in entry.results],
                }
                for entry in self.entries
            ],
        }


def _plain(value: Any) -> Any:
    """Convert named tuples to dictionaries."""
    if hasattr(value, "_asdict"):
        return {name: _plain(part) for name, part in value._asdict().items()}
    return value


def _markdown(lines: list[list[str]]) -> str:
    """A table with aligned columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]

    def line(cells: list[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        return f"| {first[0]:<{first[1]}} | {' | '.join(f'{cell:>{width}}' for cell, width in others)} |"

    head, *rest = lines
    rule = f"|{'-' * (widths[0] + 2)}|{'|'.join('-' * (width + 1) + ':' for width in widths[1:])}|"
    return "\n".join([line(head), rule, *map(line, rest)])


class Report(NamedTuple):
    outcomes: list[Outcome]
    versions: dict[str, str]
    rounds: int
    seconds: float

    def goals(self) -> str:
        """A table of the goals, and whether each is met."""
        lines = [
            [one.row, one.unit, f"{one.figure:.2f}", f"{one.goal:g}", "yes" if one.met else "NO"]
            for outcome in self.outcomes
            for one in outcome.goal_checks()
        ]
        return f"### Goals\n\n{_markdown([['row', 'plainmq, best', 'is', 'goal', 'met'], *lines])}\n"

    def machine(self) -> dict[str, str]:
        return {
            "command": shlex.join(["python", "-m", "benchmarks.compare", *sys.argv[1:]]),
            "date": time.strftime("%Y-%m-%d"),
            "machine": f"{os.cpu_count()} CPUs, {_processor()}",
            "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
            "python": f"{platform.python_implementation()} {platform.python_version()}",
            "rounds": f"{self.rounds}, in {self.seconds / 60:.1f} minutes",
            **self.versions,
        }

    def markdown(self) -> str:
        facts = "\n".join(f"- {name}: {value}" for name, value in self.machine().items())
        note = f"{GENERATOR} the generator had no CPU time to spare while the server had.\n"
        return "\n".join(["# Comparison\n", facts, "", self.goals(), *(one.table() for one in self.outcomes), note])

    def data(self) -> dict[str, Any]:
        return {"about": self.machine(), "rows": [outcome.data() for outcome in self.outcomes]}


def _processor() -> str:
    names = (
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    )
    return next(names, platform.processor() or "unknown")


def write(report: Report, folder: Path) -> list[Path]:
    """Write the tables and the JSON. Returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    table, data = folder / "report.md", folder / "report.json"
    table.write_text(report.markdown())
    data.write_text(json.dumps(report.data(), indent=1))
    return [table, data]
