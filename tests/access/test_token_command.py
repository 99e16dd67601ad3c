"""`plainmq token`, and the commands that show a token to a server."""

import json
import os
import sys
from pathlib import Path

import pytest

from app.access.authenticator import Authenticator
from app.access.claims import LEEWAY
from app.access.grant import Right
from app.access.jwt_keys import ALGORITHMS, Expected, read_keys
from app.access.tokens import TokenFile
from app.client import Client
from tests import forked
from tests.access.conftest import guarded
from tests.access.keys import SECRET, private, private_pem, public_pem, put
from tests.harness import DEADLINE, ROOT


def run(*arguments: object, **variables: str) -> tuple[int, str, str]:
    """The exit status, what is printed, and what is said on standard error."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PLAINMQ_")}
    done = forked.run(
        [sys.executable, "-m", "app", *map(str, arguments)], cwd=ROOT, env=clean | variables, input="x\n",
        text=True, timeout=DEADLINE,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_a_token_is_printed_once_and_its_hash_is_kept(tmp_path: Path) -> None:
    rights = ("--publish", "a.**", "--publish", "b", "--consume", "c", "--view", "d")
    status, token, said = run("token", "somebody", *rights, "--data-dir", tmp_path, "--expires", "1h")
    path = tmp_path / "tokens"
    assert (status, said) == (0, f"its hash is in {path}\n")
    assert path.stat().st_mode & 0o777 == 0o600
    assert token.strip() not in path.read_text()
    grant = Authenticator(file=TokenFile(path)).authenticate(token.strip(), "")
    assert grant.name == "somebody"
    assert grant.expires is not None
    assert (grant.publish.names, grant.consume.names, grant.view.names) == (("a.**", "b"), ("c",), ("d",))
    assert not grant.allows(Right.SUBSCRIBE, "a.b")


def test_the_file_is_that_of_the_server_s_settings(tmp_path: Path) -> None:
    assert run("token", "a", "--all", PLAINMQ_DATA_DIR=str(tmp_path / "one"))[0] == 0
    assert run("token", "a", "--all", PLAINMQ_ENGINE=f"sqlite:{tmp_path}/two/log.db")[0] == 0
    assert run("token", "a", "--all", "--tokens", tmp_path / "three" / "mine")[0] == 0
    for name in ("one/tokens", "two/tokens", "three/mine"):
        assert '"name":"a"' in (tmp_path / name).read_text()


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["token"], 2, "Missing argument"),
        (["token", "a"], 2, "the token would have no rights"),
        (["token", "a", "--all", "--expires", "soon"], 2, "not a duration"),
        (["token", "taken", "--all"], 1, "has a token 'taken' already"),
        (["token", "a b", "--all"], 1, "there can be no such token"),
        (["token", "..", "--all"], 1, "no browser can revoke the token by its path: choose another name"),
        (["token", "a/./b", "--all"], 1, "no browser can revoke the token by its path: choose another name"),
        (["token", "a", "--publish", "a..b"], 1, "'a..b' is not a topic or pattern"),
        (["token", "a", "--all", "--key", "HS256:/no/such/file"], 1, "/no/such/file cannot be read"),
        (["token", "a", "--all", "--key", "none:x"], 1, "is not a key"),
    ],
)
def test_a_token_that_cannot_be_is_not_made(tmp_path: Path, arguments: list[str], status: int, sentence: str) -> None:
    line = b'{"name":"taken","sha256":"%b"}\n' % (b"ab" * 32)
    path = put(tmp_path / "tokens", line)
    ended, printed, said = run(*arguments, PLAINMQ_TOKENS=str(path))
    assert (ended, printed) == (status, "")
    assert sentence in said
    assert path.read_bytes() == line


def test_a_line_whose_name_a_browser_would_remove_from_a_path_is_answered_with_what_to_do(tmp_path: Path) -> None:
    path = put(tmp_path / "tokens", b'{"name":"..","sha256":"%b","view":["a"]}\n' % (b"ab" * 32))
    for command in (["serve", "--port", "0", "--tcp-port", "0"], ["tokens"]):
        status, printed, said = run(*command, PLAINMQ_TOKENS=str(path))
        assert (status, printed) == (1, "")
        assert f"line 1 of {path} is not a token: the name '..' has an empty segment or one of dots" in said
        assert "edit it in its line: the token stays valid" in said


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    put(tmp_path / "file", b"")
    status, _, said = run("token", "a", "--all", "--data-dir", tmp_path / "file")
    assert status == 1
    assert said.startswith(f"Error: {tmp_path}/file/tokens cannot be ")


@pytest.mark.parametrize("kind", ALGORITHMS)
def test_a_signed_token_is_good_for_a_server_with_the_other_half_of_the_key(tmp_path: Path, kind: str) -> None:
    ours = put(tmp_path / "ours", SECRET.encode() if kind == "HS256" else private_pem(private(kind)))
    theirs = put(tmp_path / "theirs", SECRET.encode() if kind == "HS256" else public_pem(kind))
    whom = ("--jwt-audience", "plainmq", "--jwt-issuer", "tests")
    status, token, said = run("token", "a", "--admin", "x", "--key", f"{kind}:{ours}", *whom)
    assert (status, said) == (0, "")
    authenticator = Authenticator(keys=read_keys(f"{kind}:{theirs}", Expected("plainmq", "tests")))
    grant = authenticator.authenticate(token.strip(), "")
    assert (grant.name, grant.admin.names, grant.publish.names) == ("a", ("x",), ())
    left = authenticator.seconds_left(grant)
    assert left is not None
    assert 0 < left - LEEWAY <= 3_600


def test_commands_show_the_token_that_they_are_given(tmp_path: Path) -> None:
    with guarded(tmp_path, "own protocol") as server:
        url = {"PLAINMQ_URL": server.process.url}
        narrow = server.token("narrow", publish=["a"])
        exported = {"id": "x-1", "topic": "a", "index": 0, "time": "2026-01-31T12:00:00Z", "event": None, "data": "x"}
        put(tmp_path / "exported", json.dumps(exported | {"content_type": "text/plain"}).encode())
        commands: list[list[object]] = [
            ["publish", "a", "x"],
            ["publish", "a", "--ndjson"],
            ["export", "--topic", "a"],
            ["import", tmp_path / "exported"],
            ["subscribe", "a", "--since", "earliest", "--count", "1"],
        ]
        for place, command in enumerate(commands):
            given, more = ({"PLAINMQ_TOKEN": server.good}, []) if place % 2 else ({}, ["--token", server.good])
            status, _, said = run(*command, *more, **url, **given)
            assert status == 0, (command, said)
            status, _, said = run(*command, **url)
            assert status == 1
            assert "asks for a token" in said, command
            assert "give a valid one with --token or PLAINMQ_TOKEN" in said, command
        status, _, said = run("publish", "a", "x", "--token", "x" * 20, **url)
        assert (status, "not one of this server's" in said, "x" * 20 in said) == (1, True, False)
        assert run("publish", "a", "x", **url, PLAINMQ_TOKEN=narrow)[0] == 0
        status, _, said = run("publish", "b", "x", **url, PLAINMQ_TOKEN=narrow)
        assert (status, said) == (1, "Error: this token has no right to publish on 'b'\n")


def test_a_token_that_cannot_be_sent_is_refused_and_not_shown() -> None:
    status, printed, said = run("publish", "a", "x", "--token", "canary\nX: y")
    assert (status, printed, "canary" in said) == (2, "", False)
    with pytest.raises(ValueError, match="copied"):
        Client(token="canary ")


def test_a_token_is_listed_and_revoked(tmp_path: Path) -> None:
    place = ("--data-dir", tmp_path)
    assert run("tokens", *place) == (0, "", f"there are no tokens in {tmp_path}/tokens\n")
    assert not (tmp_path / "tokens").exists()
    for name, *rights in (("bob", "--all", "--expires", "1d"), ("ann", "--publish", "a.**", "--publish", "b")):
        assert run("token", name, *rights, *place)[0] == 0
    ann, bob = (line.split("\t") for line in run("tokens", *place)[1].splitlines())
    assert ann == ["ann", "a.** b", "", "", "", "", ""]
    assert bob[:6] == ["bob", *["**"] * 5]
    listed = run("tokens", "--json", *place)[1]
    first, second = map(json.loads, listed.splitlines())
    assert first == {
        "name": "ann", "publish": ["a.**", "b"], "subscribe": [], "consume": [], "admin": [], "view": [],
        "expires": None,
    }  # fmt: skip
    assert (second["name"], second["expires"]) == ("bob", bob[6])
    assert "sha256" not in listed
    path = tmp_path / "tokens"
    assert run("token", "ann", "--revoke", *place) == (0, "", f"ann is no longer in {path}\n")
    assert [json.loads(line)["name"] for line in path.read_text().splitlines()] == ["bob"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert run("token", "ann", "--revoke", *place) == (1, "", f"Error: there is no token 'ann' in {path}\n")
    status, _, said = run("token", "bob", "--revoke", "--all", *place)
    assert (status, "--revoke takes no rights" in said) == (2, True)
    assert [*tmp_path.iterdir()] == [path]
