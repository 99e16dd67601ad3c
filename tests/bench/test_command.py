"""`plainmq bench` as a subprocess, with tiny workloads."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from app.cli import main
from tests.harness import DEADLINE, ROOT, ServerProcess, free_port, start_server

PROGRAM = [sys.executable, "-m", "app", "bench"]
TINY = ["--messages", "20", "--readers", "2", "--publishers", "2"]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with start_server() as process:
        yield process


def bench(*arguments: str, url: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PLAINMQ_URL": url}
    return subprocess.run(
        [*PROGRAM, *arguments],
        capture_output=True,
        text=True,
        timeout=3 * DEADLINE,
        cwd=ROOT,
        env=environment,
        check=False,
    )


def bench_json(*arguments: str, url: str) -> list[dict[str, Any]]:
    done = bench("--json", *arguments, url=url)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_all_workloads_run_and_print_a_report(server: ServerProcess) -> None:
    done = bench(*TINY, "--rate", "200", url=server.url)
    assert (done.returncode, done.stderr) == (0, "")
    titles = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert [title.partition(":")[0] for title in titles] == ["publish", "fan-out", "latency", "connect", "idle"]
    for text in (
        "published          20,",
        "delivered          40,",
        "p99.9",
        "µs a delivery",
        "KiB a reader",
        "generator",
    ):
        assert text in done.stdout


def test_results_are_printed_as_json(server: ServerProcess) -> None:
    publish, fan_out, connect = bench_json("publish", "fan-out", "connect", *TINY, url=server.url)
    assert [one["work"] for one in (publish, fan_out, connect)] == ["publish", "fan-out", "connect"]
    assert (publish["published"], publish["readers"], publish["answer_latency"]["samples"]) == (20, 0, 20)
    assert (fan_out["published"], fan_out["delivered"], fan_out["missing"]) == (20, 40, 0)
    assert fan_out["server_cpu"] > 0
    assert fan_out["latency"].keys() == {"samples", "p50", "p90", "p99", "p999", "max"}
    assert (connect["join_latency"]["samples"], connect["published"]) == (2, 0)


def test_the_line_port_is_loaded_if_its_address_is_given(server: ServerProcess) -> None:
    line_port = f"localhost:{server.tcp_port}"
    (lines,) = bench_json("fan-out", *TINY, "--line-port", line_port, "--at-once", "5", url="http://127.0.0.1:1")
    assert (lines["published"], lines["delivered"]) == (20, 40)


def test_at_once_makes_batches_over_http(server: ServerProcess) -> None:
    (batches,) = bench_json("publish", "--messages", "100", "--at-once", "50", "--processes", "2", url=server.url)
    assert (batches["published"], batches["answer_latency"]["samples"]) == (100, 2)


def test_a_terminal_shows_the_progress(server: ServerProcess) -> None:
    ours, theirs = pty.openpty()
    try:
        command = [*PROGRAM, "publish", *TINY, "--url", server.url]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs, timeout=DEADLINE, check=False)
        assert done.returncode == 0
        assert done.stdout.startswith(b"publish: ")
        assert b"20 messages" in os.read(ours, 1 << 16)
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_server_on_another_machine_needs_the_option_remote() -> None:
    done = bench("publish", *TINY, url="http://192.0.2.1:8000")
    assert done.returncode == 2
    assert "--remote" in done.stderr


def test_a_server_that_cannot_be_reached_is_status_3() -> None:
    done = bench("publish", *TINY, url=f"http://127.0.0.1:{free_port()}")
    assert (done.returncode, done.stdout) == (3, "")
    assert "cannot be reached" in done.stderr
    assert bench("publish", *TINY, url="http://no-such-host.invalid").returncode == 3


def test_a_refusal_is_status_1_with_a_sentence(server: ServerProcess) -> None:
    done = bench("publish", *TINY, "--topic", "a..b", url=server.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert "is not a topic" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--size", "19"], ["--seconds", "11m"], ["--seconds", "0s"], ["--readers", "0"], ["nothing"],
        ["--line-port", "7777"], ["--url", "https://localhost"], ["--rate", "0"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(main, ["bench", *arguments]).exit_code == 2


def test_a_token_works_on_both_ports(tmp_path: Path) -> None:
    rights = ["--publish", "bench", "--subscribe", "bench"]
    made = subprocess.run(
        [sys.executable, "-m", "app", "token", "me", *rights, "--tokens", "tokens"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
        timeout=DEADLINE,
    )  # fmt: skip
    token = ["--token", made.stdout.strip()]
    with start_server("--auth", "required", "--tokens", str(tmp_path / "tokens")) as server:
        line_port = ["--line-port", f"127.0.0.1:{server.tcp_port}"]
        assert bench("publish", *TINY, url=server.url).returncode == 1
        for port in ([], line_port):
            (one,) = bench_json("fan-out", *TINY, *token, *port, url=server.url)
            assert (one["published"], one["delivered"]) == (20, 40)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_and_its_processes(server: ServerProcess, number: signal.Signals) -> None:
    command = [*PROGRAM, "publish", "--seconds", "10m", "--url", server.url, "--json"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True) as process:
        try:
            _wait_for_publishing(server)
            process.send_signal(number)
            _, stderr = process.communicate(timeout=DEADLINE)  # ends when its processes, which inherit it, have ended
            assert (process.returncode, stderr) == (128 + number, b"")
        finally:
            process.kill()


def _wait_for_publishing(server: ServerProcess) -> None:
    """Wait until the newest message of the topic changes."""
    before = _newest(server)
    deadline = time.monotonic() + DEADLINE
    while _newest(server) == before:
        assert time.monotonic() < deadline


def _newest(server: ServerProcess) -> list[Any]:
    """The newest message of the topic; none while there is no topic."""
    answer = httpx.get(f"{server.url}/topics/bench/messages", params={"since": "last:1"}, timeout=DEADLINE)
    return [] if answer.status_code == 404 else list(answer.json()["messages"])
