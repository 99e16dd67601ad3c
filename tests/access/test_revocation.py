"""A token that was taken out is good no more, in whatever state the file is in; and nobody's bad tokens keep a good one
out."""

import asyncio
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from app.access import private_files, tokens
from app.access.authenticator import AnonymousAccess, Authenticator
from app.access.claims import Rights, every_right
from app.access.jwt_keys import Expected, JwtKeys, read_key
from app.access.token_watch import CHECK_INTERVAL
from app.access.tokens import MAX_FILE, MAX_LINES, PART_BYTES, TokenFile, make_token, new_token
from app.errors import Unauthorised
from app.limits.quotas import FailedLogins
from tests.access.keys import SECRET, claims, private, private_pem, public_pem, put, signed
from tests.event_stream import stream
from tests.harness import DEADLINE, ServerProcess, http_client, start_server
from tests.line_client import lines

METRIC = 'plainmq_stale_files{file="%s"}'


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class Server:
    """A server whose file of tokens a test changes."""

    def __init__(self, process: ServerProcess, path: Path, tokens: dict[str, str], http: httpx.AsyncClient) -> None:
        self.process, self.path, self.tokens, self.http = process, path, tokens, http

    async def status(self, name: str) -> int:
        return (await self.http.get("/topics", headers=bearer(self.tokens[name]))).status_code

    async def becomes(self, name: str, status: int) -> None:
        async with asyncio.timeout(DEADLINE):
            while await self.status(name) != status:
                pass

    async def metric(self, file: str, name: str = "ann") -> float:
        text = (await self.http.get("/metrics", headers=bearer(self.tokens[name]))).text
        return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(METRIC % file))

    def without(self, name: str) -> bytes:
        return b"".join(line for line in self.path.read_bytes().splitlines(True) if f'"{name}"'.encode() not in line)

    def replace(self, data: bytes, mode: int) -> None:
        """As `mv` does with another file."""
        new = put(self.path.with_name("t"), data)
        new.chmod(mode)
        new.replace(self.path)


@asynccontextmanager
async def serving(folder: Path, *flags: str) -> AsyncIterator[Server]:
    path = folder / "tokens"
    tokens = {name: make_token(path, name, every_right()) for name in ("ann", "bob")}
    with start_server("--tokens", str(path), "--max-failed-logins", "0", *flags) as process:
        async with http_client(process.url) as http:
            yield Server(process, path, tokens, http)


# A file that is not as it must be


def _broken(server: Server, data: bytes) -> None:
    server.replace(data + b"{broken\n", 0o600)


NOT_RIGHT: dict[str, Callable[[Server, bytes], object]] = {
    "others may read it": lambda server, data: server.replace(data, 0o644),
    "others may write it": lambda server, data: server.replace(data, 0o666),
    "a line is none": _broken,
    "a name stands twice": lambda server, data: server.replace(
        data + b'{"name":"ann","sha256":"%b","admin":["**"]}\n' % (b"ab" * 32), 0o600
    ),
}


@pytest.mark.parametrize("spoil", NOT_RIGHT.values(), ids=NOT_RIGHT)
async def test_in_an_untrusted_file_removed_tokens_are_revoked_and_listed_ones_stay(
    tmp_path: Path, spoil: Callable[[Server, bytes], object]
) -> None:
    async with serving(tmp_path) as server:
        assert [await server.status(name) for name in ("ann", "bob")] == [200, 200]
        async with stream(server.process, "/topics/a/stream", **bearer(server.tokens["bob"])) as events:
            data = server.without("bob")
            other = tmp_path / "other"
            server.tokens["new"] = make_token(other, "new", every_right())
            spoil(server, data + other.read_bytes())
            await server.becomes("bob", 401)
            last = None
            while event := await events.next():
                last = event
            assert last is not None
            assert last.data == '{"reason":"revoked"}'
        assert [await server.status(name) for name in ("ann", "bob", "new")] == [200, 401, 401]
        assert await server.metric("tokens") == 1
        assert (await server.http.get("/readyz")).status_code == 200  # who stands in it is served
        server.replace(data + other.read_bytes(), 0o600)
        await server.becomes("new", 200)
        assert [await server.status(name) for name in ("ann", "bob")] == [200, 401]
        assert await server.metric("tokens") == 0
        server.process.stop()
        said = [line for line in server.process.complaints() if "the file of tokens" in line]
        assert len(said) == 1  # however often it was looked at
        assert "was not loaded" in said[0]


@pytest.mark.parametrize("put_there", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
async def test_while_the_file_cannot_be_read_no_token_of_it_is_taken_and_the_server_is_not_ready(
    tmp_path: Path, put_there: Callable[[Path], object]
) -> None:
    async with serving(tmp_path) as server:
        assert await server.status("ann") == 200
        aside = server.path.rename(tmp_path / "aside")
        put_there(server.path)
        await server.becomes("ann", 401)
        refused = await server.http.get("/readyz")
        assert (refused.status_code, refused.json()["code"]) == (503, "tokens_unreadable")
        server.path.rmdir() if server.path.is_dir() else server.path.unlink()
        aside.rename(server.path)
        await server.becomes("ann", 200)
        assert (await server.http.get("/readyz")).status_code == 200


TOO_LONG = {"bytes": b" " * MAX_FILE, "lines": b"\n" * (MAX_LINES + 1), "lines of old": b"\r" * (MAX_LINES + 1)}


@pytest.mark.parametrize("more", TOO_LONG)
async def test_while_the_file_is_too_long_no_token_of_it_is_taken_and_the_server_is_not_ready(
    tmp_path: Path, more: str
) -> None:
    secret = put(tmp_path / "secret", SECRET.encode())
    async with serving(tmp_path, "--jwt-keys", f"HS256:{secret}") as server:
        server.tokens["signed"] = signed(claims(aud=None, iss=None))
        data = server.path.read_bytes()
        assert await server.status("ann") == 200
        with server.path.open("ab") as file:
            file.write(TOO_LONG[more])
        await server.becomes("ann", 401)
        refused = await server.http.get("/readyz")
        assert (refused.status_code, refused.json()["code"]) == (503, "tokens_unreadable")
        assert [await server.status(name) for name in ("bob", "signed")] == [401, 200]
        assert await server.metric("tokens", "signed") == 1
        server.replace(data, 0o600)
        await server.becomes("ann", 200)
        assert (await server.http.get("/readyz")).status_code == 200
        assert await server.metric("tokens", "signed") == 0
        server.process.stop()
        (said,) = [line for line in server.process.complaints() if "the file of tokens" in line]
        assert "tokens cannot be read: it has more than " in said


GONE: dict[str, Callable[[Path], object]] = {
    "the file": lambda folder: (folder / "tokens").rename(folder / "aside"),
    "its folder": lambda folder: folder.rename(folder.with_name("aside")),
}
BACK: dict[str, Callable[[Path], object]] = {
    "the file": lambda folder: (folder / "aside").rename(folder / "tokens"),
    "its folder": lambda folder: folder.with_name("aside").rename(folder),
}


@pytest.mark.parametrize("what", GONE)
async def test_while_the_file_is_gone_no_token_of_it_is_taken_and_the_server_says_so_until_it_is_back(
    tmp_path: Path, what: str
) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    secret = put(tmp_path / "secret", SECRET.encode())
    async with serving(folder, "--jwt-keys", f"HS256:{secret}") as server:
        server.tokens["signed"] = signed(claims(aud=None, admin=["**"]))
        assert [await server.status(name) for name in ("ann", "bob", "signed")] == [200, 200, 200]
        async with stream(server.process, "/topics/a/stream", **bearer(server.tokens["bob"])) as events:
            GONE[what](folder)
            await server.becomes("ann", 401)
            last = None
            while event := await events.next():
                last = event
            assert last is not None
            assert last.data == '{"reason":"revoked"}'
        for _ in range(2):
            refused = await server.http.get("/readyz")
            assert (refused.status_code, refused.json()["code"]) == (503, "tokens_unreadable")
            assert [await server.status(name) for name in ("ann", "bob", "signed")] == [401, 401, 200]
            assert await server.metric("tokens", "signed") == 1
        BACK[what](folder)
        await server.becomes("ann", 200)
        assert (await server.http.get("/readyz")).status_code == 200
        assert [await server.status(name) for name in ("bob", "signed")] == [200, 200]
        assert await server.metric("tokens") == 0
        server.process.stop()
        (said,) = [line for line in server.process.complaints() if "the file of tokens" in line]
        assert "tokens cannot be read: No such file or directory" in said


class AccessLogMiddleware:
    """An authenticator with a clock of our own."""

    def __init__(self, folder: Path, anonymous_access: AnonymousAccess = AnonymousAccess.UNAUTHENTICATED) -> None:
        self.now = 1_000.0
        self.path = folder / "tokens"
        self.tokens = {name: make_token(self.path, name, every_right()) for name in ("ann", "bob")}
        self.authenticator = Authenticator(anonymous_access, TokenFile(self.path), clock=lambda: self.now)

    def is_good(self, name: str) -> bool:
        try:
            return self.authenticator.authenticate(self.tokens[name], "").name == name
        except Unauthorised:
            return False

    def take_out(self, name: str) -> None:
        kept = [line for line in self.path.read_bytes().splitlines(True) if f'"{name}"'.encode() not in line]
        put(self.path, b"".join(kept))


@contextmanager
def no_file_can_be_opened() -> Iterator[None]:
    """As when the process has as many as it may."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_read_that_failed_is_tried_again_though_the_file_is_as_it_was(tmp_path: Path) -> None:
    watched = AccessLogMiddleware(tmp_path)
    assert watched.is_good("bob")
    watched.take_out("bob")
    watched.now += CHECK_INTERVAL
    with no_file_can_be_opened():
        assert [watched.is_good(name) for name in ("ann", "bob")] == [False, False]
    watched.now += CHECK_INTERVAL
    assert [watched.is_good(name) for name in ("ann", "bob")] == [True, False]


def test_a_file_that_has_not_changed_need_not_be_opened(tmp_path: Path) -> None:
    watched = AccessLogMiddleware(tmp_path)
    watched.now += CHECK_INTERVAL
    assert watched.is_good("bob")
    watched.now += CHECK_INTERVAL
    with no_file_can_be_opened():
        assert watched.is_good("ann")


def test_a_file_that_is_broken_is_not_read_for_every_token_that_is_tried(tmp_path: Path) -> None:
    watched = AccessLogMiddleware(tmp_path)
    put(watched.path, watched.path.read_bytes() + b"{broken\n")
    watched.now += CHECK_INTERVAL
    assert watched.is_good("ann")
    put(tmp_path / "other", watched.path.read_bytes())
    with no_file_can_be_opened():  # or it would be found to be unreadable
        for _ in range(10):
            with pytest.raises(Unauthorised):
                watched.authenticator.authenticate("wrong", "")
        assert watched.is_good("ann")
    for _ in range(2):
        watched.authenticator.check_file()
    with no_file_can_be_opened():  # nor every second, as long as it is the same
        watched.authenticator.check_file()
        assert watched.is_good("ann")
    assert watched.authenticator.file is not None
    assert watched.authenticator.file.error is not None


def test_a_change_is_read_twice_since_a_file_systems_clock_cannot_tell_two_at_once_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched, reads = AccessLogMiddleware(tmp_path), list[Path]()
    read = private_files.read_with_mode

    def seen(path: Path, most: int) -> tuple[bytes, int]:
        reads.append(path)
        return read(path, most)

    monkeypatch.setattr(tokens, "read_with_mode", seen)
    watched.take_out("bob")
    for times in (1, 2, 2, 2):
        watched.authenticator.check_file()
        assert len(reads) == times


def test_a_restored_file_is_read_for_the_next_client(tmp_path: Path) -> None:
    """Editors take a file away for a moment."""
    watched = AccessLogMiddleware(tmp_path)
    data = watched.path.read_bytes()
    watched.path.unlink()
    watched.now += CHECK_INTERVAL
    assert watched.authenticator.tokens_unreadable
    put(watched.path, data)
    assert watched.is_good("ann")
    assert not watched.authenticator.tokens_unreadable


def test_a_file_that_became_unreadable_and_then_went_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    watched = AccessLogMiddleware(tmp_path)
    watched.path.unlink()
    watched.path.mkdir()
    watched.authenticator.check_file()
    watched.path.rmdir()
    for _ in range(3):
        watched.authenticator.check_file()
        assert watched.authenticator.tokens_unreadable
    put(watched.path, b"")
    watched.authenticator.check_file()
    assert not watched.authenticator.tokens_unreadable


def test_a_restored_file_that_is_open_to_others_counts_as_unreadable(tmp_path: Path) -> None:
    """None of it is known any more, so nothing is taken of it."""
    watched = AccessLogMiddleware(tmp_path)
    data = watched.path.read_bytes()
    watched.path.unlink()
    watched.authenticator.check_file()
    put(watched.path, data).chmod(0o644)
    for _ in range(3):
        watched.authenticator.check_file()
        assert (watched.is_good("ann"), watched.authenticator.tokens_unreadable) == (False, True)
    with no_file_can_be_opened():  # but it is not read again and again
        watched.authenticator.check_file()
    assert watched.authenticator.file is not None
    assert "0644" in str(watched.authenticator.file.error)
    watched.path.chmod(0o600)
    watched.authenticator.check_file()
    assert (watched.is_good("ann"), watched.authenticator.tokens_unreadable) == (True, False)


def test_a_file_that_goes_while_it_is_read_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    make_token(path, "old", every_right())
    file = TokenFile(path)
    file.read_whole()
    line = b'{"name":"%d","sha256":"%064x"}\n'
    put(path, b"".join(line % (number, number) for number in range(PART_BYTES // len(line))))
    file.refresh()
    assert (file.reading, file.grants) == (True, frozenset())
    path.unlink()
    file.refresh()
    assert (file.unreadable, file.reading) == (True, False)


def test_a_file_of_no_token_may_go(tmp_path: Path) -> None:
    watched = AccessLogMiddleware(tmp_path)
    for change in (lambda: put(watched.path, b""), watched.path.unlink, lambda: None):
        change()
        watched.authenticator.check_file()
        assert not watched.authenticator.tokens_unreadable
    never = Authenticator(file=TokenFile(tmp_path / "never"))
    never.check_file()
    assert not never.tokens_unreadable


@pytest.mark.parametrize("spoil", [Path.exists, Path.mkdir], ids=["gone", "no file"])
def test_a_server_without_authentication_is_ready_whatever_its_file_is(
    tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    watched = AccessLogMiddleware(tmp_path, AnonymousAccess.HERE)
    watched.path.unlink()
    spoil(watched.path)
    watched.now += CHECK_INTERVAL
    assert not watched.authenticator.tokens_unreadable


def test_a_token_that_is_in_no_file_stays_good_when_the_file_is_gone(tmp_path: Path) -> None:
    watched = AccessLogMiddleware(tmp_path)
    watched.tokens["held"], entry = new_token("held", every_right())
    watched.authenticator.add_unstored(entry)
    watched.path.unlink()
    watched.authenticator.check_file()
    assert [watched.is_good(name) for name in ("ann", "held")] == [False, True]
    assert watched.authenticator.tokens_unreadable


def test_a_time_of_day_that_is_set_back_hides_no_change(tmp_path: Path) -> None:
    watched = AccessLogMiddleware(tmp_path)
    assert watched.is_good("bob")
    watched.take_out("bob")
    watched.now -= 3_600
    assert not watched.is_good("bob")


def test_removing_the_last_token_does_not_admit_anonymous_clients(tmp_path: Path) -> None:
    watched = AccessLogMiddleware(tmp_path, AnonymousAccess.LOOPBACK)
    for change in (b"", b"{broken\n"):
        put(watched.path, change)
        watched.now += CHECK_INTERVAL
        assert not watched.authenticator.is_anonymous_allowed("127.0.0.1")
    watched.path.unlink()
    watched.now += CHECK_INTERVAL
    assert not watched.authenticator.is_anonymous_allowed("127.0.0.1")


# Keys


@pytest.mark.parametrize("deleted", [False, True])
async def test_a_key_whose_file_cannot_be_read_any_more_is_good_no_more_and_the_others_stay(
    tmp_path: Path, deleted: bool
) -> None:
    secret, other = put(tmp_path / "secret", SECRET.encode()), put(tmp_path / "other", SECRET[::-1].encode())
    by_one, by_other = (signed(claims(aud=None), key) for key in (SECRET, SECRET[::-1]))
    new = "n" * 32
    async with serving(tmp_path, "--jwt-keys", f"HS256:{secret},HS256:{other}") as server:
        server.tokens |= {"one": by_one, "other": by_other, "new": signed(claims(aud=None), new)}
        assert [await server.status(name) for name in ("one", "other", "new")] == [200, 200, 401]
        async with (
            stream(server.process, "/topics/a/stream", **bearer(by_one)) as gone,
            stream(server.process, "/topics/a/stream", **bearer(by_other)) as stays,
        ):
            if deleted:
                secret.unlink()
            else:
                put(secret, new.encode()).chmod(0o644)
            server.process.process.send_signal(signal.SIGHUP)
            await server.becomes("one", 401)
            assert [await server.status(name) for name in ("other", "ann", "new")] == [200, 200, 401]
            assert await server.metric("keys") == 1
            while event := await gone.next():
                assert (event.type, event.data) == ("bye", '{"reason":"revoked"}')
            put(secret, new.encode())  # no further signal
            await server.becomes("new", 200)
            assert [await server.status(name) for name in ("one", "other")] == [401, 200]
            assert await server.metric("keys") == 0
            await server.http.post("/topics/a/messages", content=b"x", headers=bearer(by_other))
            assert await stays.data(1) == ["x"]


# Others' bad tokens


async def _guess(server: Server, times: int = 30) -> None:
    for number in range(times):
        await server.http.get("/topics", headers=bearer(f"guess-{number}"))
    assert (await server.http.get("/topics", headers=bearer("guess"))).status_code == 429


async def test_a_good_token_gets_in_whatever_others_at_its_address_have_tried(tmp_path: Path) -> None:
    kinds = ("HS256", "RS256", "ES256", "EdDSA")
    keys = {kind: put(tmp_path / kind, SECRET.encode() if kind == "HS256" else public_pem(kind)) for kind in kinds}
    flags = ["--jwt-keys", ",".join(f"{kind}:{path}" for kind, path in keys.items()), "--max-failed-logins", "10"]
    async with serving(tmp_path, *flags) as server:
        assert await server.status("ann") == 200
        await _guess(server)
        server.tokens["new"] = make_token(server.path, "new", every_right())  # the file changes
        assert [await server.status(name) for name in ("ann", "bob", "new")] == [200, 200, 200]
        for kind in kinds:
            key: Any = SECRET if kind == "HS256" else private_pem(private(kind))
            server.tokens[kind] = signed(claims(aud=None), key, kind)
            assert await server.status(kind) == 200
        async with lines(server.process) as words:
            words.send("auth guess", f"auth {server.tokens['bob']}")
            assert (await words.next()).startswith(b"ERR rate_limited ")
            assert await words.next() == b"OK you are bob\r\n"
        ticket = (await server.http.post("/tickets", headers=bearer(server.tokens["bob"]))).json()["ticket"]
        async with stream(server.process, f"/topics/a/stream?ticket={ticket}") as events:
            assert events.status == 200
        await _guess(server, 0)


def test_known_tokens_stay_known_when_another_token_is_made(tmp_path: Path) -> None:
    """What a change of the file forgets has to be found out again."""
    watched, token = AccessLogMiddleware(tmp_path), signed(claims(aud=None))
    watched.authenticator.replace_keys(
        JwtKeys([read_key(f"HS256:{put(tmp_path / 'secret', SECRET.encode())}")], Expected())
    )
    assert watched.authenticator.authenticate(token, "") is watched.authenticator.authenticate(token, "")
    first = watched.authenticator.authenticate(token, "")
    make_token(watched.path, "new", Rights(publish=["a"]))
    watched.now += CHECK_INTERVAL
    assert watched.authenticator.authenticate(token, "") is first


def test_a_bad_token_costs_a_signature_for_each_key_that_fits_its_head_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = [*[("HS256", n) for n in range(3)], *[(kind, n) for kind in ("ES256", "EdDSA") for n in range(2)]]
    keys = []
    for kind, number in named:
        data = f"{number}{SECRET}".encode() if kind == "HS256" else public_pem(kind, number)
        keys.append(read_key(f"{kind}:{put(tmp_path / f'{kind}{number}', data)}"))
    tried: list[str] = []
    decode = jwt.decode

    def seen(token: str, key: Any, algorithms: list[str], *rest: Any, **more: Any) -> Any:
        tried.append(algorithms[0])
        return decode(token, key, algorithms, *rest, **more)

    monkeypatch.setattr(jwt, "decode", seen)
    authenticator = Authenticator(keys=JwtKeys(keys, Expected()))
    authenticator.attempts = FailedLogins(0)
    bad = {
        signed(claims(), "x" * 32): ["HS256"] * 3,
        signed(claims(), private("ES256", 7), "ES256"): ["ES256"] * 2,
        signed(claims(), private_pem(private("EdDSA", 7)), "EdDSA"): ["EdDSA"] * 2,
        signed(claims(), private("RS256", 7), "RS256"): [],
        signed(claims(), "x" * 64, "HS512"): [],
        "a.b.c": [],
        "word": [],
    }
    for token, expected in bad.items():
        tried.clear()
        with pytest.raises(Unauthorised):
            authenticator.authenticate(token, "")
        assert tried == expected
