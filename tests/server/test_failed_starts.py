"""A start that fails ends in one sentence that names the setting, under every server; nothing is left behind."""

import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import forked
from tests.harness import DEADLINE, ROOT, free_port

CLEAN = {name: value for name, value in os.environ.items() if not name.upper().startswith("PLAINMQ_")}
NOT_STARTED = re.compile(r"error not started code=\w+ detail=(.*)|Error: (.*)")


@contextmanager
def taken() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


def private(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def pem(path: Path) -> str:
    return private(path, "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n")


def folder(path: Path) -> str:
    path.mkdir()
    return str(path)


FAILS: dict[str, tuple[str, Callable[[Path], str], str]] = {
    "a certificate that is not there": ("tls_cert", lambda here: str(here / "none.pem"), "No such file"),
    "a certificate that is none": ("tls_cert", lambda here: private(here / "cert", "x"), "holds no certificate"),
    "a certificate that is broken": ("tls_cert", lambda here: pem(here / "cert"), "cannot be used"),
    "a key that is not there": ("jwt_keys", lambda here: f"RS256:{here / 'none.pem'}", "No such file"),
    "a key that is none": ("jwt_keys", lambda here: f"RS256:{private(here / 'key', 'x')}", "key"),
    "a secret that others may read": ("jwt_keys", lambda here: f"HS256:{private(here / 'key', 'x', 0o644)}", "0644"),
    "tokens that are not there": ("tokens", lambda here: str(here / "none"), "no such file"),
    "tokens that are none": ("tokens", lambda here: private(here / "tokens", "x"), "line 1"),
    "tokens that others may read": ("tokens", lambda here: private(here / "tokens", "x", 0o644), "0644"),
    "an engine that nobody knows": ("engine", lambda _: "floppy", "sqlite"),
    "a log that is a folder": ("engine", lambda here: f"sqlite://{folder(here / 'log.db')}", "folder"),
    "a log below a file": ("engine", lambda here: f"sqlite://{private(here / 'file', 'x')}/log.db", "Not a directory"),
}
COMMANDS: dict[str, Callable[[int], list[str]]] = {
    "plainmq serve": lambda tcp_port: ["app", "serve", "--port", "0", "--tcp-port", str(tcp_port)],
    "uvicorn": lambda _: ["uvicorn", "app.main:app", "--port", "0"],
}


def refused(command: list[str], here: Path, **variables: str) -> str:
    """The sentence of a start that fails as it should."""
    ended = forked.run(
        [sys.executable, "-m", *command], cwd=here, text=True, timeout=DEADLINE,
        env=CLEAN | {"PYTHONPATH": str(ROOT), "HOME": str(here / "home")} | variables,
    )  # fmt: skip
    assert ended.returncode in {1, 3}, ended
    assert "Traceback" not in ended.stderr
    (told,) = NOT_STARTED.findall(ended.stderr)
    return "".join(told)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize(("name", "value", "why"), FAILS.values(), ids=FAILS)
def test_an_error_about_an_unusable_value_names_its_setting(
    tmp_path: Path, command: Callable[[int], list[str]], name: str, value: Callable[[Path], str], why: str
) -> None:
    wrong = {f"PLAINMQ_{name.upper()}": value(tmp_path), "PLAINMQ_TCP_PORT": "0"}
    before = {*tmp_path.rglob("*")}
    said = refused(command(0), tmp_path, **wrong)
    assert f"--{name.replace('_', '-')}" in said
    assert why in said
    assert {path for path in tmp_path.rglob("*") if path.suffix != ".lock"} == before


@pytest.mark.parametrize(("place", "why"), [("file/data", "a folder"), ("data", "Is a directory")])
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_an_error_about_an_unwritable_first_token_names_its_setting(
    tmp_path: Path, place: str, why: str, command: Callable[[int], list[str]]
) -> None:
    private(tmp_path / "file", "x")
    (tmp_path / "data" / "first-token").mkdir(parents=True)
    before = {*tmp_path.rglob("*")}
    variables = {"PLAINMQ_AUTH": "required", "PLAINMQ_TCP_PORT": "0", "PLAINMQ_DATA_DIR": str(tmp_path / place)}
    said = refused(command(0), tmp_path, **variables)
    assert "--data-dir (PLAINMQ_DATA_DIR)" in said
    assert why in said
    assert {*tmp_path.rglob("*")} == before


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_an_error_about_a_line_port_in_use_names_its_setting(
    tmp_path: Path, command: Callable[[int], list[str]]
) -> None:
    with taken() as port:
        said = refused(command(port), tmp_path, PLAINMQ_TCP_PORT=str(port), PLAINMQ_ENGINE=f"sqlite:{tmp_path}/log.db")
    assert f"127.0.0.1:{port}: Address already in use" in said
    assert "--tcp-port (PLAINMQ_TCP_PORT)" in said
    assert [*tmp_path.iterdir()] == []


def test_an_error_about_an_address_names_its_own_settings(tmp_path: Path) -> None:
    start = ["app", "serve", "--port", "0", "--tcp-port", "0"]
    with taken() as port:
        said = refused([*start, "--port", str(port)], tmp_path)
        assert "stop what listens there" in said
        assert "another --port (PLAINMQ_PORT)" in said
        assert "another PORT" in refused(["app", "echo", str(port)], tmp_path)
    elsewhere, nowhere = "192.0.2.1", "no.such.name.invalid"  # RFC 5737, RFC 6761
    for host in (elsewhere, nowhere):
        assert "--host (PLAINMQ_HOST)" in refused([*start, "--host", host], tmp_path)
        line_port = [*start, "--tcp-port", str(free_port()), "--tcp-host", host]
        assert "--tcp-host (PLAINMQ_TCP_HOST)" in refused(line_port, tmp_path)
        assert "another --host" in refused(["app", "echo", "0", "--host", host], tmp_path)


def test_two_ports_of_one_server_cannot_be_the_same(tmp_path: Path) -> None:
    """The system lets two sockets be bound to one address, as long as none of them listens."""
    port = str(free_port())
    assert "--tcp-port" in refused(["app", "serve", "--port", port, "--tcp-port", port], tmp_path)


HASTY = """
import asyncio, os, sys
from app.main import app

async def receive():
    return {"type": "lifespan.startup"}

async def send(message):
    os._exit(3 if message["type"] == "lifespan.startup.failed" else 0)

asyncio.run(app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send))
"""


def test_a_server_that_ends_its_worker_at_once_leaves_the_sentence_in_the_log(tmp_path: Path) -> None:
    wrong = {"PLAINMQ_TOKENS": private(tmp_path / "tokens", "x"), "PLAINMQ_TCP_PORT": "0"}
    (tmp_path / "hasty.py").write_text(HASTY)
    assert "line 1 of" in refused(["hasty"], tmp_path, **wrong)
