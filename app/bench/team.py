"""The processes that make a load, and what came of it."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from socket import create_connection
from typing import Any, Final, NamedTuple, Self

from ..errors import PlainmqError
from ..errors.wording import cause
from .generator import Board, Joined, Report, generate
from .load import Load
from .processes import Family

BUSY: Final = 0.9  # of a core: who used more had no time to spare
PATIENCE: Final = 30.0  # seconds in which something must happen
LOOK: Final = 0.1  # seconds from one look at what was done to the next
MOST_PROCESSES: Final = 4

Progress = Callable[[str, int, float], None]  # what is counted, how many, and the part of the work that is over


class LoadFailed(PlainmqError):
    code = "load_failed"


class ServerUnreachable(LoadFailed):
    code = "server_unreachable"


class Latency(NamedTuple):
    """Microseconds, exact: of all that were read, sorted."""

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
    """What was measured. CPU and memory of the server are None where its process is not known."""

    readers: int
    join_seconds: float
    join_latency: Latency
    join_cpu: float | None
    published: int
    delivered: int
    seconds: float  # from the first publish to the last delivery, or answer
    latency: Latency  # from when a message was due to its deliveries
    answer_latency: Latency  # to the answer that it was taken
    last_reader: Latency  # to the last of its readers
    server_cpu: float | None
    memory: int | None  # bytes, with all readers idle, more than before
    generator_cpu: tuple[float, ...]  # seconds of each process, while it published

    @property
    def missing(self) -> int:
        """Deliveries that did not come, or (below 0) came twice."""
        return self.published * self.readers - self.delivered

    @property
    def bottleneck(self) -> str:
        """Who had no CPU time to spare while it was published: `generator`, `server`, `both` or `none`."""
        if not self.seconds:
            return "none"
        generator = max(self.generator_cpu, default=0.0) / self.seconds > BUSY
        server = (self.server_cpu or 0.0) / self.seconds > BUSY
        return {(True, True): "both", (True, False): "generator", (False, True): "server"}.get(
            (generator, server), "none"
        )


def quiet(_what: str, _done: int, _part: float) -> None:
    """Progress that nobody sees."""


def run(load: Load, server: Family | None = None, progress: Progress = quiet) -> Result:
    """Put the load on the server. Raises LoadFailed when it cannot be reached, refuses, closes or is silent."""
    load = load._replace(host=_address(load))
    with _Team(load) as team:
        before = server.resident() if server else 0
        watch = _Watch(server)
        team.tell("join")
        joined: list[Joined] = team.gather(lambda: team.show_joining(progress))
        join_cpu = watch.seconds()
        time.sleep(load.settle)
        memory = server.resident() - before if server else None
        watch = _Watch(server)
        team.tell("publish")
        reports: list[Report] = team.gather(lambda: team.show_publishing(progress, watch.begin))
        cpu = watch.seconds()
        team.tell("end")
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
        answer_latency=Latency.of(_all(report.answers for report in reports)),
        last_reader=Latency.of(_last(reports).values()),
        server_cpu=cpu,
        memory=memory,
        generator_cpu=tuple(report.cpu for report in reports),
    )


def _address(load: Load) -> str:
    """The host as a number that answers."""
    try:
        with create_connection((load.host, load.port), PATIENCE) as sock:
            address: str = sock.getpeername()[0]
            return address
    except OSError as error:
        raise ServerUnreachable(f"{load.host}:{load.port} cannot be reached: {cause(error)}") from None


class _Watch:
    """The server's CPU time since now."""

    def __init__(self, server: Family | None) -> None:
        self.begin = time.monotonic()
        self._server = server
        self._begin = server.cpu_seconds() if server else 0.0

    def seconds(self) -> float | None:
        return self._server.cpu_seconds() - self._begin if self._server else None


class _Team:
    """The processes, and the pipes to them. Whatever happens, they end."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self.board = Board(load.processes)
        self._pipes: list[Any] = []
        self._processes: list[BaseProcess] = []

    def __enter__(self) -> Self:
        context = get_context("forkserver")  # a plain fork would take the thread of a progress bar along
        context.set_forkserver_preload([generate.__module__])
        for share in self._load.shares():
            ours, theirs = context.Pipe()
            process = context.Process(target=generate, args=(share, self.board, theirs), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self.gather(lambda: None)  # what it costs to start them is over
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
            process.join()
        for pipe in self._pipes:
            pipe.close()

    def tell(self, word: str) -> None:
        for pipe in self._pipes:
            pipe.send(word)

    def gather(self, look: Callable[[], None]) -> list[Any]:
        """What each of them reports; `look` is called now and then meanwhile."""
        found = [self._receive(pipe, look) for pipe in self._pipes]
        look()
        return found

    def show_joining(self, progress: Progress) -> None:
        joined = sum(self.board.joined)
        progress("readers", joined, joined / max(self._load.readers, 1))

    def show_publishing(self, progress: Progress, begin: float) -> None:
        published = sum(self.board.published)
        over = max(published / max(self._load.messages, 1), (time.monotonic() - begin) / self._load.seconds)
        progress("messages", published, min(over, 1.0))

    def _receive(self, pipe: Any, look: Callable[[], None]) -> Any:
        state, since = self.board.state(), time.monotonic()
        while not pipe.poll(LOOK):
            look()
            before, state = state, self.board.state()
            if state != before:
                since = time.monotonic()
            elif time.monotonic() - since > PATIENCE:
                raise LoadFailed(f"nothing has happened for {PATIENCE:.0f} s")
        try:
            report = pipe.recv()
        except EOFError:
            raise LoadFailed("a process of the load generator has died") from None
        if isinstance(report, str):
            raise LoadFailed(report)
        return report


def _last(reports: list[Report]) -> dict[int, int]:
    """How long each message took to the last reader of all processes."""
    last: dict[int, int] = {}
    for report in reports:
        for due, latency in report.last.items():
            last[due] = max(latency, last.get(due, 0))
    return last


def _all(parts: Iterable[Iterable[int]]) -> Iterator[int]:
    for part in parts:
        yield from part


def processes() -> int:
    """How many a load is spread over: one core is for the server."""
    return max(1, min(MOST_PROCESSES, len(os.sched_getaffinity(0)) - 1))
