"""The first token, and what a start leaves behind: what was asked for, and nothing when it fails."""

import json
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from app.access.claims import every_right
from app.access.startup import FIRST_TOKEN_FILE
from app.access.tokens import make_token
from tests import forked
from tests.access.keys import SECRET, put
from tests.harness import DEADLINE, ROOT, ServerProcess, at_a_terminal, start_server, start_uvicorn_with

JSON = ("--log-format", "json")


def status(server: ServerProcess, token: str = "") -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.get(f"{server.url}/topics", headers=headers, timeout=DEADLINE).status_code


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a user's servers keep what they keep, where nothing else was said."""
    monkeypatch.delenv("PLAINMQ_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".local" / "state" / "plainmq"


# Where it is shown


@pytest.mark.parametrize("flags", [(), JSON])
def test_without_a_terminal_a_first_token_is_in_a_private_file_and_in_no_record(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    folder = tmp_path / "state"
    with start_server("--auth", "required", "--data-dir", str(folder), *flags, tcp_port=0) as server:
        shown = folder / FIRST_TOKEN_FILE
        assert str(shown) in server.banner
        assert shown.stat().st_mode & 0o777 == 0o600
        token = shown.read_text().strip()
        assert status(server, token) == 200
        server.stop()
        said = server.banner + "".join(server.process.stderr or ())
        assert token not in said
        assert "pmq_" not in said
    shown.unlink()
    with start_server("--auth", "required", "--data-dir", str(folder), tcp_port=0) as server:
        assert status(server, token) == 200
        assert not shown.exists()


def test_at_a_terminal_a_first_token_is_shown_there_and_nowhere_else(tmp_path: Path) -> None:
    with at_a_terminal("--auth", "required", "--data-dir", str(tmp_path)) as (_, said):
        pass
    assert len(re.findall(rb"export PLAINMQ_TOKEN=pmq_[\w-]{43}\r\n", said)) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"tokens"}


@pytest.mark.parametrize(
    "setting",
    [
        {"PLAINMQ_AUTH": "required"},
        {"PLAINMQ_PUBLIC_URL": "https://mq.example.org"},
        {"PLAINMQ_TRUSTED_PROXIES": "10.0.0.1"},
        {"PLAINMQ_TCP_HOST": "0.0.0.0"},
    ],
)
@pytest.mark.parametrize("engine", ["memory", "sqlite:{}/log.db"])
def test_under_another_server_a_first_token_is_made_as_well(
    home: Path, tmp_path: Path, setting: dict[str, str], engine: str
) -> None:
    folder = home if engine == "memory" else tmp_path
    with start_uvicorn_with(PLAINMQ_ENGINE=engine.format(tmp_path), **setting) as server:
        assert str(folder / FIRST_TOKEN_FILE) in server.banner
        token = (folder / FIRST_TOKEN_FILE).read_text().strip()
        assert token not in server.banner
        assert (status(server), status(server, token)) == (401, 200)
        server.stop()
    assert (folder / FIRST_TOKEN_FILE).exists() is (engine != "memory")


# Which tokens are in force


def test_the_banner_says_which_file_is_in_force_and_how_many_tokens_are_in_it(home: Path, tmp_path: Path) -> None:
    with start_server(tcp_port=0) as server:
        assert f"\n  tokens     none in {home / 'tokens'}: no token is required\n" in server.banner
    for name in ("a", "b"):
        make_token(home / "tokens", name, every_right())
    with start_server(tcp_port=0) as server:
        assert f"\n  tokens     2 in {home / 'tokens'}\n" in server.banner
        assert status(server) == 401
    keys = ("--jwt-keys", f"HS256:{put(tmp_path / 'secret', SECRET.encode())}")
    with start_server(*keys, *JSON, tcp_port=0) as server:
        (listening,) = [line for line in map(json.loads, server.banner.splitlines()) if line["message"] == "listening"]
        assert listening["tokens"] == f"2 in {home / 'tokens'}, and those that are signed with one of 1 keys"
    with start_server("--auth", "none", tcp_port=0) as server:
        assert "tokens" not in server.banner.partition("plainmq 0")[2]
    with start_uvicorn_with() as server:
        assert f"tokens are needed: 2 in {home / 'tokens'}" in server.banner


def test_a_server_in_memory_leaves_no_token_behind(home: Path) -> None:
    with start_server("--host", "0.0.0.0", tcp_port=0) as server:
        token = (home / FIRST_TOKEN_FILE).read_text().strip()
        assert "0 in " in server.banner
        assert "1 until this server ends" in server.banner
        assert (status(server), status(server, token)) == (401, 200)
        made = make_token(home / "tokens", "made", every_right())  # by hand: that one is meant to stay
        assert status(server, made) == 200
        assert server.stop() == 0
    assert sorted(file.name for file in home.iterdir()) == ["tokens"]  # that one, and nothing of its own
    with start_server(tcp_port=0) as server:
        assert (status(server), status(server, token), status(server, made)) == (401, 401, 200)
        assert "1 in " in server.banner
    (home / "tokens").unlink()
    with start_server(tcp_port=0) as server:
        assert status(server) == 200


def test_a_server_in_memory_leaves_another_ones_first_token_and_no_key_of_tickets(home: Path) -> None:
    with start_server("--auth", "required", tcp_port=0) as first:
        token = (home / FIRST_TOKEN_FILE).read_text().strip()
        ticket = httpx.post(f"{first.url}/tickets", headers={"Authorization": f"Bearer {token}"})
        assert ticket.status_code in (200, 201)
        with start_server("--auth", "required", tcp_port=0) as second:
            others = (home / FIRST_TOKEN_FILE).read_text().strip()
            assert first.stop() == 0
            assert [file.name for file in home.iterdir()] == [FIRST_TOKEN_FILE]
            assert status(second, others) == 200
            assert second.stop() == 0
        assert not [*home.iterdir()]


def test_what_a_killed_server_in_memory_leaves_is_in_force_nowhere_and_the_next_start_removes_it(home: Path) -> None:
    with start_server("--host", "0.0.0.0", tcp_port=0) as killed:
        token = (home / FIRST_TOKEN_FILE).read_text().strip()
        with start_server(tcp_port=0) as beside:  # the file of a server that runs stays
            assert status(beside) == 200
            assert status(killed, (home / FIRST_TOKEN_FILE).read_text().strip()) == 200
        killed.stop(signal.SIGKILL)
    assert (home / FIRST_TOKEN_FILE).exists()
    with start_server(tcp_port=0) as server:
        assert status(server) == 200
        assert "no token is required" in server.banner
        assert not [*home.iterdir()]
    with start_server("--host", "0.0.0.0", tcp_port=0) as server:
        assert (status(server, token), status(server)) == (401, 401)
        assert (home / FIRST_TOKEN_FILE).read_text().strip() != token


def test_the_first_token_of_a_server_that_stores_it_is_not_abandoned(home: Path) -> None:
    with start_server("--auth", "required", "--data-dir", str(home), tcp_port=0) as server:
        token = (home / FIRST_TOKEN_FILE).read_text()
        server.stop(signal.SIGKILL)
    with start_server(tcp_port=0) as server:  # in memory, with the tokens of the same folder
        assert (home / FIRST_TOKEN_FILE).read_text() == token
        assert (status(server), status(server, token.strip())) == (401, 200)


@pytest.mark.parametrize("kept", [("--data-dir", "{}"), ("--engine", "sqlite://{}/log.db")])
@pytest.mark.usefixtures("home")
def test_a_server_that_keeps_something_keeps_its_first_token(tmp_path: Path, kept: tuple[str, str]) -> None:
    flags = [part.format(tmp_path) for part in kept]
    with start_server("--auth", "required", *flags, tcp_port=0) as server:
        token = (tmp_path / FIRST_TOKEN_FILE).read_text().strip()
        assert status(server, token) == 200
    with start_server(*flags, tcp_port=0) as server:
        assert (status(server), status(server, token)) == (401, 200)


# A start that fails


@contextmanager
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


FAILS: dict[str, Callable[[Path, int], list[str]]] = {
    "the address of the HTTP port": lambda _, port: ["--port", str(port)],
    "the address of the line port": lambda _, port: ["--tcp-port", str(port)],
    "a certificate": lambda folder, _: ["--tls-cert", str(folder / "none.pem")],
    "a key of JSON Web Tokens": lambda folder, _: ["--jwt-keys", f"RS256:{folder / 'none.pem'}"],
    "a setting": lambda *_: ["--trusted-proxies", "nowhere"],
}


@pytest.mark.parametrize("engine", ["memory", "sqlite://{}/state/log.db"])
@pytest.mark.parametrize("fails", FAILS.values(), ids=FAILS)
def test_a_start_that_fails_leaves_nothing_behind(
    tmp_path: Path, fails: Callable[[Path, int], list[str]], engine: str
) -> None:
    with taken() as port:
        flags = ["--port", "0", "--tcp-port", "0", *fails(tmp_path, port), "--engine", engine.format(tmp_path)]
        flags += ["--auth", "required", "--data-dir", str(tmp_path / "state")]
        command = [sys.executable, "-m", "app", "serve", *flags]
        ended = forked.run(command, cwd=ROOT, text=True, timeout=DEADLINE)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert [*tmp_path.iterdir()] == []


@pytest.mark.usefixtures("home")
def test_a_start_that_fails_since_another_server_has_the_file_makes_no_token(tmp_path: Path) -> None:
    engine = ["--engine", f"sqlite://{tmp_path}/log.db"]
    with start_server(*engine, tcp_port=0):
        before = {path.name for path in tmp_path.iterdir()}
        command = [sys.executable, "-m", "app", "serve", "--port", "0", "--tcp-port", "0", "--auth", "required"]
        ended = forked.run([*command, *engine], cwd=ROOT, text=True, timeout=DEADLINE)
        assert ended.returncode == 1
        assert {path.name for path in tmp_path.iterdir()} == before
