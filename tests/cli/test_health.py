"""`plainmq status`, `check` and `top`: in a shell, for monitoring, and on a terminal of a given size."""

import json
import os
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.cli.commands import post, run
from tests.cli.window import window
from tests.harness import DEADLINE, ServerProcess, free_port, start_server


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    """A server of its own: what needs attention is of the whole server."""
    with start_server(tcp_port=0) as process:
        yield process


def group_with_dead(server: ServerProcess, topic: str, group: str = "g") -> None:
    """A group with a dead message and a ready one, which nobody works on."""
    path = f"{server.url}/topics/{topic}/groups/{group}"
    httpx.put(path, json={"max_deliveries": 1}).raise_for_status()
    for body in ("dead", "ready"):
        post(server.url, topic, body)
    (job,) = httpx.post(f"{path}/pull?max=1").json()["messages"]
    httpx.post(f"{path}/nack", json={"ids": [job["lease"]], "reason": "bad card"}).raise_for_status()


def sentences(output: bytes) -> list[str]:
    rows = [line.split("\t") for line in output.decode().splitlines()]
    return [value for name, value in rows if name == "attention"]


# Status


def test_a_server_that_needs_nothing_is_fine(server: ServerProcess) -> None:
    post(server.url, "orders", "x")
    done = run("status", url=server.url)
    assert (done.returncode, done.stderr, sentences(done.stdout)) == (0, b"", ["nothing"])
    values = dict(line.split("\t") for line in done.stdout.decode().splitlines())
    assert (values["topics"], values["messages"], values["groups"]) == ("1", "1", "0")


def test_what_needs_attention_is_said_with_a_command_that_shows_more(server: ServerProcess) -> None:
    group_with_dead(server, "it's")
    done = run("status", url=server.url)
    dead, idle = sentences(done.stdout)
    assert done.returncode == 6
    assert dead == """1 dead message in g of it's: """ + (
        """plainmq peek 'it'"'"'s' g --state dead, then plainmq redrive 'it'"'"'s' g --all"""
    )
    assert idle.startswith("1 message ready and no consumer in g of it's: plainmq group ")
    httpx.post(f"{server.url}/topics/it's/groups/g/pause").raise_for_status()
    record = json.loads(run("status", "--json", url=server.url).stdout)
    assert [(item["code"], item["topic"], item["group"]) for item in record["attention"]] == [
        ("dead", "it's", "g"),
        ("paused", "it's", "g"),
    ]
    assert record["stats"]["now"]["dead"] == 1


def test_groups_that_have_a_worker_need_nothing(server: ServerProcess) -> None:
    httpx.put(f"{server.url}/topics/orders/groups/g", json={}).raise_for_status()
    for body in ("leased", "ready"):
        post(server.url, "orders", body)
    httpx.post(f"{server.url}/topics/orders/groups/g/pull?max=1").raise_for_status()
    assert run("status", url=server.url).returncode == 0


def test_many_matters_fit_on_a_screen_more_are_in_json_and_all_are_counted(server: ServerProcess) -> None:
    with httpx.Client(base_url=server.url) as client:
        for number in range(25):
            client.put(f"/topics/t{number:02}/groups/g", json={}).raise_for_status()
            client.post(f"/topics/t{number:02}/messages", content=b"x").raise_for_status()
    shown = sentences(run("status", url=server.url).stdout)
    assert len(shown) == 11
    assert shown[-1] == "and 15 more: plainmq status --json"
    record = json.loads(run("status", "--json", url=server.url).stdout)
    assert (len(record["attention"]), record["stats"]["attention_total"]) == (20, 25)


# Check


def test_a_server_that_can_be_used_passes_the_check(server: ServerProcess) -> None:
    done = run("check", "--publish", "a.*", "--view", "**", url=server.url)
    assert (done.returncode, done.stderr) == (0, b"")
    record = json.loads(run("check", "--json", url=server.url).stdout)
    assert (record["url"], record["ready"], record["session"]["anonymous"]) == (server.url, True, True)


def test_a_server_that_is_not_there_is_told_from_one_that_refuses(tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    done = run("check", url=address)
    assert done.returncode == 3
    assert done.stderr.decode().startswith(f"Error: {address} cannot be reached: ")
    token = run("token", "sensors", "--publish", "rooms.**", "--data-dir", str(tmp_path)).stdout.decode().strip()
    with start_server("--data-dir", str(tmp_path), tcp_port=0) as server:

        def check(*options: str, token: str | None = token) -> subprocess.CompletedProcess[bytes]:
            return run("check", *options, *(["--token", token] if token else []), url=server.url)

        assert check().returncode == 0
        assert check("--publish", "rooms.*").returncode == 0
        missing = check("--publish", "rooms.*", "--publish", "**", "--view", "rooms.a")
        assert missing.returncode == 1
        assert missing.stderr.decode() == (
            "the token has no right to publish on **; the token has no right to view on rooms.a\n"
        )
        assert b"\ntoken\tsensors\n" in missing.stdout
        assert json.loads(check("--view", "x", "--json").stdout)["missing"] == [["view", "x"]]
        assert check(token=None).returncode == 0  # as HEALTHCHECK needs it
        assert check("--publish", "rooms.a", token=None).returncode == 1
        assert check(token="pmq_" + "x" * 43).returncode == 1


def test_a_server_without_its_tokens_is_not_ready(tmp_path: Path) -> None:
    run("token", "sensors", "--all", "--data-dir", str(tmp_path))
    (tokens,) = tmp_path.glob("**/tokens")
    with start_server("--data-dir", str(tmp_path), tcp_port=0) as server:
        tokens.unlink()
        deadline = time.monotonic() + DEADLINE
        while (done := run("check", url=server.url)).returncode == 0:
            assert time.monotonic() < deadline, "it stays ready"
        assert done.returncode == 1
        assert f"{server.url} is not ready: the file of tokens cannot be read" in done.stderr.decode()
        assert b"\nready\tno\n" in done.stdout


# Top


def test_the_screen_fits_the_terminal_shows_the_figures_and_is_drawn_anew(server: ServerProcess) -> None:
    group_with_dead(server, "orders")
    with window("top", url=server.url) as top:
        lines = top.until(lambda lines: any("orders" in line and " g " in line for line in lines))
        assert len(lines) <= 24
        assert max(map(len, lines)) <= 80
        text = "\n".join(lines)
        assert server.url in lines[0]
        for word in ("published", "delivered", "acked", "refused", "subscribers", "lag", "memory", "loop delay"):
            assert word in text
        assert "! 1 dead message in g of orders: plainmq peek orders g --state dead" in text
        post(server.url, "news.today", "x")
        httpx.put(f"{server.url}/topics/news.today/groups/readers", json={}).raise_for_status()
        top.until(lambda lines: any("news.today" in line for line in lines))


def test_a_resize_draws_it_in_the_new_size(server: ServerProcess) -> None:
    for number in range(30):
        httpx.put(f"{server.url}/topics/t{number:02}/groups/g", json={}).raise_for_status()
    with window("top", url=server.url) as top:
        assert any("t11" in line for line in top.until(lambda lines: any("t00" in line for line in lines)))
        for rows, columns in ((12, 40), (40, 120), (3, 10)):
            top.resize(rows, columns)
            lines = top.until(partial(_has_size, rows, columns))
            assert max(map(len, lines)) == columns


def _has_size(rows: int, columns: int, lines: list[str]) -> bool:
    return len(lines) == rows and len(lines[0]) == columns


@pytest.mark.parametrize("key", [b"q", b"Q", b"\x04", b"\x1b"])
def test_a_key_ends_it_and_the_terminal_is_as_before(server: ServerProcess, key: bytes) -> None:
    with window("top", url=server.url) as top:
        before = termios.tcgetattr(top.ours)
        top.until(bool)
        assert termios.tcgetattr(top.ours) != before
        os.write(top.ours, b"\x1b[A")  # another key, an arrow, does nothing
        seen = top.drawn
        top.until(lambda _lines: top.drawn != seen)
        os.write(top.ours, key)
        assert top.process.wait(DEADLINE) == 0
        assert termios.tcgetattr(top.ours) == before
        left = b"".join(
            iter(lambda: os.read(top.ours, 65_536) if select.select([top.ours], [], [], 0)[0] else b"", b"")
        )
        assert left.rstrip().endswith(b"\x1b[?1049l")  # the alternate screen is left last


@pytest.mark.parametrize("keys", [b"\x1b[A\x1b", b"\x1bOQ\x1b", b"\x1b[Aq"])
def test_a_key_ends_it_that_is_read_together_with_others(server: ServerProcess, keys: bytes) -> None:
    with window("top", url=server.url) as top:
        top.until(bool)
        os.write(top.ours, keys)
        assert top.process.wait(DEADLINE) == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_the_terminal_is_as_before(server: ServerProcess, number: int, status: int) -> None:
    with window("top", url=server.url) as top:
        before = termios.tcgetattr(top.ours)
        top.until(bool)
        top.process.send_signal(number)
        assert top.process.wait(DEADLINE) == status
        assert termios.tcgetattr(top.ours) == before
        top.drawn += os.read(top.ours, 65_536)
        assert b"\x1b[?1049l" in top.drawn
        assert b"Traceback" not in top.drawn


def test_it_says_when_the_server_is_gone_and_comes_back_with_it() -> None:
    port = free_port()
    with start_server(port=port, tcp_port=0) as server, window("top", url=server.url) as top:
        top.until(lambda lines: any("published" in line for line in lines))
        server.stop()
        top.until(lambda lines: lines[1].strip() and server.url in lines[1])
        with start_server(port=port, tcp_port=0) as again:
            httpx.put(f"{again.url}/topics/back/groups/g", json={}).raise_for_status()
            top.until(lambda lines: not lines[1].strip() and any("back" in line for line in lines))


def test_a_server_that_hangs_is_noticed(server: ServerProcess) -> None:
    with window("top", url=server.url) as top:
        top.until(bool)
        server.process.send_signal(signal.SIGSTOP)
        try:
            top.until(lambda lines: f"{server.url} sends nothing" in lines[1])
        finally:
            server.process.send_signal(signal.SIGCONT)
        top.until(lambda lines: not lines[1].strip())


def test_without_a_screen_it_says_what_to_use_instead(server: ServerProcess) -> None:
    done = run("top", url=server.url)
    assert (done.returncode, done.stdout) == (2, b"")
    assert f"`curl -N {server.url}/stats/stream`" in done.stderr.decode()
    with window("top", url=server.url, TERM="dumb") as dumb:
        assert dumb.process.wait(DEADLINE) == 2


def test_names_do_not_steer_the_screen_and_a_terminal_without_blocks_gets_ascii(server: ServerProcess) -> None:
    post(server.url, "[red]x[/red]:warning:", "x")
    httpx.put(f"{server.url}/topics/[red]x[/red]:warning:/groups/g", json={}).raise_for_status()
    with window("top", url=server.url, LC_ALL="C", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0") as top:
        lines = top.until(lambda lines: any("[red]" in line for line in lines))
        assert any("[red]x[/red]:warning:" in line for line in lines)
        assert "\n".join(lines).isascii()


def test_a_server_that_is_not_there_or_refuses_is_said_before_the_screen_changes(tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{free_port()}"
    run("token", "all", "--all", "--data-dir", str(tmp_path))
    with start_server("--data-dir", str(tmp_path), tcp_port=0) as server:
        for url, status, sentence in ((address, 3, "cannot be reached"), (server.url, 1, "asks for a token")):
            with window("top", url=url) as top:
                assert top.process.wait(DEADLINE) == status
                shown = os.read(top.ours, 65_536).decode()
                assert sentence in shown
                assert "\x1b[?1049h" not in shown
