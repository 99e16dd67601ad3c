"""The load generator: what it counts, how it measures, and what it says when something is wrong."""

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Iterator

import pytest

from app.bench.load import Load
from app.bench.processes import Family, listening_on
from app.bench.speech import http, lines, literal
from app.bench.team import Latency, LoadFailed, Result, ServerUnreachable, run
from tests.harness import DEADLINE, ServerProcess, free_port, start_server


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with start_server() as process:
        yield process


def by_http(server: ServerProcess, topic: str) -> Load:
    return Load(server.host, server.port, http(topic, 64), readers=3, publishers=4, messages=50, processes=2)


def test_several_processes_share_a_load(server: ServerProcess) -> None:
    result = run(by_http(server, "shared"))
    assert (result.published, result.delivered, result.missing) == (50, 150, 0)
    assert len(result.generator_cpu) == 2
    assert result.latency.samples == 150
    assert result.answer_latency.samples == 50
    assert result.last_reader.samples == 50
    assert result.join_latency.samples == 3


def test_a_window_bounds_what_is_on_the_way(server: ServerProcess) -> None:
    load = Load(server.host, server.tcp_port, literal("window", 64), readers=2, publishers=1, messages=100, window=1)
    result = run(load)
    assert (result.published, result.missing) == (100, 0)
    # Each began when the one before it was there; half of them took the median at least.
    assert 50 * result.last_reader.p50 <= result.seconds * 1e6


def test_pipelined_lines_are_all_answered(server: ServerProcess) -> None:
    load = Load(server.host, server.tcp_port, lines("piped", 64), publishers=2, messages=1_000, at_once=100)
    assert run(load).answer_latency.samples == 1_000


def test_publishing_ends_when_its_time_is_over(server: ServerProcess) -> None:
    result = run(by_http(server, "time")._replace(messages=1_000_000, seconds=0.2))
    assert 0 < result.published < 1_000_000
    assert result.missing == 0


def test_latency_counts_from_when_a_message_was_due_also_while_the_server_stands_still(server: ServerProcess) -> None:
    """At a rate of 100 a second, a server that stops for a second delays a hundred messages, not one."""
    pid, stopped = server.process.pid, threading.Event()

    def stop(what: str, done: int, _part: float) -> None:
        if what == "messages" and done and not stopped.is_set():
            stopped.set()
            os.kill(pid, signal.SIGSTOP)
            threading.Timer(1.0, os.kill, (pid, signal.SIGCONT)).start()

    load = Load(server.host, server.port, http("rate", 64), readers=1, publishers=1, messages=100, rate=100.0)
    result = run(load, None, stop)
    assert (result.published, result.missing) == (100, 0)
    assert result.latency.p50 > 100_000  # microseconds; one message at a time would show one that is late


def test_several_processes_share_a_rate_and_take_turns(server: ServerProcess) -> None:
    result = run(by_http(server, "turns")._replace(rate=200.0, processes=3, messages=51))
    assert (result.published, result.missing, result.last_reader.samples) == (51, 0, 51)
    assert result.seconds >= 0.25  # the last is due after 50 / 200 s


def test_the_cost_and_the_memory_of_the_server_are_read(server: ServerProcess) -> None:
    assert listening_on(server.port) == listening_on(server.tcp_port) == server.process.pid
    result = run(by_http(server, "cost")._replace(readers=50), Family(server.process.pid))
    assert result.server_cpu
    assert result.server_cpu > 0
    assert result.memory is not None


def test_nobody_listens_there() -> None:
    with pytest.raises(ServerUnreachable, match="cannot be reached"):
        run(Load("127.0.0.1", free_port(), http("foo", 64), readers=1))
    assert listening_on(free_port()) is None


def test_a_refusal_is_told_with_what_the_server_said(server: ServerProcess) -> None:
    refused = http("foo", 64)._replace(publish=b"POST /topics/a..b/messages HTTP/1.1\r\nHost: localhost\r\n\r\n")
    with pytest.raises(LoadFailed, match="is not a topic"):
        run(by_http(server, "foo")._replace(speech=refused))
    with pytest.raises(LoadFailed, match="does not go by the name"):
        run(by_http(server, "foo")._replace(speech=http("foo", 64, host="elsewhere.example")))
    with pytest.raises(LoadFailed, match="Malformed json message"):
        run(Load(server.host, server.tcp_port, lines("a b", 64), publishers=1, messages=1))


def test_a_server_that_closes_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def close_all() -> None:
            for _ in range(2):  # the first is a look whether somebody is there
                listener.settimeout(DEADLINE)
                listener.accept()[0].close()

        thread = threading.Thread(target=close_all)
        thread.start()
        with pytest.raises(LoadFailed, match=r"closed|reset"):
            run(Load("127.0.0.1", port, http("foo", 64), readers=1))
        thread.join(DEADLINE)


def test_percentiles_are_those_of_the_sorted_values() -> None:
    found = Latency.of(n * 1_000 for n in reversed(range(10_000)))
    assert found == Latency(10_000, 5_000, 9_000, 9_900, 9_990, 9_999)
    assert Latency.of([]).samples == 0
    assert Latency.of([7_000]) == Latency(1, 7, 7, 7, 7, 7)


NOTHING = Latency.of([])


@pytest.mark.parametrize(
    ("generator", "server", "who"),
    [
        (0.95, 0.5, "generator"),
        (0.95, 0.95, "both"),
        (0.5, 0.95, "server"),
        (0.5, 0.5, "none"),
        (0.95, None, "generator"),
    ],
)
def test_who_had_no_time_to_spare_is_named(generator: float, server: float | None, who: str) -> None:
    result = Result(0, 0, NOTHING, None, 1, 0, 1.0, NOTHING, NOTHING, NOTHING, server, None, (0.1, generator))
    assert result.bottleneck == who


def test_its_processes_end_with_it(server: ServerProcess) -> None:
    def fail(_what: str, _done: int, _part: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(by_http(server, "end"), None, fail)
    assert not multiprocessing.active_children()
