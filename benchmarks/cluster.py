"""What several servers on one Redis or NATS cost, beside one server in memory, nchan, Redis Streams and JetStream.

    python -m benchmarks.cluster [--parts PART,...] [--rounds N] [--seconds S] [--size BYTES]

The parts:

    publish    by HTTP to one server, or to three in turn, with 1 and with 64 connections
    elsewhere  the time from a publish at one server to the delivery by another: 200 messages a second, and as many as
               64 connections publish
    fan-out    200 subscribers at each server; in the last rows all messages are published at one

`python -m benchmarks.groups --redis` measures work queues.

A row gives messages (or deliveries) a second, microseconds of CPU time for each, of all servers and of the journal
(Redis, or JetStream) behind them, and percentiles in milliseconds: of deliveries where there are subscribers, else of
answers. The deployments take turns, and the row shows the round with the least CPU time of the servers; if there is
none but a journal, of the journal.

Redis Streams and JetStream are loaded by the same raw sockets as the others, and answer no HTTP. For `elsewhere` they
are used as an application would, with redis-py (XADD, and XREAD in a loop) and nats-py (a push consumer), in one
process with the subscriber. Nothing is synced to a disk; all data is in memory, but the log of plainmq in JetStream is
in files. JetStream has one server and no replica. Programs that are not installed are left out.
"""

import argparse
import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final, NamedTuple

from app.cli.bench.coordinator import Latency, Result, default_processes, run
from app.cli.bench.load import Load
from app.net.sockets import raise_open_files
from benchmarks.deployments import KINDS, Deployment
from benchmarks.own_clients import OWN_CLIENTS, latency

MAX_MESSAGES: Final = 10_000_000  # in a round
SERVERS: Final = 3
ONE, MANY = {"publishers": 1}, {"publishers": 64}
STEADY: Final = {"publishers": 1, "rate": 200.0}
READERS: Final = 200  # at each server


class Row(NamedTuple):
    name: str
    deployment: Deployment
    load: dict[str, Any]


class Figures(NamedTuple):
    """`per_second`: messages, or deliveries. CPU: microseconds for each."""

    per_second: float
    servers: float
    journal: float
    latency: Latency

    @classmethod
    def of(cls, result: Result, journal_cpu: float) -> "Figures":
        count = max(result.delivered or result.published, 1)
        latency = result.latency if result.readers else result.answer_latency
        cpu = (result.server_cpu or 0.0) * 1e6 / count
        return cls(count / result.seconds, cpu, journal_cpu * 1e6 / count, latency)

    @property
    def cpu(self) -> float:
        return self.servers or self.journal

    def line(self, name: str) -> str:
        latency = "".join(f"{value / 1e3:9.2f}" for value in (self.latency.p50, self.latency.p99))
        return f"  {name:58s} {self.per_second:10,.0f} {self.servers:9.2f} {self.journal:9.2f} {latency}"


HEAD: Final = f"  {'':58s} {'per s':>10s} {'µs':>9s} {'journal':>9s} {'p50 ms':>9s}{'p99':>9s}"


def publish_rows(start: Callable[[str, int], Deployment]) -> Iterator[Row]:
    deployments = [start("memory", 1), start("redis", 1), start("redis", SERVERS), start("nchan", 1)]
    deployments += [start("xadd", 1), start("nats", 1), start("jetstream", 1)]
    for load in (ONE, MANY):
        for deployment in filter(None, deployments):
            yield Row(f"{deployment.name}: {load['publishers']} publishers", deployment, load)


def elsewhere_rows(start: Callable[[str, int], Deployment]) -> Iterator[Row]:
    for load, title in ((STEADY, "200/s"), (MANY | {"window": 64}, "64 publishers")):
        for deployment in filter(None, (start("redis", 2), start("nats", 2), start("nchan", 2))):
            here, there = deployment.ports
            ports = {"publisher_ports": (here,), "reader_ports": (there,), "readers": 1}
            yield Row(f"{deployment.name}: {title}", deployment, load | ports)


def fan_out_rows(start: Callable[[str, int], Deployment]) -> Iterator[Row]:
    load = {"publishers": 16, "window": 64}
    deployments = [start("memory", 1), start("redis", 1), start("redis", SERVERS), start("nchan", SERVERS)]
    for deployment in filter(None, deployments):
        readers = READERS * len(deployment.ports)
        yield Row(f"{deployment.name}: {readers} subscribers", deployment, load | {"readers": readers})
    for deployment in filter(None, deployments[2:]):
        at_one = {"readers": READERS * SERVERS, "publisher_ports": deployment.ports[:1]}
        yield Row(f"{deployment.name}: {READERS * SERVERS}, publish at one", deployment, load | at_one)


ROWS: Final = {"publish": publish_rows, "elsewhere": elsewhere_rows, "fan-out": fan_out_rows}


def measure(row: Row, seconds: float) -> Figures:
    deployment = row.deployment
    ports = {"reader_ports": deployment.ports, "publisher_ports": deployment.ports}
    load = Load("127.0.0.1", deployment.ports[0], deployment.script, messages=MAX_MESSAGES, seconds=seconds)
    load = load._replace(processes=default_processes(), **(ports | row.load))
    begin = deployment.journal.cpu_seconds()
    result = run(load, deployment.servers)
    if result.missing and result.readers:
        raise SystemExit(f"{row.name}: {result.missing} deliveries are missing")
    return Figures.of(result, deployment.journal.cpu_seconds() - begin)


def compare(part: str, rounds: int, seconds: float, size: int) -> None:
    with ExitStack() as stack:
        known: dict[tuple[str, int], Deployment] = {}

        def start(kind: str, count: int) -> Deployment:
            if (kind, count) not in known and KINDS[kind].is_installed():
                known[kind, count] = stack.enter_context(KINDS[kind].start(count, size))
            return known.get((kind, count))  # type: ignore[return-value]  # None: not installed

        rows = [*ROWS[part](start)]
        figures = [[measure(row, seconds) for row in rows] for _ in range(rounds)]
        for row, results in zip(rows, zip(*figures, strict=True), strict=True):
            print(min(results, key=lambda one: one.cpu).line(row.name), flush=True)  # noqa: T201


async def elsewhere_by_own_clients(rounds: int, seconds: float, size: int) -> None:
    for name, (program, _) in OWN_CLIENTS.items():
        for title, publishers, rate in (("200/s", 1, STEADY["rate"]), ("64 publishers", 64, 0.0)):
            if shutil.which(program):
                results = [await latency(name, publishers, rate, seconds, size) for _ in range(rounds)]
                count, best = min(results, key=lambda one: one[1].p50)
                print(Figures(count / seconds, 0.0, 0.0, best).line(f"{name}: {title}"), flush=True)  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(ROWS), help=f"some of {', '.join(ROWS)}  [all]")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each row  [5]")
    parser.add_argument("--seconds", type=float, default=1.0, help="duration of a row in each round  [1]")
    parser.add_argument("--size", type=int, default=64, help="bytes in a message  [64]")
    options = parser.parse_args()
    parts = options.parts.split(",")
    if unknown := [part for part in parts if part not in ROWS]:
        parser.error(f"no such part: {', '.join(unknown)}; known are {', '.join(ROWS)}")
    raise_open_files()
    for part in parts:
        print(f"{part}\n{HEAD}")  # noqa: T201
        compare(part, options.rounds, options.seconds, options.size)
        if part == "elsewhere":
            asyncio.run(elsewhere_by_own_clients(options.rounds, options.seconds, options.size))


if __name__ == "__main__":
    main()
