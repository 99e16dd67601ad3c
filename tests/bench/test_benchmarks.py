"""The benchmarks with tiny loads: every row against plainmq, and every other server that is installed."""

import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.cli.bench.coordinator import run
from app.cli.bench.process_tree import ProcessTree
from benchmarks import cluster, compare
from benchmarks.peers import PEERS, Location, RunningServer, is_installed, running_server
from benchmarks.rows import ROWS, Case, Row, load
from tests.engines.conftest import NO_REDIS
from tests.harness import DEADLINE, ROOT, start_server

OURS = [(name, case) for name, row in ROWS.items() for case in (row.ours, *row.theirs) if case.peer == "plainmq"]
ENDPOINTS = [(name, endpoint) for name, peer in PEERS.items() if name != "plainmq" for endpoint in peer.endpoints]


@pytest.fixture(scope="module")
def plainmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with start_server("--max-topics", "20000") as server:
        location = Location(tmp_path_factory.mktemp("plainmq"), server.port, server.tcp_port)
        yield RunningServer(PEERS["plainmq"], ProcessTree(server.process.pid), location)


def tiny(row: Row) -> dict[str, object]:
    """Changes to a row's load. It ends after the messages, not after a time, so that it passes on a slow machine."""
    readers, messages = bool(row.load.get("readers")), bool(row.load.get("messages"))
    counters = {"readers": 2 * readers, "publishers": 2 * messages, "messages": 400 * messages}
    return {**counters, "rate": 0.0, "settle": 0.0, "seconds": DEADLINE}


@pytest.mark.parametrize(("name", "case"), OURS, ids=[f"{name}: {case.name}" for name, case in OURS])
def test_a_row_measures_plainmq(plainmq: RunningServer, name: str, case: Case) -> None:
    row = ROWS[name]
    script = plainmq.peer.endpoints[case.endpoint].script(row.size)
    script = case.prepare(plainmq, script) if case.prepare else script
    result = run(load(row, case, plainmq, script, tiny(row)), plainmq.processes)
    assert (result.published, result.missing) == (tiny(row)["messages"], 0)
    assert math.isfinite(row.figure(result))
    assert result.server_cpu is not None


@pytest.mark.parametrize(("name", "endpoint"), ENDPOINTS, ids=[f"{name}: {endpoint}" for name, endpoint in ENDPOINTS])
def test_a_peer_delivers_what_its_script_publishes(name: str, endpoint: str) -> None:
    if not is_installed(name):
        pytest.skip(f"{name} is not installed")
    case, row = Case(name, endpoint), ROWS["fan-out"]
    with running_server(name, frozenset()) as peer:
        for size in (64, 1 << 14):
            result = run(load(row, case, peer, peer.peer.endpoints[endpoint].script(size), tiny(row)), peer.processes)
            assert (result.published, result.delivered) == (400, 800)


def test_the_command_prints_a_table_and_writes_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compare", "--rows", "idle-lines", "--peers", "original", "--rounds", "1", "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    with ExitStack() as stack:
        stack.callback(monkeypatch.undo)
        monkeypatch.setitem(ROWS, "idle-lines", ROWS["idle-lines"]._replace(load={"readers": 2}))
        compare.main()
    output = capsys.readouterr().out
    assert "| original" in output
    assert "| idle-lines |" in output
    assert "idle-lines --peers original" in (tmp_path / "report.md").read_text()
    assert (tmp_path / "report.json").stat().st_size


@pytest.mark.parametrize("arguments", ["durable --rounds 1 --seconds 0.1", "groups --rounds 1 --messages 400 --redis"])
def test_the_other_comparisons_run(tmp_path: Path, arguments: str) -> None:
    module, *flags = arguments.split()
    folder = ["--folder", str(tmp_path)] if module == "durable" else []
    command = [sys.executable, "-m", f"benchmarks.{module}", *flags, *folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3 * DEADLINE, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "plainmq HTTP" in done.stdout or "HTTP: publish" in done.stdout


@NO_REDIS
@pytest.mark.parametrize("part", cluster.ROWS)
def test_servers_on_one_journal_are_measured_and_deliver_everything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["cluster", "--parts", part, "--rounds", "1", "--seconds", "0.1"])
    cluster.main()
    printed = capsys.readouterr().out
    assert "plainmq, Redis" in printed
    assert ("plainmq, NATS" in printed) == (part != "fan-out")
