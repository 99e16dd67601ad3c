"""Runs a load: starts its processes, leads them through joining and publishing, and sums up their reports."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from socket import create_connection
from typing import Any, Final, NamedTuple, Self

from ...errors import PlainmqError
from ...errors.wording import cause
from .generator import JoinReport, PublishReport, Scoreboard, generate
from .load import Load
from .process_tree import ProcessTree

BUSY: Final = 0.9  # of a core: a process that used more had no CPU time to spare
PROGRESS_TIMEOUT: Final = 30.0  # seconds without any progress after which a load has failed
PROGRESS_INTERVAL: Final = 0.1  # seconds
MAX_PROCESSES: Final = 4

Progress = Callable[[str, int, float], None]  # the noun that is counted, the count, and the part that is done (0 to 1)


class LoadFailed(PlainmqError):
    code = "load_failed"


class ServerUnreachable(LoadFailed):
    code = "server_unreachable"


class Latency(NamedTuple):
    """Percentiles in microseconds. They are exact: computed from all samples, sorted."""

    samples: int
    p50: float
    p90: float
    p99: float
    p999: float
    max: float

    @classmethod
    def of(cls, nanoseconds: Iterable[int]) -> Self:
        values = sorted(nanoseconds)
        if not values:
            return cls(0, 0.0, 0.0, 0.0, 0.0, 0.0)
        p50, p90, p99, p999 = (values[int(len(values) * share)] / 1e3 for share in (0.5, 0.9, 0.99, 0.999))
        return cls(len(values), p50, p90, p99, p999, values[-1] / 1e3)


class Result(NamedTuple):
    """The measurements of a load. CPU time and memory of the server are None if its process is not known."""

    readers: int
    join_seconds: float
    join_latency: Latency
    join_cpu: float | None
    published: int
    delivered: int
    seconds: float  # from the first publish to the last delivery or answer
    latency: Latency  # from the time a message was due to each of its deliveries
    answer_latency: Latency  # from the time a message was due to the answer to its publish
    last_reader: Latency  # from the time a message was due to its last delivery
    server_cpu: float | None
    memory: int | None  # bytes, with all readers idle, more than before they joined
    generator_cpu: tuple[float, ...]  # seconds of each process while it published

    @property
    def missing(self) -> int:
        """Deliveries that did not come; negative: more came than were published."""
        return self.published * self.readers - self.delivered

    @property
    def bottleneck(self) -> str:
        """What had no CPU time to spare during publishing: `generator`, `server`, `both` or `none`."""
        if not self.seconds:
            return "none"
        generator = max(self.generator_cpu, default=0.0) / self.seconds > BUSY
        server = (self.server_cpu or 0.0) / self.seconds > BUSY
        return {(True, True): "both", (True, False): "generator", (False, True): "server"}.get(
            (generator, server), "none"
        )


def no_progress(_noun: str, _count: int, _part: float) -> None:
    """A Progress that shows nothing."""


def run(load: Load, server: ProcessTree | None = None, progress: Progress = no_progress) -> Result:
    """Put the load on the server. Raises LoadFailed if the server cannot be reached, refuses, closes or stalls."""
    load = load._replace(host=_address(load))
    with _Coordinator(load) as coordinator:
        memory_before = server.resident_bytes() if server else 0
        stopwatch = _Stopwatch(server)
        coordinator.send("join")
        joined: list[JoinReport] = coordinator.receive_all(lambda: coordinator.show_joining(progress))
        join_cpu = stopwatch.cpu_seconds()
        time.sleep(load.settle)
        memory = server.resident_bytes() - memory_before if server else None
        stopwatch = _Stopwatch(server)
        coordinator.send("publish")
        reports: list[PublishReport] = coordinator.receive_all(
            lambda: coordinator.show_publishing(progress, stopwatch.begin)
        )
        cpu = stopwatch.cpu_seconds()
        coordinator.send("end")
    begins = [report.begin for report in reports if report.published]
    return Result(
        readers=load.readers,
        join_seconds=(max(part.end for part in joined) - min(part.begin for part in joined)) / 1e9,
        join_latency=Latency.of(_all(part.latencies for part in joined)),
        join_cpu=join_cpu,
        published=sum(report.published for report in reports),
        delivered=sum(report.delivered for report in reports),
        seconds=(max(report.end for report in reports) - min(begins)) / 1e9 if begins else 0.0,
        latency=Latency.of(_all(report.latencies for report in reports)),
        answer_latency=Latency.of(_all(report.answer_latencies for report in reports)),
        last_reader=Latency.of(_last_latencies(reports).values()),
        server_cpu=cpu,
        memory=memory,
        generator_cpu=tuple(report.cpu for report in reports),
    )


def _address(load: Load) -> str:
    """A numeric address of the host that accepts connections."""
    try:
        with create_connection((load.host, load.port), PROGRESS_TIMEOUT) as sock:
            address: str = sock.getpeername()[0]
            return address
    except OSError as error:
        raise ServerUnreachable(f"{load.host}:{load.port} cannot be reached: {cause(error)}") from None


class _Stopwatch:
    """Measures the server's CPU time from its construction."""

    def __init__(self, server: ProcessTree | None) -> None:
        self.begin = time.monotonic()
        self._server = server
        self._cpu_begin = server.cpu_seconds() if server else 0.0

    def cpu_seconds(self) -> float | None:
        return self._server.cpu_seconds() - self._cpu_begin if self._server else None


class _Coordinator:
    """The processes and the pipes to them. The processes end with the `with` block, however it ends."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self.scoreboard = Scoreboard(load.processes)
        self._pipes: list[Any] = []
        self._processes: list[BaseProcess] = []

    def __enter__(self) -> Self:
        context = get_context("forkserver")  # a plain fork would copy the locks of a progress bar's thread
        context.set_forkserver_preload([generate.__module__])
        for share in self._load.shares():
            ours, theirs = context.Pipe()
            process = context.Process(target=generate, args=(share, self.scoreboard, theirs), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self.receive_all(lambda: None)  # all have started, so the cost of that is not measured
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
            process.join()
        for pipe in self._pipes:
            pipe.close()

    def send(self, command: str) -> None:
        for pipe in self._pipes:
            pipe.send(command)

    def receive_all(self, show: Callable[[], None]) -> list[Any]:
        """The report of each process. `show` is called every PROGRESS_INTERVAL meanwhile, and at the end."""
        reports = [self._receive(pipe, show) for pipe in self._pipes]
        show()
        return reports

    def show_joining(self, progress: Progress) -> None:
        joined = sum(self.scoreboard.joined)
        progress("readers", joined, joined / max(self._load.readers, 1))

    def show_publishing(self, progress: Progress, begin: float) -> None:
        published = sum(self.scoreboard.published)
        done = max(published / max(self._load.messages, 1), (time.monotonic() - begin) / self._load.seconds)
        progress("messages", published, min(done, 1.0))

    def _receive(self, pipe: Any, show: Callable[[], None]) -> Any:
        state, since = self.scoreboard.state(), time.monotonic()
        while not pipe.poll(PROGRESS_INTERVAL):
            show()
            before, state = state, self.scoreboard.state()
            if state != before:
                since = time.monotonic()
            elif time.monotonic() - since > PROGRESS_TIMEOUT:
                raise LoadFailed(f"the load made no progress for {PROGRESS_TIMEOUT:.0f} s")
        try:
            report = pipe.recv()
        except EOFError:
            raise LoadFailed("a process of the load generator died") from None
        if isinstance(report, str):
            raise LoadFailed(report)
        return report


def _last_latencies(reports: list[PublishReport]) -> dict[int, int]:
    """The time each message was due → its latency to the last reader of all processes."""
    last: dict[int, int] = {}
    for report in reports:
        for due, latency in report.last_latencies.items():
            last[due] = max(latency, last.get(due, 0))
    return last


def _all(parts: Iterable[Iterable[int]]) -> Iterator[int]:
    for part in parts:
        yield from part


def default_processes() -> int:
    """One process a core, up to MAX_PROCESSES, with one core left to the server."""
    return max(1, min(MAX_PROCESSES, len(os.sched_getaffinity(0)) - 1))
