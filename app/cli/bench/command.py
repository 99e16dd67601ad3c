"""The command `plainmq bench`: runs workloads against a running server, one after the other, and reports on each."""

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from ipaddress import ip_address
from typing import Any, Final, NamedTuple

import msgspec

from ...client.commands import Exit
from ...errors import PlainmqError
from .coordinator import Latency, LoadFailed, Progress, Result, ServerUnreachable, default_processes, run
from .load import Load
from .process_tree import ProcessTree, listener_of
from .wire_script import WireScript, http, lines

GENERATOR_BUSY: Final = (
    "the generator had no CPU time to spare: the server may be faster (use more --processes, or another machine)"
)


class NotLoopback(PlainmqError):
    code = "not_loopback"


class Options(NamedTuple):
    """The options of the command. None: the workload's default."""

    host: str
    port: int
    name: str  # of the server, for the Host header
    line_port: bool
    token: str | None
    topic: str
    size: int
    readers: int | None
    publishers: int
    messages: int
    seconds: float
    rate: float
    window: int
    at_once: int
    processes: int | None
    pid: int | None
    remote: bool

    def script(self) -> WireScript:
        if self.line_port:
            return lines(self.topic, self.size, self.token)
        header = f"Authorization: Bearer {self.token}\r\n" if self.token else ""
        batch = self.at_once if self.at_once > 1 else 0
        return http(self.topic, self.size, self.name, header.encode(), batch)

    def load(self, **workload: Any) -> Load:
        at_once = self.at_once if self.line_port else 1
        processes = self.processes or default_processes()
        return Load(self.host, self.port, self.script(), at_once=at_once, processes=processes, **workload)

    def publishing(self) -> dict[str, Any]:
        return {"publishers": self.publishers, "messages": self.messages, "seconds": self.seconds}

    def server(self) -> ProcessTree | None:
        """The processes whose CPU time and memory is read: those of --pid, or of what listens at the port here."""
        pid = self.pid or listener_of(self.port)
        return ProcessTree(pid) if pid else None


class Workload(NamedTuple):
    load: Callable[[Options], Load]
    report: Callable[[Result], Iterator[str]]


def _publish(options: Options) -> Load:
    return options.load(**options.publishing())


def _fan_out(options: Options) -> Load:
    return options.load(**options.publishing(), readers=options.readers or 200, window=options.window)


def _latency(options: Options) -> Load:
    readers = options.readers or 200
    return options.load(**options.publishing(), readers=readers, rate=options.rate / options.script().messages)


def _connect(options: Options) -> Load:
    return options.load(readers=options.readers or 1_000)


def _idle(options: Options) -> Load:
    return options.load(readers=options.readers or 1_000, settle=1.0)


def _report_publishing(result: Result) -> Iterator[str]:
    seconds = result.seconds or 1.0
    yield f"published          {result.published:,}, {result.published / seconds:,.0f} a second"
    if result.readers:
        yield f"delivered          {result.delivered:,}, {result.delivered / seconds:,.0f} a second"
        yield from _report_latency("delivery latency", result.latency)
        yield from _report_latency("last delivery", result.last_reader)
    yield from _report_latency("answer latency", result.answer_latency)
    if result.server_cpu is not None:
        noun, count = ("delivery", result.delivered) if result.readers else ("message", result.published)
        each = result.server_cpu * 1e6 / max(count, 1)
        yield f"server CPU         {each:.2f} µs a {noun}; {result.server_cpu / seconds:.0%} of a core"
    busiest = max(result.generator_cpu) / seconds
    yield f"generator CPU      {busiest:.0%} of a core: the busiest of {len(result.generator_cpu)} processes"
    if result.missing:
        yield f"MISSING            {result.missing:,} deliveries"
    if result.bottleneck == "generator":
        yield GENERATOR_BUSY


def _report_joining(result: Result) -> Iterator[str]:
    yield f"joined             {result.readers:,} readers, {result.readers / result.join_seconds:,.0f} a second"
    yield from _report_latency("time to first byte", result.join_latency)
    if result.join_cpu is not None:
        yield f"server CPU         {result.join_cpu * 1e6 / result.readers:.0f} µs a reader"


def _report_memory(result: Result) -> Iterator[str]:
    if result.memory is None:
        yield "the memory is not known: run this on the server's machine, and give its process with --pid"
    else:
        yield f"memory             {result.memory / 1024 / result.readers:.1f} KiB a reader"


def _report_latency(name: str, latency: Latency) -> Iterator[str]:
    if latency.samples:
        values = zip(("p50", "p90", "p99", "p99.9", "max"), latency[1:], strict=True)
        yield f"{name:18} " + "  ".join(f"{percentile} {value / 1e3:.2f}" for percentile, value in values) + " ms"


WORKLOADS: Final = {
    "publish": Workload(_publish, _report_publishing),
    "fan-out": Workload(_fan_out, _report_publishing),
    "latency": Workload(_latency, _report_publishing),
    "connect": Workload(_connect, _report_joining),
    "idle": Workload(_idle, _report_memory),
}


class Output(NamedTuple):
    """Where to write: results, error sentences, and the progress of a workload, given its name."""

    write: Callable[[str], None]
    write_error: Callable[[str], None]
    progress: Callable[[str], AbstractContextManager[Progress]]


def bench(names: tuple[str, ...], options: Options, as_json: bool, output: Output) -> Exit:
    """Run these workloads, or all. Raises NotLoopback for a server on another machine if `remote` is false."""
    try:
        _only_loopback(options)
        results = [_bench(name, options, as_json, output) for name in names or WORKLOADS]
    except LoadFailed as error:
        output.write_error(f"Error: {error}")
        return Exit.UNREACHABLE if isinstance(error, ServerUnreachable) else Exit.REFUSED
    return Exit.REFUSED if any(result.missing for result in results) else Exit.DONE


def _bench(name: str, options: Options, as_json: bool, output: Output) -> Result:
    workload = WORKLOADS[name]
    load = workload.load(options)
    with output.progress(name) as progress:
        result = run(load, options.server(), progress)
    if as_json:
        output.write(msgspec.json.encode(_data(name, load, result)).decode())
    else:
        output.write("\n  ".join([_title(name, load), *workload.report(result)]))
    return result


def _only_loopback(options: Options) -> None:
    try:
        found = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ServerUnreachable(f"{options.host} is not known: {error.strerror}") from None
    if not options.remote and not all(ip_address(address[0]).is_loopback for *_, address in found):
        raise NotLoopback(f"{options.host} is another machine: load it with --remote if you may")


def _title(name: str, load: Load) -> str:
    parts = [f"{load.readers:,} readers"] if load.readers else []
    if load.publishers:
        parts += [f"{load.publishers:,} publishers", f"for {load.seconds:g} s or {load.messages:,} messages"]
    if load.rate:
        parts.append(f"{load.rate * load.script.messages:,.0f} a second")
    if load.window:
        parts.append(f"window {load.window}")
    return f"{name}: {', '.join(parts)}"


def _data(name: str, load: Load, result: Result) -> dict[str, Any]:
    """The result for programs. Times are seconds, but latencies are microseconds."""
    option_names = ("readers", "publishers", "messages", "seconds", "rate", "window", "at_once", "processes")
    measured = {
        key: value._asdict() if isinstance(value, Latency) else value for key, value in result._asdict().items()
    }
    return {
        "work": name,
        "asked": {key: getattr(load, key) for key in option_names},
        **measured,
        "missing": result.missing,
        "bottleneck": result.bottleneck if load.publishers else None,
    }
