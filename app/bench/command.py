"""What `plainmq bench` does: works for a server that runs already, one after the other, and what they say of it."""

import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from ipaddress import ip_address
from typing import Any, Final, NamedTuple

import msgspec

from ..client.commands import Exit
from ..errors import PlainmqError
from .load import Load
from .processes import Family, listening_on
from .speech import Speech, http, lines
from .team import Latency, LoadFailed, Progress, Result, ServerUnreachable, processes, run

GENERATOR_BUSY: Final = (
    "the generator had no CPU time to spare: the server may do more (--processes, or a machine more)"
)


class NotLoopback(PlainmqError):
    code = "not_loopback"


class Plan(NamedTuple):
    """What to do, and to whom. None is what suits the work."""

    host: str
    port: int
    name: str  # of the server, as it stands in a request
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

    def speech(self) -> Speech:
        if self.line_port:
            return lines(self.topic, self.size, self.token)
        header = f"Authorization: Bearer {self.token}\r\n" if self.token else ""
        batch = self.at_once if self.at_once > 1 else 0
        return http(self.topic, self.size, self.name, header.encode(), batch)

    def load(self, **work: Any) -> Load:
        at_once = self.at_once if self.line_port else 1
        return Load(
            self.host, self.port, self.speech(), at_once=at_once, processes=self.processes or processes(), **work
        )

    def publishing(self) -> dict[str, Any]:
        return {"publishers": self.publishers, "messages": self.messages, "seconds": self.seconds}

    def server(self) -> Family | None:
        """Whose CPU time and memory is read: what was named, or what listens there on this machine."""
        pid = self.pid or listening_on(self.port)
        return Family(pid) if pid else None


class Work(NamedTuple):
    load: Callable[[Plan], Load]
    say: Callable[[Result], Iterator[str]]


def _publish(plan: Plan) -> Load:
    return plan.load(**plan.publishing())


def _fan_out(plan: Plan) -> Load:
    return plan.load(**plan.publishing(), readers=plan.readers or 200, window=plan.window)


def _latency(plan: Plan) -> Load:
    readers = plan.readers or 200
    return plan.load(**plan.publishing(), readers=readers, rate=plan.rate / plan.speech().messages)


def _connect(plan: Plan) -> Load:
    return plan.load(readers=plan.readers or 1_000)


def _idle(plan: Plan) -> Load:
    return plan.load(readers=plan.readers or 1_000, settle=1.0)


def _say_publishing(result: Result) -> Iterator[str]:
    seconds = result.seconds or 1.0
    yield f"published          {result.published:,}, {result.published / seconds:,.0f} a second"
    if result.readers:
        yield f"delivered          {result.delivered:,}, {result.delivered / seconds:,.0f} a second"
        yield from _say_latency("to the readers", result.latency)
        yield from _say_latency("to the last one", result.last_reader)
    yield from _say_latency("to the answer", result.answer_latency)
    if result.server_cpu is not None:
        what, count = ("delivery", result.delivered) if result.readers else ("message", result.published)
        each = result.server_cpu * 1e6 / max(count, 1)
        yield f"CPU of the server  {each:.2f} µs a {what}; {result.server_cpu / seconds:.0%} of a core"
    busiest = max(result.generator_cpu) / seconds
    yield f"of the generator   {busiest:.0%} of a core, the busiest of its {len(result.generator_cpu)} processes"
    if result.missing:
        yield f"MISSING            {result.missing:,} deliveries"
    if result.bottleneck == "generator":
        yield GENERATOR_BUSY


def _say_joining(result: Result) -> Iterator[str]:
    yield f"joined             {result.readers:,} readers, {result.readers / result.join_seconds:,.0f} a second"
    yield from _say_latency("to the first byte", result.join_latency)
    if result.join_cpu is not None:
        yield f"CPU of the server  {result.join_cpu * 1e6 / result.readers:.0f} µs a reader"


def _say_memory(result: Result) -> Iterator[str]:
    if result.memory is None:
        yield "the server's process is not known, nor its memory: name it with --pid, on its machine"
    else:
        yield f"memory             {result.memory / 1024 / result.readers:.1f} KiB a reader"


def _say_latency(name: str, latency: Latency) -> Iterator[str]:
    if latency.samples:
        values = zip(("p50", "p90", "p99", "p99.9", "max"), latency[1:], strict=True)
        yield f"{name:18} " + "  ".join(f"{percentile} {value / 1e3:.2f}" for percentile, value in values) + " ms"


WORKS: Final = {
    "publish": Work(_publish, _say_publishing),
    "fan-out": Work(_fan_out, _say_publishing),
    "latency": Work(_latency, _say_publishing),
    "connect": Work(_connect, _say_joining),
    "idle": Work(_idle, _say_memory),
}


class Screen(NamedTuple):
    """Where it writes: `out` takes results, `progress` opens a bar for a work."""

    out: Callable[[str], None]
    tell: Callable[[str], None]
    progress: Callable[[str], AbstractContextManager[Progress]]


def bench(names: tuple[str, ...], plan: Plan, as_json: bool, screen: Screen) -> Exit:
    """Do these works. Raises NotLoopback when the server is on another machine and that was not allowed."""
    try:
        _only_loopback(plan)
        results = [_bench(name, plan, as_json, screen) for name in names or WORKS]
    except LoadFailed as error:
        screen.tell(f"Error: {error}")
        return Exit.UNREACHABLE if isinstance(error, ServerUnreachable) else Exit.REFUSED
    return Exit.REFUSED if any(result.missing for result in results) else Exit.DONE


def _bench(name: str, plan: Plan, as_json: bool, screen: Screen) -> Result:
    work = WORKS[name]
    load = work.load(plan)
    with screen.progress(name) as progress:
        result = run(load, plan.server(), progress)
    if as_json:
        screen.out(msgspec.json.encode(_data(name, load, result)).decode())
    else:
        screen.out("\n  ".join([_title(name, load), *work.say(result)]))
    return result


def _only_loopback(plan: Plan) -> None:
    try:
        found = socket.getaddrinfo(plan.host, plan.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ServerUnreachable(f"{plan.host} is not known: {error.strerror}") from None
    if not plan.remote and not all(ip_address(address[0]).is_loopback for *_, address in found):
        raise NotLoopback(f"{plan.host} is another machine: load it only if it is yours to load, with --remote")


def _title(name: str, load: Load) -> str:
    parts = [f"{load.readers:,} readers"] if load.readers else []
    if load.publishers:
        parts += [f"{load.publishers:,} publishers", f"for {load.seconds:g} s or {load.messages:,} messages"]
    if load.rate:
        parts.append(f"{load.rate * load.speech.messages:,.0f} a second")
    if load.window:
        parts.append(f"{load.window} on the way")
    return f"{name}: {', '.join(parts)}"


def _data(name: str, load: Load, result: Result) -> dict[str, Any]:
    """The result for programs; times are seconds, but for latencies: these are microseconds."""
    asked = ("readers", "publishers", "messages", "seconds", "rate", "window", "at_once", "processes")
    measured = {
        key: value._asdict() if isinstance(value, Latency) else value for key, value in result._asdict().items()
    }
    return {
        "work": name,
        "asked": {key: getattr(load, key) for key in asked},
        **measured,
        "missing": result.missing,
        "bottleneck": result.bottleneck if load.publishers else None,
    }
