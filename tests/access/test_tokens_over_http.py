"""Tokens are listed, made and revoked over HTTP; the file of tokens is the store, and `plainmq token` writes it too."""

import asyncio
import fcntl
import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from app.access.claims import every_right
from app.access.tokens import MAX_FILE, MAX_TOKENS, make_token
from app.client import AsyncClient, NotFound, RequestRefused
from tests.access.conftest import Guarded
from tests.access.keys import SECRET, claims, put, signed
from tests.event_stream import stream
from tests.harness import DEADLINE, ROOT, ServerProcess, http_client, start_server, start_uvicorn_with

EVERYTHING: Final = {right: ["**"] for right in ("publish", "subscribe", "consume", "admin", "view")}
STARTS: Final = ["own protocol", "plain ASGI"]


def client(server: ServerProcess, token: str = "") -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url=server.url, headers=headers, timeout=DEADLINE)


@pytest.fixture
def http(protected: Guarded) -> Iterator[httpx.Client]:
    with client(protected.process, protected.good) as http:
        yield http


@contextmanager
def started(kind: str, **settings: str) -> Iterator[ServerProcess]:
    if kind == "own protocol":
        flags = [part for name, value in settings.items() for part in ("--" + name.replace("_", "-"), value)]
        with start_server(*flags) as process:
            yield process
    else:
        with start_uvicorn_with(**{f"PLAINMQ_{name.upper()}": value for name, value in settings.items()}) as process:
            yield process


def made(http: httpx.Client, name: str, **body: Any) -> str:
    answer = http.post("/tokens", json={"name": name, **body})
    assert answer.status_code == 201, answer.text
    token: str = answer.json()["token"]
    return token


def refusal(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def names(http: httpx.Client) -> list[str]:
    return [token["name"] for token in http.get("/tokens", params={"limit": 1_000}).json()["tokens"]]


def test_a_token_is_shown_once_and_good_at_once(protected: Guarded, http: httpx.Client) -> None:
    answer = http.post("/tokens", json={"name": "sensors", "publish": ["rooms.**", "a"], "expires": "30d"})
    record = answer.json()
    token = record.pop("token")
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    with client(protected.process, token) as sensors:
        assert sensors.post("/topics/rooms.1/messages", content=b"x").status_code == 201
        assert sensors.post("/topics/b/messages", content=b"x").status_code == 403
        assert sensors.get("/session").json()["expires"] == record["expires"]
    listed = http.get("/tokens", params={"after": "sensor", "limit": 1})
    assert listed.json() == {"tokens": [record], "next": None}
    nothing: dict[str, Any] = {"subscribe": [], "consume": [], "admin": [], "view": [], "stored": True, "own": False}
    assert record == nothing | {"name": "sensors", "publish": ["rooms.**", "a"], "expires": record["expires"]}
    stored = protected.tokens.read_text()
    digest = json.loads(stored.splitlines()[-1])["sha256"]
    assert token not in stored
    assert not any(digest in shown for shown in (answer.text, listed.text))
    assert stat.S_IMODE(protected.tokens.stat().st_mode) == 0o600
    assert refusal(http.post("/tokens", json={"name": "sensors", "view": ["**"]})) == (409, "token_exists")
    assert http.delete("/tokens/sensors").status_code == 204


async def test_a_revoked_token_is_refused_and_its_streams_end(protected: Guarded) -> None:
    async with http_client(protected.process.url, headers={"Authorization": f"Bearer {protected.good}"}) as http:
        body = {"name": "reader", "subscribe": ["news"]}
        token = (await http.post("/tokens", json=body)).json()["token"]
        before = [line for line in protected.tokens.read_bytes().splitlines() if b'"reader"' not in line]
        bearer = {"Authorization": f"Bearer {token}"}
        async with stream(protected.process, "/topics/news/stream", **bearer) as events:
            assert (await http.delete("/tokens/reader")).status_code == 204
            assert (await http.get("/topics/news", headers=bearer)).status_code == 401
            (bye,) = await events.take(1)
        assert (bye.type, json.loads(bye.data)["reason"]) == ("bye", "revoked")
        assert protected.tokens.read_bytes().splitlines() == before
        assert stat.S_IMODE(protected.tokens.stat().st_mode) == 0o600
        assert refusal(await http.delete("/tokens/reader")) == (404, "not_found")


def test_tokens_are_listed_in_pages_by_name(protected: Guarded, http: httpx.Client) -> None:
    more = [f"page-{number}" for number in range(5)]
    for name in more:
        make_token(protected.tokens, name, every_right())
    seen, after = [], "page"
    while after is not None:
        page = http.get("/tokens", params={"after": after, "limit": 2}).json()
        seen += [token["name"] for token in page["tokens"]]
        after = page["next"]
    assert seen == more
    own = [token for token in http.get("/tokens").json()["tokens"] if token["own"]]
    assert [token["name"] for token in own] == ["good"]
    assert names(http) == sorted(["good", "expired", *more])
    for name in more:
        assert http.delete(f"/tokens/{name}").status_code == 204


WRONG: Final[list[Any]] = [
    {}, {"name": "a"}, {"view": ["a"]}, {"name": "", "view": ["a"]}, {"name": "a b", "view": ["a"]},
    {"name": "a" * 129, "view": ["a"]}, {"name": "a", "view": "a"}, {"name": "a", "view": ["a..b"]},
    {"name": "a", "view": ["a"] * 65}, {"name": "a", "view": ["a"], "sha256": "0" * 64},
    {"name": "a", "view": ["a"], "expires": "0"}, {"name": "a", "view": ["a"], "expires": "soon"},
    {"name": "a", "view": ["a"], "expires": "36501d"}, {"name": "a", "view": ["a"], "expires": 30}, [], "a",
]  # fmt: skip


@pytest.mark.parametrize("body", WRONG, ids=json.dumps)
def test_a_token_that_cannot_be_is_not_made(protected: Guarded, http: httpx.Client, body: Any) -> None:
    before = protected.tokens.read_bytes()
    answer = http.post("/tokens", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] in {"option_invalid", "topic_invalid"}
    assert protected.tokens.read_bytes() == before


def test_a_client_cannot_grant_a_right_that_it_does_not_have(protected: Guarded, http: httpx.Client) -> None:
    with client(protected.process, made(http, "narrow", admin=["**"], publish=["rooms.*"])) as narrow:
        for right, pattern in (("subscribe", "a"), ("publish", "**"), ("publish", "rooms.**"), ("view", "a")):
            answer = narrow.post("/tokens", json={"name": "more", right: [pattern]})
            assert refusal(answer) == (403, "forbidden")
            assert repr(pattern) in answer.json()["detail"]
        made(narrow, "same", admin=["a.**", "**"], publish=["rooms.1", "rooms.*"])
    assert names(http) == ["expired", "good", "narrow", "same"]
    with client(protected.process, made(http, "partial", admin=["a.**"])) as partial:
        assert refusal(partial.get("/tokens")) == (403, "forbidden")
    for name in ("narrow", "same", "partial"):
        assert http.delete(f"/tokens/{name}").status_code == 204


def test_a_token_revokes_itself_only_on_request(protected: Guarded, http: httpx.Client) -> None:
    with client(protected.process, made(http, "me", **EVERYTHING)) as me:
        assert refusal(me.delete("/tokens/me")) == (409, "lockout")
        assert refusal(me.delete("/tokens/me?own=false")) == (409, "lockout")
        assert me.get("/session").json()["name"] == "me"
        assert me.delete("/tokens/me?own=true").status_code == 204
        assert me.get("/session").status_code == 401


def test_a_signed_token_of_the_same_name_is_another_one(protected: Guarded, http: httpx.Client) -> None:
    with client(protected.process, signed(claims(sub="twin"), SECRET)) as twin:
        made(twin, "twin", view=["a"])
        assert [token["own"] for token in twin.get("/tokens?after=twi").json()["tokens"]] == [False]
        assert twin.delete("/tokens/twin").status_code == 204
        assert "twin" not in names(http)


@pytest.mark.parametrize(
    "name", ["a/b", "a/.../b", "...", ".a", "%2F", "%2e%2e", "a?b#c", "~!$&'()*+,;=:@[]{}|\\^`\"<>"]
)
async def test_every_name_can_be_revoked(protected: Guarded, name: str) -> None:
    async with AsyncClient(protected.process.url, token=protected.good) as ours:
        token = await ours.create_token(name, view=["a"], expires="1h")
        assert (token.name, token.view, token.stored, token.own) == (name, ["a"], True, False)
        async with AsyncClient(protected.process.url, token=token.token) as theirs:
            with pytest.raises(RequestRefused, match="no right to admin"):
                await theirs.tokens()
        page = await ours.tokens(limit=1_000)
        assert name in [token.name for token in page]
        await ours.revoke_token(name)
        with pytest.raises(NotFound):
            await ours.revoke_token(name)


@pytest.mark.parametrize("name", [".", "..", "a/..", "../a", "a/./b", "/a", "a/", "a//b"])
def test_a_name_that_a_browser_would_remove_from_a_path_is_refused(http: httpx.Client, name: str) -> None:
    before = names(http)
    answer = http.post("/tokens", json={"name": name, "view": ["a"]})
    assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")
    assert "no browser can revoke the token by its path: choose another name" in answer.json()["detail"]
    assert names(http) == before


# Servers without tokens


@pytest.mark.parametrize("kind", STARTS)
def test_the_first_token_can_make_others(kind: str, tmp_path: Path) -> None:
    with started(kind, data_dir=str(tmp_path)) as server, client(server) as http:
        assert http.get("/tokens").json() == {"tokens": [], "next": None}
        assert refusal(http.post("/tokens", json={"name": "a", "publish": ["**"]})) == (409, "lockout")
        assert refusal(http.post("/tokens", json={"name": "a", "admin": ["a.**"]})) == (409, "lockout")
        assert not (tmp_path / "tokens").exists()
        token = made(http, "boss", **EVERYTHING)
        # Under another ASGI server, clients of a loopback address were let in only while there was no token.
        assert http.get("/topics").status_code == (200 if kind == "own protocol" else 401)
        with client(server, token) as boss:
            made(boss, "worker", consume=["jobs"])
            assert names(boss) == ["boss", "worker"]
    with started(kind, data_dir=str(tmp_path)) as server, client(server) as http, client(server, token) as boss:
        assert http.get("/topics").status_code == 401
        assert names(boss) == ["boss", "worker"]


def test_a_token_that_has_expired_makes_no_others(tmp_path: Path) -> None:
    make_token(tmp_path / "tokens", "old", every_right(), 1_000.0)
    keyless = {"data_dir": str(tmp_path)}
    with started("own protocol", **keyless) as server, client(server) as http:
        assert http.get("/tokens").status_code == 401
    key = put(tmp_path / "secret", SECRET.encode())
    with (
        started("own protocol", jwt_keys=f"HS256:{key}", **keyless) as server,
        client(server, signed(claims(aud=None, iss=None), SECRET)) as http,
    ):
        made(http, "sensors", publish=["a"])  # signed tokens make others


@pytest.mark.parametrize("kind", STARTS)
def test_a_server_that_never_asks_for_a_token_makes_none(kind: str, tmp_path: Path) -> None:
    with started(kind, data_dir=str(tmp_path), auth="none") as server, client(server) as http:
        assert http.get("/tokens").json() == {"tokens": [], "next": None}
        assert refusal(http.post("/tokens", json={"name": "a", **EVERYTHING})) == (409, "tokens_unused")
        assert refusal(http.delete("/tokens/a")) == (404, "not_found")
    assert not (tmp_path / "tokens").exists()


def test_a_first_token_that_is_in_no_file_is_listed_and_can_be_revoked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PLAINMQ_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    with started("own protocol", auth="required") as server:
        folder = tmp_path / ".local" / "state" / "plainmq"
        with client(server, (folder / "first-token").read_text().strip()) as first:
            (token,) = first.get("/tokens").json()["tokens"]
            assert (token["name"], token["stored"], token["own"]) == ("admin", False, True)
            assert refusal(first.post("/tokens", json={"name": "a", "publish": ["**"]})) == (409, "lockout")
            with client(server, made(first, "boss", **EVERYTHING)) as boss:
                assert boss.delete("/tokens/admin").status_code == 204
                assert first.get("/session").status_code == 401
                assert names(boss) == ["boss"]


# The file


@pytest.mark.parametrize("kind", STARTS)
@pytest.mark.parametrize("wrong", ["a line that is no token", "a file for others"])
def test_a_file_that_is_not_in_order_is_left_as_it_is(kind: str, wrong: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    good = make_token(path, "good", every_right())
    make_token(path, "other", every_right())
    with started(kind, tokens=str(path)) as server, client(server, good) as http:
        assert names(http) == ["good", "other"]
        if wrong == "a file for others":
            path.chmod(0o644)
        else:
            put(path, path.read_bytes() + b"{broken\n")
        before = path.read_bytes()
        answers = [
            http.get("/tokens"), http.post("/tokens", json={"name": "a", "view": ["a"]}), http.delete("/tokens/other"),
        ]  # fmt: skip
        for answer in answers:
            assert refusal(answer) == (503, "tokens_unreadable")
            assert answer.headers["retry-after"]
            assert str(path) in answer.json()["detail"]
        assert path.read_bytes() == before


def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "tokens", tmp_path / "tokens"
    good = make_token(real, "good", every_right())
    link.symlink_to(real)
    with started("own protocol", tokens=str(link)) as server, client(server, good) as http:
        made(http, "a", view=["a"])
        assert http.delete("/tokens/a").status_code == 204
        assert link.is_symlink()
        assert [json.loads(line)["name"] for line in real.read_text().splitlines()] == ["good"]
        assert [*real.parent.iterdir()] == [real]


def test_a_full_file_takes_no_other_token(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    good = make_token(path, "good", every_right())
    lines = [b'{"name":"n%d","sha256":"%064x","view":["a"]}\n' % (number, number) for number in range(1, MAX_TOKENS)]
    put(path, path.read_bytes() + b"".join(lines))
    with started("own protocol", tokens=str(path)) as server, client(server, good) as http:
        before = path.read_bytes()
        assert refusal(http.post("/tokens", json={"name": "more", "view": ["a"]})) == (429, "token_limit")
        command = [sys.executable, "-m", "app", "token", "more", "--all", "--tokens", str(path)]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert "may have no more" in ended.stderr
        assert path.read_bytes() == before
        assert http.delete("/tokens/n1").status_code == 204
        made(http, "more", view=["a"])
        assert len(path.read_bytes().splitlines()) == MAX_TOKENS


def test_a_file_without_room_takes_no_other_token_and_stays_readable(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    good = make_token(path, "good", every_right())
    put(path, path.read_bytes().ljust(MAX_FILE - 300) + b"\n")
    with started("own protocol", tokens=str(path)) as server, client(server, good) as http:
        made(http, "small", view=["a"])
        before = path.read_bytes()
        assert refusal(http.post("/tokens", json={"name": "more", "view": ["a" * 200]})) == (429, "token_limit")
        command = [sys.executable, "-m", "app", "token", "more", "--view", "a" * 200, "--tokens", str(path)]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert "it may have 4096 KiB" in ended.stderr
        assert path.read_bytes() == before
        assert names(http) == ["good", "small"]


async def test_programs_that_write_the_file_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    """Two servers with one file, and the command."""
    path = tmp_path / "tokens"
    good = make_token(path, "good", every_right())
    old = [f"old-{number}" for number in range(12)]
    for name in old:
        make_token(path, name, every_right())
    with started("own protocol", tokens=str(path)) as one, started("own protocol", tokens=str(path)) as two:
        async with AsyncClient(one.url, token=good) as first, AsyncClient(two.url, token=good) as second:
            async with asyncio.TaskGroup() as tasks:
                for number, name in enumerate(old):
                    here, there = (first, second) if number % 2 else (second, first)
                    tasks.create_task(here.revoke_token(name))
                    tasks.create_task(there.create_token(f"new-{number}", view=["a"]))
                    tasks.create_task(asyncio.to_thread(make_token, path, f"made-{number}", every_right()))
            expected = sorted(["good", *(f"{word}-{number}" for word in ("new", "made") for number in range(12))])
            assert [token.name for token in await first.tokens()] == expected
            assert [token.name for token in await second.tokens()] == expected


async def test_a_server_serves_while_it_waits_for_the_lock_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    good = make_token(path, "good", every_right())
    with started("own protocol", tokens=str(path)) as server:
        async with AsyncClient(server.url, token=good) as ours:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                waiting = asyncio.create_task(ours.create_token("a", view=["a"]))
                async with http_client(server.url) as http:
                    for _ in range(20):
                        assert (await http.get("/livez")).status_code == 200
                assert not waiting.done()
            assert (await waiting).name == "a"
