"""Cookies, and the short way of a publish whose token is known."""

import asyncio
from http.cookies import SimpleCookie
from pathlib import Path

import httpx
import pytest

from app.access.authenticator import Authenticator
from app.access.claims import Rights, every_right
from app.access.jwt_keys import Expected, JwtKeys, Key
from app.access.token_watch import CHECK_INTERVAL
from app.access.tokens import TokenFile, make_token
from app.errors import Unauthorised
from app.telemetry.counters import Counters
from app.web.app import create_app
from app.web.fastpath.requests import FastPath
from app.web.middleware.origin import Rules
from app.web.publish_request import PublishLimits
from tests.access.keys import SECRET, claims, signed
from tests.harness import OPEN


class Broker:
    """What of a broker these endpoints need."""

    def __init__(self) -> None:
        self.counters = Counters()


class Desk:
    """The app with a clock of our own, and a token that is good for so long."""

    def __init__(self, folder: Path, seconds: float | None, secure: bool) -> None:
        self.now = 1_000.0
        path = folder / "tokens"
        self.token = make_token(path, "somebody", every_right(), seconds and self.now + seconds)
        self.authenticator = Authenticator(file=TokenFile(path), clock=lambda: self.now)
        app = create_app(None, self.authenticator, PublishLimits(), Rules(secure=secure))
        app.state.broker = Broker()
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")

    async def ask(self, method: str, path: str, **headers: str) -> httpx.Response:
        self.http.cookies.clear()
        return await self.http.request(method, path, headers=headers)

    async def cookie(self) -> tuple[str, dict[str, str]]:
        """The name of the one that POST /session sets, and what is said of it."""
        answer = await self.ask("POST", "/session", Authorization=f"Bearer {self.token}")
        assert (answer.status_code, answer.headers["cache-control"]) == (204, "no-store")
        ((name, morsel),) = SimpleCookie(answer.headers["set-cookie"]).items()
        assert morsel.value == self.token
        return name, {key: value for key, value in morsel.items() if value}


async def test_a_cookie_is_for_the_browser_only(tmp_path: Path) -> None:
    name, said = await Desk(tmp_path, None, secure=False).cookie()
    assert (name, said) == ("plainmq", {"httponly": True, "samesite": "strict", "path": "/"})


async def test_a_cookie_lasts_as_long_as_its_token(tmp_path: Path) -> None:
    _, said = await Desk(tmp_path, 77, secure=False).cookie()
    assert said["max-age"] == "77"


async def test_where_users_come_by_https_a_cookie_never_travels_without(tmp_path: Path) -> None:
    desk = Desk(tmp_path, None, secure=True)
    name, said = await desk.cookie()
    assert said["secure"]
    assert (name, said["path"]) == ("__Host-plainmq", "/")
    assert "domain" not in said
    answers = [await desk.ask("POST", "/tickets", Cookie=f"{each}={desk.token}") for each in (name, "plainmq")]
    assert [answer.status_code for answer in answers] == [201, 401]


async def test_a_cookie_is_forgotten_and_the_token_stays_good(tmp_path: Path) -> None:
    desk = Desk(tmp_path, None, secure=False)
    answer = await desk.ask("DELETE", "/session")
    ((name, morsel),) = SimpleCookie(answer.headers["set-cookie"]).items()
    assert (answer.status_code, name, morsel.value, morsel["max-age"], morsel["path"]) == (204, "plainmq", "", "0", "/")
    assert (await desk.ask("POST", "/tickets", Authorization=f"Bearer {desk.token}")).status_code == 201


async def test_a_header_goes_before_a_cookie(tmp_path: Path) -> None:
    desk = Desk(tmp_path, None, secure=False)
    headers = {"Cookie": f"plainmq={desk.token}", "Authorization": "Bearer wrong"}
    assert (await desk.ask("POST", "/tickets", **headers)).status_code == 401


async def test_the_scheme_may_be_written_in_any_case(tmp_path: Path) -> None:
    desk = Desk(tmp_path, None, secure=False)
    for scheme in ("bearer", "BEARER", "Bearer "):
        assert (await desk.ask("POST", "/tickets", Authorization=f"{scheme} {desk.token}")).status_code == 201


async def test_without_authentication_no_cookie_is_set_and_any_ticket_will_do(http: httpx.AsyncClient) -> None:
    answer = await http.post("/session", headers={"Authorization": "Bearer nonsense"})
    assert (answer.status_code, "set-cookie" in answer.headers) == (204, False)
    assert (await http.post("/tickets")).status_code == 201
    assert (await http.get("/topics/a/stream?timeout=1ms&ticket=nonsense")).status_code == 200


# The short way of a publish


class Asked:
    """Publishes to a topic with these credentials: whether they take the fast path."""

    def __init__(self, authenticator: Authenticator) -> None:
        self.fast_path = FastPath(PublishLimits(10), Rules(), authenticator)

    def is_short(self, topic: str, *shown: str) -> bool:
        """The same whether its head was read before or not."""
        headers = [(b"host", b"localhost"), (b"content-length", b"1")]
        headers += [(b"authorization", value.encode()) for value in shown]
        url = f"/topics/{topic}/messages".encode()
        head = b"POST %b HTTP/1.1\r\n%b\r\n" % (url, b"".join(b"%b: %b\r\n" % header for header in headers))
        recalled = self.fast_path.lookup(head + b"x")
        found = self.fast_path.match(b"POST", url, headers)
        if found is not None:
            self.fast_path.cache(head + b"x", found)
            assert self.fast_path.lookup(head + b"x") == (found, b"x")
        else:
            assert recalled is None
        return found is not None


def test_a_publish_goes_the_short_way_while_its_token_is_known_and_good(tmp_path: Path) -> None:
    now = 1_000.0
    path = tmp_path / "tokens"
    token = make_token(path, "somebody", Rights(publish=["a.**"]), now + 60)
    authenticator = Authenticator(file=TokenFile(path), clock=lambda: now)
    asked, shown = Asked(authenticator), f"Bearer {token}"
    assert not asked.is_short("a.b", shown)
    authenticator.authenticate(token, "")
    assert asked.is_short("a.b", shown)
    for wrong in ([], [token], [f"bearer {token}"], [f"{shown} "], [shown, shown], ["Bearer wrong"]):
        assert not asked.is_short("a.b", *wrong)
    assert not asked.is_short("b", shown)
    now += 60
    assert not asked.is_short("a.b", shown)


def test_a_publish_goes_the_short_way_no_more_when_its_token_is_taken_out(tmp_path: Path) -> None:
    now = 1_000.0
    path = tmp_path / "tokens"
    token = make_token(path, "somebody", Rights(publish=["a"]))
    authenticator = Authenticator(file=TokenFile(path), clock=lambda: now)
    asked = Asked(authenticator)
    authenticator.authenticate(token, "")
    assert asked.is_short("a", f"Bearer {token}")
    path.write_bytes(b"")
    now += CHECK_INTERVAL
    assert not asked.is_short("a", f"Bearer {token}")


def test_without_authentication_every_plain_publish_takes_the_fast_path() -> None:
    for shown in ([], ["Bearer x"], ["Basic x"]):
        assert Asked(OPEN).is_short("a", *shown)


class RecordedSession:
    def __init__(self) -> None:
        self.dismissed = 0

    def revoke(self) -> None:
        self.dismissed += 1


async def test_a_session_that_starts_with_a_token_revoked_meanwhile_ends_at_once(tmp_path: Path) -> None:
    path, now = tmp_path / "tokens", [1_000.0]
    token = make_token(path, "somebody", Rights(publish=["a"]))
    authenticator, session = Authenticator(file=TokenFile(path), clock=lambda: now[0]), RecordedSession()
    grant = authenticator.authenticate(token, "")
    path.write_text("")
    now[0] += 2 * CHECK_INTERVAL
    with pytest.raises(Unauthorised):
        authenticator.authenticate(token, "")
    authenticator.register(session, grant)
    await asyncio.sleep(0)
    assert session.dismissed == 1


async def test_new_keys_end_only_the_sessions_of_signed_tokens(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    token = make_token(path, "somebody", Rights(publish=["a"]))
    keys = JwtKeys([Key("HS256", SECRET.encode())], Expected())
    authenticator, signed_in, stored, gone = (
        Authenticator(file=TokenFile(path), keys=keys),
        RecordedSession(),
        RecordedSession(),
        RecordedSession(),
    )
    by_key = authenticator.authenticate(signed(claims(aud=None)), "")
    ticket = authenticator.make_ticket(by_key).ticket
    assert authenticator.redeem_ticket(ticket, "a", "", "").grant.name == by_key.name
    ticket = authenticator.make_ticket(by_key).ticket
    authenticator.register(signed_in, by_key)
    authenticator.register(gone, by_key)
    authenticator.register(stored, authenticator.authenticate(token, ""))
    authenticator.unregister(gone)
    authenticator.replace_keys(JwtKeys([Key("HS256", b"x" * 32)], Expected()))
    assert [session.dismissed for session in (signed_in, stored, gone)] == [1, 0, 0]
    with pytest.raises(Unauthorised):
        authenticator.redeem_ticket(ticket, "a", "", "")
    authenticator.unregister(stored)
