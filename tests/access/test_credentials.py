"""What a server does about tokens when it starts, and while their file changes."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.access import tokens
from app.access.authenticator import Authenticator
from app.access.claims import Rights, every_right
from app.access.grant import Grant, Right
from app.access.jwt_keys import ALGORITHMS, Expected, KeyInvalid, read_key, sign
from app.access.private_files import FileInvalid
from app.access.startup import FIRST_TOKEN_FILE, BindScope, build_authenticator, create_first_token
from app.access.token_watch import CHECK_INTERVAL
from app.access.tokens import MAX_TOKENS, TokenFile, make_token
from app.errors import PlainmqError, Unauthorised
from app.server.places import token_path
from app.settings import SettingInvalid, Settings
from app.telemetry.counters import Counters
from app.web.app import create_app
from app.web.middleware.origin import Rules
from app.web.publish_request import PublishLimits
from tests.access.keys import SECRET, claims, private, private_pem, public_pem, put, signed
from tests.harness import DEADLINE, ROOT, http_client, start_server, start_uvicorn_with

# Who is let in


class Start:
    """An authenticator as a server with these settings has it, and what was said of it."""

    def __init__(self, folder: Path, scope: BindScope = BindScope.SETTINGS, **settings: Any) -> None:
        self.said: list[str] = []
        self.path = folder / "state" / "tokens"
        chosen = Settings(data_dir=str(folder / "state"), **settings)
        assert token_path(chosen) == Path(settings.get("tokens", self.path))
        self.authenticator = build_authenticator(chosen, token_path(chosen), scope, self.said.append)
        self.shown: list[str] = []
        if self.authenticator.locked_out:
            create_first_token(self.authenticator, self.path, True, self.shown.append)


ELSEWHERE: list[dict[str, Any]] = [
    {"host": "0.0.0.0"},
    {"host": "::"},
    {"host": "192.0.2.1"},
    {"tcp_host": "0.0.0.0"},
]


@pytest.mark.parametrize("hosts", [{}, {"host": "localhost"}, {"host": "127.0.0.2"}, {"tcp_host": "::1"}])
def test_local_clients_need_no_token_when_there_is_none(tmp_path: Path, hosts: dict[str, Any]) -> None:
    start = Start(tmp_path, **hosts)
    assert start.authenticator.open
    assert (start.said, start.path.exists()) == ([], False)


@pytest.mark.parametrize("settings", [*ELSEWHERE, {"auth": "required"}])
def test_a_server_that_others_can_reach_makes_a_token_and_shows_it_once(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    first, second = Start(tmp_path, **settings), Start(tmp_path, **settings)
    (shown,) = first.shown
    token = shown.rpartition("=")[2]
    assert token not in first.path.read_text()
    assert first.path.stat().st_mode & 0o777 == 0o600
    assert first.path.parent.stat().st_mode & 0o777 == 0o700
    assert first.said == second.said == second.shown == []
    for start in (first, second):
        assert not start.authenticator.open
        assert start.authenticator.authenticate(token, "").allows(Right.ADMIN, "**")


def test_a_token_is_needed_once_there_is_one_also_on_this_machine(tmp_path: Path) -> None:
    token = make_token(tmp_path / "state" / "tokens", "somebody", Rights(publish=["a"]))
    authenticator = Start(tmp_path).authenticator
    assert not authenticator.open
    assert authenticator.authenticate(token, "").name == "somebody"


@pytest.mark.parametrize("hosts", [{}, *ELSEWHERE])
def test_authentication_is_off_only_when_set_so_and_each_start_warns(tmp_path: Path, hosts: dict[str, Any]) -> None:
    make_token(tmp_path / "state" / "tokens", "somebody", Rights(publish=["a"]))
    start = Start(tmp_path, auth="none", **hosts)
    assert start.authenticator.open
    assert start.said[0].startswith("WARNING")


@pytest.mark.parametrize("behind", [{"public_url": "https://mq.example.org"}, {"trusted_proxies": "127.0.0.1"}])
def test_a_server_behind_a_proxy_makes_a_token(tmp_path: Path, behind: dict[str, Any]) -> None:
    start = Start(tmp_path, **behind)
    assert not start.authenticator.open
    assert "PLAINMQ_TOKEN=" in start.shown[0]


def test_a_line_port_that_is_off_is_reached_by_nobody(tmp_path: Path) -> None:
    chosen = Settings(tcp_host="0.0.0.0", tcp_port=0, data_dir=str(tmp_path))
    assert build_authenticator(chosen, token_path(chosen), BindScope.SETTINGS, lambda _: None).open


def test_where_tokens_are_kept() -> None:
    assert token_path(Settings(tokens="/x/y")) == Path("/x/y")
    assert token_path(Settings(data_dir="/x")) == Path("/x/tokens")
    assert token_path(Settings(engine="sqlite:///x/log.db")) == Path("/x/tokens")
    assert token_path(Settings()) == Path.home() / ".local/state/plainmq/tokens"


def test_under_another_server_only_clients_of_loopback_addresses_need_no_token(tmp_path: Path) -> None:
    authenticator = Start(tmp_path, BindScope.UNKNOWN).authenticator
    assert not authenticator.open
    hosts = ("127.0.0.1", "::1", "192.0.2.1", "0.0.0.0", "", None)
    assert [authenticator.is_anonymous_allowed(host) for host in hosts] == [
        True, True, False, False, False, False,
    ]  # fmt: skip
    assert not (tmp_path / "state").exists()
    elsewhere = Start(tmp_path, BindScope.UNKNOWN, tcp_host="0.0.0.0")
    assert elsewhere.shown  # a first token, as under `plainmq serve`
    assert not any(map(elsewhere.authenticator.is_anonymous_allowed, hosts))


@pytest.mark.parametrize(("host", "status"), [("127.0.0.1", 201), ("[::1]", 201), ("192.0.2.1", 401), ("[::]", 401)])
async def test_a_request_is_judged_by_the_address_it_came_to(tmp_path: Path, host: str, status: int) -> None:
    app = create_app(None, Start(tmp_path, BindScope.UNKNOWN).authenticator, PublishLimits(), Rules())
    app.state.broker = Refusing()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://{host}") as http:
        answer = await http.post("/tickets", headers={"Host": "localhost"})
    assert answer.status_code == status


class Refusing:
    """What of a broker a refusal needs."""

    def __init__(self) -> None:
        self.counters = Counters()


# Files


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    make_token(tmp_path / "tokens", "somebody", Rights(publish=["a"]))
    (tmp_path / "tokens").chmod(mode)
    with pytest.raises(FileInvalid, match="chmod 600"):
        Authenticator(file=TokenFile(tmp_path / "tokens"))
    put(tmp_path / "secret", SECRET.encode()).chmod(mode)
    with pytest.raises(FileInvalid, match="chmod 600"):
        read_key(f"HS256:{tmp_path / 'secret'}")


HASH = "ab" * 32
BROKEN = [
    b"x", b"[]", b"{}", b'{"name":"a"}', b'{"name":"a","sha256":"ab"}', b'{"name":"a b","sha256":"%b"}',
    b'{"name":"a","sha256":"%b","publish":"**"}', b'{"name":"a","sha256":"%b","publish":["a..b"]}',
    b'{"name":"a","sha256":"%b","publsh":["a"]}', b'{"name":"a","sha256":"%b","expires":"2027-01-01T00:00:00"}',
    b'{"name":"a","sha256":"%b","expires":"soon"}', b"\xff", b"[" * 10_000,
]  # fmt: skip


@pytest.mark.parametrize("line", BROKEN)
def test_a_line_that_is_no_token_is_named(tmp_path: Path, line: bytes) -> None:
    good = b'{"name":"good","sha256":"%b"}\n\n' % (b"cd" * 32)
    put(tmp_path / "tokens", good + line.replace(b"%b", HASH.encode()))
    with pytest.raises(FileInvalid, match="line 3 of "):
        Authenticator(file=TokenFile(tmp_path / "tokens"))


def test_names_are_different_and_not_too_many(tmp_path: Path) -> None:
    line = b'{"name":"%d","sha256":"%064x"}\n'
    put(tmp_path / "tokens", line % (1, 1) + line % (1, 2))
    with pytest.raises(FileInvalid, match="same name"):
        Authenticator(file=TokenFile(tmp_path / "tokens"))
    put(tmp_path / "tokens", b"".join(line % (number, number) for number in range(MAX_TOKENS + 1)))
    with pytest.raises(FileInvalid, match="at most"):
        Authenticator(file=TokenFile(tmp_path / "tokens"))


def test_a_server_takes_a_new_token_and_forgets_one_that_was_taken_out(tmp_path: Path) -> None:
    now = 1_000.0
    path = tmp_path / "tokens"
    first = make_token(path, "first", every_right())
    authenticator = Authenticator(file=TokenFile(path), clock=lambda: now)
    assert authenticator.authenticate(first, "").name == "first"
    kept = path.read_bytes()
    path.write_bytes(b"")
    second = make_token(path, "second", every_right())
    assert authenticator.authenticate(first, "").name == "first"
    now += CHECK_INTERVAL
    assert authenticator.authenticate(second, "").name == "second"
    with pytest.raises(Unauthorised):
        authenticator.authenticate(first, "")
    path.unlink()
    now += CHECK_INTERVAL
    with pytest.raises(Unauthorised):
        authenticator.authenticate(second, "")
    put(path, kept)
    now += CHECK_INTERVAL
    assert authenticator.authenticate(first, "").name == "first"


def test_of_a_long_file_only_the_lines_that_are_new_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = b'{"name":"%d","sha256":"%064x","publish":["%d"]}\n'
    lines = [line % (number, number, number) for number in range(100)]
    file = TokenFile(put(tmp_path / "tokens", b"".join(lines)))
    file.refresh()
    grants, read = file.grants, list[bytes]()
    entry_of = tokens.parse_entry

    def seen(path: Path, number: int, line: bytes) -> Grant:
        read.append(line)
        return entry_of(path, number, line)

    monkeypatch.setattr(tokens, "parse_entry", seen)
    changed = lines[7].replace(b"publish", b"consume")
    put(tmp_path / "tokens", b"".join([*lines[:7], changed, *lines[8:99], line % (100, 100, 100)]))
    file.refresh()
    assert read == [changed.rstrip(), (line % (100, 100, 100)).rstrip()]
    assert len(file.grants) == 100
    assert len(file.grants & grants) == 98


def test_a_line_that_was_left_without_an_end_stays_one(tmp_path: Path) -> None:
    path = put(tmp_path / "tokens", b'{"name":"by-hand","sha256":"%b"}' % HASH.encode())
    token = make_token(path, "made", every_right())
    assert Authenticator(file=TokenFile(path)).authenticate(token, "").name == "made"
    assert len(path.read_bytes().splitlines()) == 2


def test_failures_are_reported_with_their_address(tmp_path: Path) -> None:
    told: list[str] = []

    class LoginThrottle:
        def failed(self, address: str) -> None:
            told.append(f"failed {address}")

    path = tmp_path / "tokens"
    token = make_token(path, "somebody", every_right())
    authenticator = Authenticator(file=TokenFile(path))
    authenticator.attempts = LoginThrottle()
    for shown in (token, token, "wrong"):
        try:
            authenticator.authenticate(shown, "192.0.2.1")
        except Unauthorised:
            told.append("refused")
    with pytest.raises(Unauthorised):
        authenticator.redeem_ticket("wrong", "a", "", "192.0.2.2")
    assert told == ["failed 192.0.2.1", "refused", "failed 192.0.2.2"]


# Keys


@pytest.mark.parametrize("kind", ["RS256", "ES256", "EdDSA", "Ed25519"])
def test_the_server_has_the_public_key_and_the_issuer_the_private_one(tmp_path: Path, kind: str) -> None:
    public = put(tmp_path / "public", public_pem(kind))
    secret = put(tmp_path / "private", private_pem(private(kind)))
    token = sign(read_key(f"{kind}:{secret}", private=True), "a", Rights(publish=["a"]), 2_000.0, Expected())
    authenticator = build_authenticator(
        Settings(jwt_keys=f"{kind}:{public}"), tmp_path / "tokens", BindScope.SETTINGS, lambda _: None
    )
    with pytest.raises(Unauthorised, match="expired"):
        authenticator.authenticate(token, "")
    authenticator.clock = lambda: 1_999.0
    assert authenticator.authenticate(token, "").allows(Right.PUBLISH, "a")
    for path, wanted in ((secret, False), (public, True)):
        put(path, path.read_bytes())
        with pytest.raises(KeyInvalid, match="expected the"):
            read_key(f"{kind}:{path}", private=wanted)


@pytest.mark.parametrize("kind", ALGORITHMS)
@pytest.mark.parametrize("data", [b"", b"x", b"\n" * 40, b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"])
def test_what_is_no_key_is_refused(tmp_path: Path, kind: str, data: bytes) -> None:
    with pytest.raises(KeyInvalid):
        read_key(f"{kind}:{put(tmp_path / 'key', data)}")


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    for kind in ("RS256", "ES256", "EdDSA"):
        path = put(tmp_path / kind, public_pem(kind))
        for other in set(ALGORITHMS) - {kind} - ({"Ed25519"} if kind == "EdDSA" else set()):  # the new name of the same
            with pytest.raises(KeyInvalid):
                read_key(f"{other}:{path}")


def test_a_secret_is_long_enough(tmp_path: Path) -> None:
    with pytest.raises(KeyInvalid, match="31 bytes"):
        read_key(f"HS256:{put(tmp_path / 'short', b'x' * 31 + bytes([10]))}")
    assert read_key(f"HS256:{put(tmp_path / 'long', b'x' * 32 + bytes([10]))}").key == b"x" * 32


@pytest.mark.parametrize("text", ["x", "HS256", "HS256:", "none:x", "HS384:x", "hs256:x", "RS256:/no/such/file"])
def test_a_key_has_an_algorithm_and_a_file(text: str) -> None:
    with pytest.raises(PlainmqError):
        read_key(text)


def test_a_file_of_tokens_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid, match="plainmq token"):
        Start(tmp_path, tokens=str(tmp_path / "none"))


# From the outside


def test_a_server_that_others_can_reach_shows_a_line_that_works(tmp_path: Path) -> None:
    with start_server("--auth", "required", "--data-dir", str(tmp_path)) as process:
        assert "pmq_" not in process.banner
        token = (tmp_path / FIRST_TOKEN_FILE).read_text().strip()
        publish = next(line for line in process.banner.splitlines() if "  publish  " in line).split("publish", 1)[1]
        lines = process.banner.splitlines()[-1]
        for command in (publish, lines):
            done = subprocess.run(
                ["sh", "-c", command], env={**os.environ, "PLAINMQ_TOKEN": token}, capture_output=True, text=True,
                timeout=DEADLINE, check=True,
            )  # fmt: skip
            assert '"topic":"foo"' in done.stdout or done.stdout.startswith("OK you are admin\nOK ")
        assert httpx.get(f"{process.url}/topics/foo").status_code == 401
        assert httpx.get(f"{process.url}/readyz").status_code == 200


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--jwt-keys", "none:x"], "is not a key"),
        (["--tokens", "/no/such/file"], "there is no such file"),
        (["--auth", "off"], "--auth"),
    ],
)
def test_a_server_does_not_start_on_what_it_cannot_use(flags: list[str], sentence: str) -> None:
    command = [sys.executable, "-m", "app", "serve", "--port", "0", "--tcp-port", "0", *flags]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert ended.returncode == 1
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_server_without_keys_does_not_wait_for_cryptography() -> None:
    program = "import sys, app.server; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=DEADLINE, check=False).returncode == 0


async def test_new_keys_are_read_on_sighup(tmp_path: Path) -> None:
    old, new = SECRET, SECRET[::-1]
    path = put(tmp_path / "secret", old.encode())
    first, second = (signed(claims(aud=None), key) for key in (old, new))
    with start_server("--jwt-keys", f"HS256:{path}", tcp_port=0) as server:
        async with http_client(server.url) as http, asyncio.timeout(DEADLINE):

            async def status(token: str) -> int:
                headers = {"Authorization": f"Bearer {token}"}
                return (await http.post("/topics/a/messages", content=b"x", headers=headers)).status_code

            assert [await status(token) for token in (first, second, first)] == [201, 401, 201]
            put(path, new.encode())
            server.process.send_signal(signal.SIGHUP)
            while await status(second) != 201:
                pass
            assert await status(first) == 401


_UNKNOWN_CURVE = """-----BEGIN PUBLIC KEY-----
MDIwEAYHKoZIzj0CAQYFK4EEAAYDHgAEnbDmr0RPIEnxHRzth7E+dNMw9xmxfJZV
jnb2bg==
-----END PUBLIC KEY-----
"""


def test_a_key_on_a_curve_that_is_not_known_is_a_sentence(tmp_path: Path) -> None:
    path = put(tmp_path / "secp112r1", _UNKNOWN_CURVE.encode())
    with pytest.raises(KeyInvalid, match="does not hold a key for ES256"):
        read_key(f"ES256:{path}")


async def test_another_asgi_server_reads_keys_again_on_sighup_too(tmp_path: Path) -> None:
    path = put(tmp_path / "secret", SECRET.encode())
    second = signed(claims(aud=None), SECRET[::-1])
    with start_uvicorn_with(PLAINMQ_JWT_KEYS=f"HS256:{path}") as server:
        put(path, SECRET[::-1].encode())
        server.process.send_signal(signal.SIGHUP)
        async with http_client(server.url) as http, asyncio.timeout(DEADLINE):
            headers = {"Authorization": f"Bearer {second}"}
            while (await http.post("/topics/a/messages", content=b"x", headers=headers)).status_code != 201:
                pass
