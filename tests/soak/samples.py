"""Samples of a server's memory, files, tasks and counters; and a check that they do not grow."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, linear_regression
from typing import Final, NamedTuple

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.harness import ServerProcess

COLUMNS: Final = (
    "seconds", "rss_mib", "fds", "tasks", "subscribers", "topics", "messages", "log_mib", "published", "delivered",
    "evictions", "gaps", "loop_delay_s", "cpu_s",
)  # fmt: skip

Row = dict[str, float]


class Bound(NamedTuple):
    """How much a line fitted to the samples may rise an hour: `absolute`, or `share` of their mean if that is more."""

    absolute: float
    share: float


# Above the noise of these figures, and below a leak that matters: 30 bytes a message are found.
BOUNDS: Final[Mapping[str, Bound]] = {
    "rss_mib": Bound(2.0, 0.03),
    "fds": Bound(1.0, 0.03),
    "tasks": Bound(1.0, 0.03),
    "subscribers": Bound(1.0, 0.03),
}


async def sample(server: ServerProcess, http: httpx.AsyncClient, seconds: float) -> Row:
    numbers: dict[str, float] = {}
    for family in text_string_to_metric_families((await http.get("/metrics")).raise_for_status().text):
        for each in family.samples:
            numbers[each.name] = numbers.get(each.name, 0.0) + each.value
    values = (
        round(seconds, 1),
        round(server.resident() / (1 << 20), 2),
        server.open_files(),
        numbers["plainmq_tasks"],
        numbers["plainmq_subscribers"],
        numbers["plainmq_topics"],
        numbers["plainmq_messages"],
        round(numbers["plainmq_log_bytes"] / (1 << 20), 2),
        numbers["plainmq_messages_published_total"],
        numbers["plainmq_messages_delivered_total"],
        numbers["plainmq_evictions_total"],
        numbers["plainmq_gaps_total"],
        round(numbers["plainmq_event_loop_delay_seconds_sum"], 3),
        round(_cpu(server), 2),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _cpu(server: ServerProcess) -> float:
    """Seconds of CPU time of the server."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def slope_per_hour(rows: Sequence[Row], column: str) -> float:
    """The slope of a line that is fitted to the samples."""
    return linear_regression([row["seconds"] for row in rows], [row[column] for row in rows]).slope * 3_600


def find_growth(rows: Sequence[Row], warm_up: float) -> list[str]:
    """Sentences about the columns that grow after `warm_up` seconds; empty if none does."""
    rows = [row for row in rows if row["seconds"] >= warm_up]
    found = []
    for column, bound in BOUNDS.items():
        mean = fmean(row[column] for row in rows)
        most = max(bound.absolute, bound.share * mean)
        if (slope := slope_per_hour(rows, column)) > most:
            found.append(f"{column} rises by {slope:.2f} an hour (mean {mean:.1f}); at most {most:.2f} is flat")
    return found


def write(rows: Sequence[Row], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {name: f"{value:g}" if value < 1e6 else f"{value:.0f}" for name, value in row.items()} for row in rows
        )


def read(path: Path) -> list[Row]:
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
