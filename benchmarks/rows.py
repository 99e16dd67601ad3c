"""The works that are compared, a row each: what is done, what is measured, and what it is to be at most."""

import re
from collections.abc import Callable, Mapping
from socket import socket
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from app.bench.coordinator import Result
from app.bench.load import Load
from app.bench.wire_script import MARK, WireScript
from benchmarks.harness import connect, receive_some
from benchmarks.peers import Started

Figure = Callable[[Result], float]
Prepare = Callable[[Started, WireScript], WireScript]


class Case(NamedTuple):
    """A server at this work. `goal`: our figure is to be at most so many times this one's."""

    peer: str
    endpoint: str
    goal: float | None = None
    label: str = ""
    changes: Mapping[str, Any] = MappingProxyType({})  # in the row's load
    prepare: Prepare | None = None  # once, before the first round

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
    goal: float | None = None  # the most that our figure is to be, in its unit
    fresh: bool = False  # a new server for each round: one that had readers keeps their memory
    rounds: int = 1_000  # at most: of what hardly differs from one to the next
    like: str = ""  # the row that does the same work, and is measured for both


def per_delivery(result: Result) -> float:
    return _microseconds(result.server_cpu, result.delivered)


def per_message(result: Result) -> float:
    return _microseconds(result.server_cpu, result.published)


def per_join(result: Result) -> float:
    return _microseconds(result.join_cpu, result.readers)


def per_reader(result: Result) -> float:
    return (result.memory or 0) / 1024 / max(result.readers, 1)


def to_the_last(result: Result) -> float:
    return result.last_reader.p50 / 1e3


def _microseconds(seconds: float | None, count: int) -> float:
    return (seconds or 0.0) * 1e6 / max(count, 1)


_ID: Final = re.compile(rb'"id":"([^"]+)"|last message id: (\d+:\d+)')
RESUMED: Final = 5  # messages that a reader who comes back has missed


def missed(started: Started, script: WireScript) -> WireScript:
    """Readers come back who have missed the newest messages."""
    with connect(started.place.port) as sock:
        ids = [_publish(sock, script) for _ in range(2 * RESUMED)]
    header = b"Last-Event-ID: %b\r\n\r\n" % ids[RESUMED - 1]
    return script._replace(join=script.join.removesuffix(b"\r\n") + header)


def _publish(sock: socket, script: WireScript) -> bytes:
    """The id that the message got; it has no mark, so nobody counts it."""
    sock.sendall(script.publish.replace(b"%c" % MARK, b"-"))
    answer = b""
    while not (match := _ID.search(answer)):
        answer += receive_some(sock)
    return match[1] or match[2]


def beside(topics: int) -> Prepare:
    """So many other topics have a message."""

    def prepare(started: Started, script: WireScript) -> WireScript:
        done = b'{"success": true}\r\n'
        with connect(started.place.line_port) as sock:
            for first in range(0, topics, 1_000):
                names = range(first, min(first + 1_000, topics))
                sock.sendall(
                    b"".join(b'{"command":"send","topic":"t%d","msg":"","delivery":"all"}\n' % n for n in names)
                )
                answers = b""
                while len(answers) < len(done) * len(names):
                    answers += receive_some(sock)
                if answers != done * len(names):
                    raise SystemExit(f"a topic was refused: {answers[-200:]!r}")
        return script

    return prepare


MICRO: Final = "µs of server CPU per"
FAN_OUT: Final = {"readers": 200, "publishers": 16, "window": 64, "messages": 1_000_000, "seconds": 0.7}
PUBLISH: Final = {"publishers": 32, "messages": 1_000_000, "seconds": 0.7}
CROWD: Final = {"readers": 5_000, "publishers": 1, "messages": 3, "seconds": 30.0, "rate": 1.0, "settle": 0.5}
IDLE: Final = {"readers": 2_000, "settle": 0.5}
JOIN: Final = {"readers": 1_000}
PIPELINED: Final = {"publishers": 8, "at_once": 100}
ONE: Final = "nats, one publisher"  # which costs it less: it takes many messages in one read
ONE_PUBLISHER: Final = {"publishers": 1}
_SINGLE: Final = "nchan, a message a request"

ROWS: Final = {
    "fan-out": Row(
        "Fan-out to 200 readers, 64 B, 64 on the way",
        f"{MICRO} delivery",
        per_delivery,
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
        f"{MICRO} delivery",
        per_delivery,
        FAN_OUT,
        Case("plainmq", "http"),
        (Case("nchan", "http", 0.25),),
        size=1 << 10,
    ),
    "fan-out-16k": Row(
        "Fan-out to 200 readers, 16 KiB",
        f"{MICRO} delivery",
        per_delivery,
        FAN_OUT,
        Case("plainmq", "http"),
        (Case("nchan", "http", 0.25),),
        size=1 << 14,
    ),
    "crowd": Row(
        "One message a second to 5,000 readers",
        f"{MICRO} delivery",
        per_delivery,
        CROWD,
        Case("plainmq", "http"),
        (Case("nchan", "http", 0.6), Case("bare", "http")),
    ),
    "crowd-last": Row(
        "One message a second to 5,000 readers: until the last has it",
        "ms",
        to_the_last,
        CROWD,
        Case("plainmq", "http"),
        (Case("nchan", "http", 0.6), Case("bare", "http")),
        like="crowd",
    ),
    "lines": Row(
        "Line port: fan-out to 200 readers, 64 B, 64 on the way",
        f"{MICRO} delivery",
        per_delivery,
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
        "Publish by HTTP, a message a request, 32 keep-alive connections, nobody reads",
        f"{MICRO} message",
        per_message,
        PUBLISH,
        Case("plainmq", "http"),
        (Case("nchan", "http", 1.5), Case("by-hand", "http"), Case("bare", "http")),
    ),
    "batch": Row(
        "Publish by HTTP, 100 messages a request",
        f"{MICRO} message",
        per_message,
        PUBLISH,
        Case("plainmq", "batch"),
        (Case("nchan", "http", 0.1, _SINGLE),),
    ),
    "pipelined": Row(
        "Publish by the line port, 8 connections, 100 lines before an answer is needed",
        f"{MICRO} message",
        per_message,
        PUBLISH,
        Case("plainmq", "lines", changes=PIPELINED),
        (Case("nchan", "http", 0.3, _SINGLE),),
    ),
    "idle": Row(
        "An idle reader",
        "KiB",
        per_reader,
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
        per_reader,
        IDLE,
        Case("plainmq", "literal"),
        (Case("nats", "nats"), Case("original", "literal")),
        goal=4.0,
        fresh=True,
        rounds=3,
    ),
    "join": Row(
        "A reader joins: from the connect to the first byte",
        f"{MICRO} reader",
        per_join,
        JOIN,
        Case("plainmq", "http"),
        (Case("nchan", "http", 2.0), Case("by-hand", "http"), Case("bare", "http")),
    ),
    "join-resume": Row(
        f"A reader comes back and has missed {RESUMED} messages",
        f"{MICRO} reader",
        per_join,
        JOIN,
        Case("plainmq", "http", prepare=missed),
        (Case("nchan", "http", 2.0, prepare=missed),),
    ),
    "growth-readers": Row(
        "Growth: fan-out to more readers",
        f"{MICRO} delivery",
        per_delivery,
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
        f"{MICRO} delivery",
        per_delivery,
        FAN_OUT,
        Case("plainmq", "http", label="10,000 other topics", prepare=beside(10_000)),
        (Case("plainmq", "http", 1.3, label="1 other topic", prepare=beside(1)),),
    ),
}


def load(row: Row, case: Case, started: Started, script: WireScript, changes: Mapping[str, Any]) -> Load:
    """The row's load, as it is put on this server."""
    return Load("127.0.0.1", started.port(case.endpoint), script, **{**row.load, **case.changes, **changes})
