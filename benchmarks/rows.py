"""The rows of the comparison: each has a load, the figure that is measured, the servers, and the goals."""

import re
from collections.abc import Callable, Mapping
from socket import socket
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from app.cli.bench.coordinator import Result
from app.cli.bench.load import Load
from app.cli.bench.wire_script import MARK, WireScript
from benchmarks.harness import connect, receive_some
from benchmarks.peers import RunningServer

Figure = Callable[[Result], float]
Prepare = Callable[[RunningServer, WireScript], WireScript]


class Case(NamedTuple):
    """A server that a row loads. `goal`: the figure of plainmq should be at most this many times its figure."""

    peer: str
    endpoint: str
    goal: float | None = None
    label: str = ""
    changes: Mapping[str, Any] = MappingProxyType({})  # to the row's load
    prepare: Prepare | None = None  # called once, before the first round

    @property
    def name(self) -> str:
        return self.label or (f"{self.peer} ({self.endpoint})" if self.peer == "plainmq" else self.peer)


class Row(NamedTuple):
    title: str
    unit: str
    figure: Figure
    load: dict[str, Any]
    ours: Case
    theirs: tuple[Case, ...] = ()
    size: int = 64  # bytes in a message
    goal: float | None = None  # what the figure of plainmq should be at most, in `unit`
    fresh: bool = False  # start a new server for each round: a server does not give the memory of readers back
    rounds: int = 1_000  # at most; low for a figure that hardly varies
    same_as: str = ""  # a row with the same load, whose results are used


def cpu_per_delivery(result: Result) -> float:
    return _microseconds(result.server_cpu, result.delivered)


def cpu_per_message(result: Result) -> float:
    return _microseconds(result.server_cpu, result.published)


def cpu_per_join(result: Result) -> float:
    return _microseconds(result.join_cpu, result.readers)


def memory_per_reader(result: Result) -> float:
    return (result.memory or 0) / 1024 / max(result.readers, 1)


def last_delivery(result: Result) -> float:
    return result.last_reader.p50 / 1e3


def _microseconds(seconds: float | None, count: int) -> float:
    return (seconds or 0.0) * 1e6 / max(count, 1)


_ID: Final = re.compile(rb'"id":"([^"]+)"|last message id: (\d+:\d+)')
MISSED: Final = 5  # messages that were published while a resuming reader was away


def resuming(server: RunningServer, script: WireScript) -> WireScript:
    """Readers resume, and have missed the last MISSED messages."""
    with connect(server.location.port) as sock:
        ids = [_publish(sock, script) for _ in range(2 * MISSED)]
    header = b"Last-Event-ID: %b\r\n\r\n" % ids[MISSED - 1]
    return script._replace(join=script.join.removesuffix(b"\r\n") + header)


def _publish(sock: socket, script: WireScript) -> bytes:
    """Publish a message and return its id. The message has no mark, so it is not counted."""
    sock.sendall(script.publish.replace(b"%c" % MARK, b"-"))
    answer = b""
    while not (match := _ID.search(answer)):
        answer += receive_some(sock)
    return match[1] or match[2]


def with_other_topics(topics: int) -> Prepare:
    """The server has this many other topics, with a message each."""

    def prepare(server: RunningServer, script: WireScript) -> WireScript:
        success = b'{"success": true}\r\n'
        with connect(server.location.line_port) as sock:
            for first in range(0, topics, 1_000):
                names = range(first, min(first + 1_000, topics))
                sock.sendall(
                    b"".join(b'{"command":"send","topic":"t%d","msg":"","delivery":"all"}\n' % n for n in names)
                )
                answers = b""
                while len(answers) < len(success) * len(names):
                    answers += receive_some(sock)
                if answers != success * len(names):
                    raise SystemExit(f"a topic was refused: {answers[-200:]!r}")
        return script

    return prepare


CPU: Final = "µs of server CPU per"
FAN_OUT: Final = {"readers": 200, "publishers": 16, "window": 64, "messages": 1_000_000, "seconds": 0.7}
PUBLISH: Final = {"publishers": 32, "messages": 1_000_000, "seconds": 0.7}
CROWD: Final = {"readers": 5_000, "publishers": 1, "messages": 3, "seconds": 30.0, "rate": 1.0, "settle": 0.5}
IDLE: Final = {"readers": 2_000, "settle": 0.5}
JOIN: Final = {"readers": 1_000}
PIPELINED: Final = {"publishers": 8, "at_once": 100}
ONE: Final = "nats, one publisher"  # cheaper for NATS: it reads many messages at once
ONE_PUBLISHER: Final = {"publishers": 1}
_SINGLE: Final = "nchan, one message a request"

ROWS: Final = {
    "fan-out": Row(
        "Fan-out to 200 readers, 64 B, window 64",
        f"{CPU} delivery",
        cpu_per_delivery,
        FAN_OUT,
        Case("plainmq", "http"),
        (
            Case("nchan", "http", 0.1),
            Case("redis", "redis", 1.0),
            Case("nats", "nats", 1.0),
            Case("nats", "nats", 1.0, ONE, ONE_PUBLISHER),
            Case("mosquitto", "mqtt"),
            Case("original", "literal"),
            Case("by-hand", "http"),
            Case("bare", "http"),
        ),
    ),
    "fan-out-1k": Row(
        "Fan-out to 200 readers, 1 KiB",
        f"{CPU} delivery",
        cpu_per_delivery,
        FAN_OUT,
        Case("plainmq", "http"),
        (Case("nchan", "http", 0.25),),
        size=1 << 10,
    ),
    "fan-out-16k": Row(
        "Fan-out to 200 readers, 16 KiB",
        f"{CPU} delivery",
        cpu_per_delivery,
        FAN_OUT,
        Case("plainmq", "http"),
        (Case("nchan", "http", 0.25),),
        size=1 << 14,
    ),
    "crowd": Row(
        "One message a second to 5,000 readers",
        f"{CPU} delivery",
        cpu_per_delivery,
        CROWD,
        Case("plainmq", "http"),
        (Case("nchan", "http", 0.6), Case("bare", "http")),
    ),
    "crowd-last": Row(
        "One message a second to 5,000 readers: until its last delivery",
        "ms",
        last_delivery,
        CROWD,
        Case("plainmq", "http"),
        (Case("nchan", "http", 0.6), Case("bare", "http")),
        same_as="crowd",
    ),
    "lines": Row(
        "Line port: fan-out to 200 readers, 64 B, window 64",
        f"{CPU} delivery",
        cpu_per_delivery,
        FAN_OUT,
        Case("plainmq", "literal"),
        (
            Case("nats", "nats", 0.25),
            Case("nats", "nats", 0.25, ONE, ONE_PUBLISHER),
            Case("original", "literal", 0.08),
            Case("bare", "literal"),
        ),
    ),
    "publish": Row(
        "Publish by HTTP, one message a request, 32 keep-alive connections, no readers",
        f"{CPU} message",
        cpu_per_message,
        PUBLISH,
        Case("plainmq", "http"),
        (Case("nchan", "http", 1.5), Case("by-hand", "http"), Case("bare", "http")),
    ),
    "batch": Row(
        "Publish by HTTP, 100 messages a request",
        f"{CPU} message",
        cpu_per_message,
        PUBLISH,
        Case("plainmq", "batch"),
        (Case("nchan", "http", 0.1, _SINGLE),),
    ),
    "pipelined": Row(
        "Publish by the line port, 8 connections, 100 pipelined lines each",
        f"{CPU} message",
        cpu_per_message,
        PUBLISH,
        Case("plainmq", "lines", changes=PIPELINED),
        (Case("nchan", "http", 0.3, _SINGLE),),
    ),
    "idle": Row(
        "An idle reader",
        "KiB",
        memory_per_reader,
        IDLE,
        Case("plainmq", "http"),
        (Case("nchan", "http"), Case("by-hand", "http")),
        goal=6.0,
        fresh=True,
        rounds=3,
    ),
    "idle-lines": Row(
        "An idle reader of the line port",
        "KiB",
        memory_per_reader,
        IDLE,
        Case("plainmq", "literal"),
        (Case("nats", "nats"), Case("original", "literal")),
        goal=4.0,
        fresh=True,
        rounds=3,
    ),
    "join": Row(
        "A reader joins: from the connect to the first byte",
        f"{CPU} reader",
        cpu_per_join,
        JOIN,
        Case("plainmq", "http"),
        (Case("nchan", "http", 2.0), Case("by-hand", "http"), Case("bare", "http")),
    ),
    "join-resume": Row(
        f"A reader resumes and has missed {MISSED} messages",
        f"{CPU} reader",
        cpu_per_join,
        JOIN,
        Case("plainmq", "http", prepare=resuming),
        (Case("nchan", "http", 2.0, prepare=resuming),),
    ),
    "growth-readers": Row(
        "Growth: fan-out to more readers",
        f"{CPU} delivery",
        cpu_per_delivery,
        FAN_OUT,
        Case("plainmq", "http", label="10,000 readers", changes={"readers": 10_000}),
        (
            Case("plainmq", "http", 1.3, label="1,000 readers", changes={"readers": 1_000}),
            Case("plainmq", "http", 1.3, label="100 readers", changes={"readers": 100}),
            Case("plainmq", "http", 1.3, label="10 readers", changes={"readers": 10}),
        ),
    ),
    "growth-topics": Row(
        "Growth: fan-out to 200 readers beside other topics",
        f"{CPU} delivery",
        cpu_per_delivery,
        FAN_OUT,
        Case("plainmq", "http", label="10,000 other topics", prepare=with_other_topics(10_000)),
        (Case("plainmq", "http", 1.3, label="1 other topic", prepare=with_other_topics(1)),),
    ),
}


def load(row: Row, case: Case, server: RunningServer, script: WireScript, changes: Mapping[str, Any]) -> Load:
    """The row's load for this server, with the changes of the case and of the caller."""
    return Load("127.0.0.1", server.port(case.endpoint), script, **{**row.load, **case.changes, **changes})
