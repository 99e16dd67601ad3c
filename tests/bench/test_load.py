"""The load generator: its counts, its measurements, and its error sentences."""

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Iterator

import pytest

from app.cli.bench.coordinator import Latency, LoadFailed, Result, ServerUnreachable, run
from app.cli.bench.load import Load
from app.cli.bench.process_tree import ProcessTree, listener_of
from app.cli.bench.wire_script import http, lines, literal
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


def test_a_window_bounds_the_undelivered_messages(server: ServerProcess) -> None:
    load = Load(server.host, server.tcp_port, literal("window", 64), readers=2, publishers=1, messages=100, window=1)
    result = run(load)
    assert (result.published, result.missing) == (100, 0)
    # Each message was sent after the one before it was delivered; half of them took at least the median.
    assert 50 * result.last_reader.p50 <= result.seconds * 1e6


def test_pipelined_lines_are_all_answered(server: ServerProcess) -> None:
    load = Load(server.host, server.tcp_port, lines("piped", 64), publishers=2, messages=1_000, at_once=100)
    assert run(load).answer_latency.samples == 1_000


def test_publishing_ends_after_the_given_seconds(server: ServerProcess) -> None:
    result = run(by_http(server, "time")._replace(messages=1_000_000, seconds=0.2))
    assert 0 < result.published < 1_000_000
    assert result.missing == 0


def test_latency_counts_from_when_a_message_was_due_even_if_the_server_is_stopped(server: ServerProcess) -> None:
    """At a rate of 100 a second, a server that stops for a second delays a hundred messages, not one."""
    pid, stopped = server.process.pid, threading.Event()

    def stop(noun: str, count: int, _part: float) -> None:
        if noun == "messages" and count and not stopped.is_set():
            stopped.set()
            os.kill(pid, signal.SIGSTOP)
            threading.Timer(1.0, os.kill, (pid, signal.SIGCONT)).start()

    load = Load(server.host, server.port, http("rate", 64), readers=1, publishers=1, messages=100, rate=100.0)
    result = run(load, None, stop)
    assert (result.published, result.missing) == (100, 0)
    assert (
        result.latency.p50 > 100_000
    )  # microseconds; a generator that waits for each answer would measure one late message


def test_several_processes_share_a_rate_and_take_turns(server: ServerProcess) -> None:
    result = run(by_http(server, "turns")._replace(rate=200.0, processes=3, messages=51))
    assert (result.published, result.missing, result.last_reader.samples) == (51, 0, 51)
    assert result.seconds >= 0.25  # the last is due after 50 / 200 s


def test_the_cost_and_the_memory_of_the_server_are_read(server: ServerProcess) -> None:
    assert listener_of(server.port) == listener_of(server.tcp_port) == server.process.pid
    result = run(by_http(server, "cost")._replace(readers=50), ProcessTree(server.process.pid))
    assert result.server_cpu
    assert result.server_cpu > 0
    assert result.memory is not None


def test_a_port_without_a_listener_is_unreachable() -> None:
    with pytest.raises(ServerUnreachable, match="cannot be reached"):
        run(Load("127.0.0.1", free_port(), http("foo", 64), readers=1))
    assert listener_of(free_port()) is None


def test_a_refusal_is_reported_with_the_sentence_of_the_server(server: ServerProcess) -> None:
    refused = http("foo", 64)._replace(publish=b"POST /topics/a..b/messages HTTP/1.1\r\nHost: localhost\r\n\r\n")
    with pytest.raises(LoadFailed, match="is not a topic"):
        run(by_http(server, "foo")._replace(script=refused))
    with pytest.raises(LoadFailed, match="does not go by the name"):
        run(by_http(server, "foo")._replace(script=http("foo", 64, host="elsewhere.example")))
    with pytest.raises(LoadFailed, match="Malformed json message"):
        run(Load(server.host, server.tcp_port, lines("a b", 64), publishers=1, messages=1))


def test_a_server_that_closes_the_connection_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def close_all() -> None:
            for _ in range(2):  # the first only checks that the port is reachable
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
    ("generator", "server", "bottleneck"),
    [
        (0.95, 0.5, "generator"),
        (0.95, 0.95, "both"),
        (0.5, 0.95, "server"),
        (0.5, 0.5, "none"),
        (0.95, None, "generator"),
    ],
)
def test_the_bottleneck_is_named(generator: float, server: float | None, bottleneck: str) -> None:
    result = Result(0, 0, NOTHING, None, 1, 0, 1.0, NOTHING, NOTHING, NOTHING, server, None, (0.1, generator))
    assert result.bottleneck == bottleneck


def test_the_generator_processes_end_with_the_load(server: ServerProcess) -> None:
    def fail(_noun: str, _count: int, _part: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(by_http(server, "end"), None, fail)
    assert not multiprocessing.active_children()
