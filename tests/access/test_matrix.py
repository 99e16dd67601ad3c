"""matrix.md is what happens: every route, and every kind of token, shown in every way."""

import hmac
import json
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args
from uuid import uuid4

import httpx
import jwt
import pytest

from app.access.grant import Right
from app.tcp.dialects import json_objects, python_literals, text
from app.tcp.dialects.base import Dialect
from app.tcp.dialects.commands import Command
from app.tcp.dialects.detect import JSON, LITERAL, TEXT
from app.tcp.permissions import REQUIRED_RIGHTS
from app.web.app import ROUTES
from app.web.permissions import ProtectedRoute, RequiredRight, RightOnFound
from tests.access.conftest import Guarded, guarded
from tests.access.keys import ALL, SECRET, claims, private, private_pem, public_pem, signed
from tests.harness import DEADLINE
from tests.line_client import lines

MATRIX: Final = (Path(__file__).parent / "matrix.md").read_text()
Row = dict[str, str]

# Tokens that no route may take


def _encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _joined(head: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    return ".".join(_encoded(json.dumps(part).encode()) for part in (head, claims))


def _claims_until(end: str) -> bytes:
    return json.dumps(claims(exp="?")).replace('"?"', end).encode()


def _confused() -> str:
    """Signed by HMAC with the public key as the secret, which everybody knows."""
    text = _joined({"alg": "HS256", "typ": "JWT"}, claims())
    return f"{text}.{_encoded(hmac.digest(public_pem('RS256'), text.encode(), 'sha256'))}"


BAD: Final[dict[str, Callable[[Guarded], str]]] = {
    "not a token at all": lambda _: "~",
    "too long": lambda _: "a" * 4_001,
    "one that nobody has made": lambda _: "pmq_" + "A" * 43,
    "one of another server": lambda _: "pmq_Ux0fyMMH5nnIPAyyTQ41Vq3dKQBjVbbZwsTBFVfMH1k",
    "the hash of a good one": lambda server: re.findall(r'"sha256":"(\w+)"', server.tokens.read_text())[0],
    "a good one in capitals": lambda server: server.good.upper(),
    "a good one cut short": lambda server: server.good[:-1],
    "static, expired": lambda server: server.expired,
    "JWT, three dots and nothing": lambda _: "..",
    "JWT, expired": lambda _: signed(claims(exp=int(time.time()) - 10)),
    "JWT, not yet valid": lambda _: signed(claims(nbf=int(time.time()) + 3_600)),
    "JWT, without an end": lambda _: signed(claims(exp=None)),
    "JWT, an end that is no time": lambda _: signed(claims(exp="never")),
    "JWT, alg none": lambda _: _joined({"alg": "none"}, claims()) + ".",
    "JWT, signature cut off": lambda _: signed(claims()).rpartition(".")[0] + ".",
    "JWT, another's claims": lambda _: _with_payload(signed(claims(publish=[])), signed(claims())),
    "JWT, public key as the secret": lambda _: _confused(),
    "JWT, HMAC with another hash": lambda _: signed(claims(), SECRET, "HS512"),
    "JWT, another secret": lambda _: signed(claims(), SECRET + "?"),
    "JWT, another RSA key": lambda _: signed(claims(), private("RS256", 1), "RS256"),
    "JWT, the RSA key with another hash": lambda _: signed(claims(), private("RS256"), "RS512"),
    "JWT, an RSA key named wrong": lambda _: _renamed(signed(claims(), private("RS256"), "RS256"), "Ed25519"),
    "JWT, another EdDSA key": lambda _: signed(claims(), private_pem(private("EdDSA", 1)), "EdDSA"),
    "JWT, for somebody else": lambda _: signed(claims(aud="another")),
    "JWT, for nobody": lambda _: signed(claims(aud=None)),
    "JWT, from somebody else": lambda _: signed(claims(iss="another")),
    "JWT, from nobody": lambda _: signed(claims(iss=None)),
    "JWT, whose is not said": lambda _: signed(claims(sub=None)),
    "JWT, rights that are no list": lambda _: signed(claims(publish="**")),
    "JWT, a pattern that is none": lambda _: signed(claims(subscribe=["a..b"])),
    "JWT, a head nested deep": lambda _: f"{_encoded(b'[' * 2_000)}.e30.AAAA",
    "JWT, claims nested deep": lambda _: jwt.PyJWS().encode(b"[" * 2_000, SECRET),
    "JWT, claims that are no object": lambda _: jwt.PyJWS().encode(b"1", SECRET),
    "JWT, claims that are no JSON": lambda _: jwt.PyJWS().encode(b"\xff{", SECRET),
    "JWT, an end beyond all numbers": lambda _: jwt.PyJWS().encode(_claims_until("1" * 400), SECRET),
    "JWT, an end without end": lambda _: jwt.PyJWS().encode(_claims_until("Infinity"), SECRET),
    "JWT, an end that is none": lambda _: jwt.PyJWS().encode(_claims_until("NaN"), SECRET),
}


def _by_its_new_name() -> str:
    """As RFC 9864 has it."""
    text = _joined({"alg": "Ed25519", "typ": "JWT"}, claims())
    return f"{text}.{_encoded(private('EdDSA').sign(text.encode()))}"


def _renamed(token: str, algorithm: str) -> str:
    return ".".join((_encoded(json.dumps({"alg": algorithm}).encode()), *token.split(".")[1:]))


def _with_payload(token: str, other: str) -> str:
    head, _, signature = token.split(".")
    return ".".join((head, other.split(".")[1], signature))


BAD_HEADERS: Final[dict[str, Callable[[Guarded], list[str]]]] = {
    "another scheme": lambda server: [f"Basic {server.good}"],
    "no scheme": lambda server: [server.good],
    "no token": lambda _: ["Bearer"],
    "an empty one": lambda _: ["Bearer ="],
    "two tokens": lambda server: [f"Bearer {server.good}", f"Bearer {server.good}"],
    "two in one": lambda server: [f"Bearer {server.good} {server.good}"],
    "with a comma": lambda server: [f"Bearer {server.good}, Bearer {server.good}"],
}

GOOD: Final[dict[str, Callable[[Guarded], str]]] = {
    "static": lambda server: server.good,
    "HS256": lambda _: signed(claims()),
    "RS256": lambda _: signed(claims(), private("RS256"), "RS256"),
    "ES256": lambda _: signed(claims(), private("ES256"), "ES256"),
    "EdDSA": lambda _: signed(claims(), private_pem(private("EdDSA")), "EdDSA"),
    "EdDSA by its new name": lambda _: _by_its_new_name(),
    "not yet good by another clock": lambda _: signed(claims(nbf=int(time.time()) + 3)),
    "good since the beginning": lambda _: signed(claims(nbf=0)),
    "for several, in a list": lambda _: signed(claims(aud=["another", "plainmq"])),
    "with claims of others": lambda _: signed(claims(scope="x", iat=int(time.time()) + 9, nbf=1, jti="1")),
}


_MADE: dict[tuple[int, Guarded], list[str]] = {}


def made(kinds: Mapping[str, Callable[[Guarded], str]], server: Guarded) -> list[str]:
    """The tokens, which are made once for a server."""
    if (place := (id(kinds), server)) not in _MADE:
        _MADE[place] = [make(server) for make in kinds.values()]
    return _MADE[place]


def without(rights: Iterable[Right]) -> str:
    return signed(claims(**dict[str, list[str]].fromkeys(rights, [])))


def elsewhere(rights: Iterable[Right]) -> str:
    return signed(claims(**{name: ["other.**"] for name in rights or ALL}))


# Reading the matrix


def rows(first: str) -> dict[str, Row]:
    """The table whose first column has that title."""
    table = next(part for part in MATRIX.split("\n\n") if part.startswith(f"| {first} |"))
    titles, _, *lines_ = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {cells[0]: dict(zip(titles[1:], cells[1:], strict=True)) for cells in lines_}


ROUTE_ROWS = rows("door")
LINES = rows("line")


def name_of(route: ProtectedRoute) -> str:
    (method,) = (route.methods or set()) - {"HEAD"}
    return f"`{method} {route.path.replace(':path', '')}`"


def rights_of(route: ProtectedRoute) -> tuple[Right, ...]:
    return route.required.rights if isinstance(route.required, RequiredRight | RightOnFound) else ()


def test_every_route_has_a_row_and_every_row_has_a_route() -> None:
    assert all(isinstance(route, ProtectedRoute) for route in ROUTES)
    assert {name_of(route) for route in ROUTES} == set(ROUTE_ROWS)


def _commands() -> Iterator[str]:
    yield from (f"words `{verb}`" for verb in text.USAGE)
    tags = {"json": json_objects.AnyLine, "literal": python_literals.AnyLine}
    for dialect, kinds in tags.items():
        for kind in get_args(kinds):
            yield f"{dialect} `{kind.__struct_config__.tag}`"
            if "group" in kind.__struct_fields__ and kind.__struct_config__.tag == "subscribe":
                yield f"{dialect} `subscribe group`"


def test_every_line_has_a_row_and_every_row_a_line() -> None:
    assert set(LINES) == set(_commands())


def _below(kind: type[Command]) -> Iterator[type[Command]]:
    for below in kind.__subclasses__():
        yield from _below(below)
        if not below.__subclasses__():
            yield below


def test_every_command_has_what_it_needs() -> None:
    assert set(REQUIRED_RIGHTS) == set(_below(Command))


# HTTP


class Place:
    """A topic of one message, which a group works on: each route has something to do there."""

    def __init__(self, http: httpx.Client) -> None:
        self.topic = f"m.{uuid4().hex}"
        self.token = f"t{uuid4().hex}"
        self.new_token = {"name": self.token, "view": ["a"]}
        self.has_token = False  # it was made to be revoked
        self.http = http
        path = f"/topics/{self.topic}"
        self.id = http.post(f"{path}/messages", content=b"x").json()["id"]
        http.post(f"{path}/groups/g/pull").raise_for_status()

    def state(self) -> tuple[int, int]:
        """What would be different if anything had been done."""
        topic = self.http.get(f"/topics/{self.topic}").json()
        group = self.http.get(f"/topics/{self.topic}/groups/g").json()
        return topic["messages"], group["leased"]

    def keeps_its_token(self) -> bool:
        """True if it is there, or was not there before either."""
        listed = self.http.get("/tokens", params={"after": self.token[:-1], "limit": 1}).json()["tokens"]
        return self.has_token == (self.token in [token["name"] for token in listed])

    def request(self, route: ProtectedRoute) -> dict[str, Any]:
        (method,) = (route.methods or set()) - {"HEAD"}
        path = route.path.replace(":path", "").format(
            topic=self.topic, id=self.id, group="g", file="main.js", name=self.token
        )
        params = {"timeout": "1ms"} if path.endswith("stream") else {}
        params |= {"topic": self.topic} if path in {"/stream", "/jobs"} else {}
        params |= {"group": "g"} if path == "/jobs" else {}
        with_ids = {"ack", "nack", "extend", "release", "skip", "redrive"}
        body: dict[str, Any] | None = {"ids": [self.id]} if path.rpartition("/")[2] in with_ids else None
        body = {"to": "latest"} if path.endswith("/seek") else body
        body = self.new_token if (method, path) == ("POST", "/tokens") else body
        params |= {"to": f"{self.topic}.copy"} if path.endswith("/copy") else {}
        if path.startswith("/scheduled/"):
            later = self.http.post(f"/topics/{self.topic}/messages?delay=1h", content=b"later").json()["id"]
            path = path.replace(self.id, later)
        if path.startswith("/tokens/") and not self.has_token:
            self.http.post("/tokens", json=self.new_token).raise_for_status()
            self.has_token = True
        return {"method": method, "url": path, "params": params, "json": body}


@pytest.fixture(scope="module")
def known(protected: Guarded) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {protected.good}"}
    with httpx.Client(base_url=protected.process.url, headers=headers, timeout=DEADLINE) as http:
        yield http


@pytest.fixture(scope="module")
def stranger(protected: Guarded) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=protected.process.url, timeout=DEADLINE) as http:
        yield http


class Visit:
    """One route, and what it answers."""

    def __init__(self, route: ProtectedRoute, known: httpx.Client, stranger: httpx.Client) -> None:
        self.known, self.stranger, self.route = known, stranger, route
        self.row = ROUTE_ROWS[name_of(route)]
        self.place = Place(known)

    def expect(self, column: str, shown: str = "", headers: Any = (), **params: str) -> None:
        """`shown`: the token behind Bearer."""
        expected = int(self.row[column])
        place = Place(self.known) if expected < 300 else self.place
        request = place.request(self.route)
        request["params"] = {**request["params"], **params}
        request["headers"] = [*headers, *([("Authorization", f"Bearer {shown}")] if shown else [])]
        answer = self.stranger.request(**request)
        assert answer.status_code == expected, (column, shown, headers, params, answer.text)
        assert ("www-authenticate" in answer.headers) == (expected == 401)
        if expected == 401 and (shown or column == "none"):  # RFC 6750, section 3.1: no error where no token is shown
            challenge = 'Bearer realm="plainmq"' + (', error="invalid_token"' if shown else "")
            assert answer.headers["www-authenticate"] == challenge
        if expected == 403:
            assert answer.json()["code"] == ("origin_forbidden" if column == "page elsewhere" else "forbidden")

    def check_that_nothing_was_done(self) -> None:
        assert self.place.state() == (1, 1)
        assert self.place.keeps_its_token()

    def ticket(self) -> str:
        ticket: str = self.known.post("/tickets").json()["ticket"]
        return ticket


@pytest.mark.parametrize("route", ROUTES, ids=name_of)
def test_a_route_admits_the_tokens_of_its_row(
    route: ProtectedRoute, protected: Guarded, known: httpx.Client, stranger: httpx.Client
) -> None:
    visit = Visit(route, known, stranger)
    visit.expect("none")
    for token in made(BAD, protected):
        visit.expect("bad", token)
    for shown in BAD_HEADERS.values():
        visit.expect("bad", headers=[("Authorization", value) for value in shown(protected)])
    visit.expect("other right", without(rights_of(route)))
    visit.expect("other topic", elsewhere(rights_of(route)))
    for option in ("token", "access_token"):
        visit.expect("in the URL", **{option: protected.good})
        visit.expect("in the URL", protected.good, **{option: protected.good})
    for token in made(GOOD, protected):
        visit.expect("good", token)
    visit.check_that_nothing_was_done()


@pytest.mark.parametrize("route", ROUTES, ids=name_of)
def test_a_route_knows_tickets_and_cookies(
    route: ProtectedRoute, protected: Guarded, known: httpx.Client, stranger: httpx.Client
) -> None:
    visit = Visit(route, known, stranger)
    ticket = visit.ticket()
    visit.expect("ticket", ticket=ticket)
    if visit.row["ticket"] == "200":
        visit.expect("spent", ticket=ticket)
    visit.expect("spent", ticket="A" * 43)
    visit.expect("spent", ticket="")
    visit.expect("spent", ticket=protected.good)
    cookie = ("Cookie", f"plainmq={protected.good}")
    visit.expect("cookie", headers=[cookie])
    visit.expect("cookie", headers=[cookie, ("Origin", protected.process.url), ("Sec-Fetch-Site", "same-origin")])
    for origin in ("https://evil.example", "null"):
        visit.expect("page elsewhere", headers=[cookie, ("Origin", origin)])
    for site in ("same-site", "cross-site"):
        foreign = [cookie, ("Sec-Fetch-Site", site)]
        visit.expect("page elsewhere", headers=foreign)
        reads = "GET" in (route.methods or ()) and not route.path.endswith("/stream")
        followed = "sister site" if reads else "page elsewhere"
        visit.expect(followed, headers=[*foreign, ("Sec-Fetch-Mode", "navigate")])
    if visit.row["bad"] == "401":
        visit.expect("bad", headers=[("Cookie", f"plainmq={BAD['static, expired'](protected)}")])
        visit.expect("bad", headers=[("Cookie", f"__Host-plainmq={protected.good}")])
    visit.check_that_nothing_was_done()


# The line port

TEXTS: Final = {
    "words": {
        "sub": "sub {topic}", "unsub": "unsub {topic}", "pub": "pub {topic} x", "work": "work {topic} g",
        "ack": "ack {topic} g {id}", "nack": "nack {topic} g {id}", "extend": "extend {topic} g {id}",
        "jobs": "jobs {topic} g leased", "redrive": "redrive {topic} g {id}", "release": "release {topic} g {id}",
        "skip": "skip {topic} g {id}", "seek": "seek {topic} g earliest", "pause": "pause {topic} g",
        "resume": "resume {topic} g", "purge": "purge {topic}",
    },
    "json": {
        "subscribe": '{{"command":"subscribe","topic":"{topic}"}}',
        "subscribe group": '{{"command":"subscribe","topic":"{topic}","group":"g"}}',
        "unsubscribe": '{{"command":"unsubscribe","topic":"{topic}"}}',
        "send": '{{"command":"send","topic":"{topic}","msg":"x","delivery":"all"}}',
        "ack": '{{"command":"ack","topic":"{topic}","group":"g","id":"{id}"}}',
        "nack": '{{"command":"nack","topic":"{topic}","group":"g","id":"{id}"}}',
        "extend": '{{"command":"extend","topic":"{topic}","group":"g","id":"{id}"}}',
        "ping": '{{"command":"ping"}}',
        "jobs": '{{"command":"jobs","topic":"{topic}","group":"g","state":"leased"}}',
        "redrive": '{{"command":"redrive","topic":"{topic}","group":"g","ids":["{id}"]}}',
        "release": '{{"command":"release","topic":"{topic}","group":"g","id":"{id}"}}',
        "skip": '{{"command":"skip","topic":"{topic}","group":"g","id":"{id}"}}',
        "seek": '{{"command":"seek","topic":"{topic}","group":"g","position":"earliest"}}',
        "pause": '{{"command":"pause","topic":"{topic}","group":"g"}}',
        "resume": '{{"command":"resume","topic":"{topic}","group":"g"}}',
        "purge": '{{"command":"purge","topic":"{topic}"}}',
        "topics": '{{"command":"topics"}}',
    },
    "literal": {
        "subscribe": "{{'command':'subscribe','topic':'{topic}'}}",
        "send": "{{'command':'send','topic':'{topic}','msg':'x'}}",
    },
}  # fmt: skip
AUTH: Final = {
    "words": "auth %s",
    "json": '{"command":"auth","token":"%s"}',
    "literal": "{'command':'auth','token':'%s'}",
}
DIALECTS: Final[dict[str, Dialect]] = {"words": TEXT, "json": JSON, "literal": LITERAL}
SIGNS: Final = (
    (r"there is no topic .* no right to", "missing"),
    (r"has no right to", "forbidden"),
    (r"token", "unauthorised"),
    (r"(?i)^ERR|false", "something else"),
)


def outcome(said: list[str]) -> str:
    return next((word for sign, word in SIGNS for line in said if re.search(sign, line) and _refused(line)), "done")


def _refused(line: str) -> bool:
    return bool(re.match(r"ERR |\{['\"]success['\"]: [fF]alse", line))


async def say(server: Guarded, *texts: str) -> list[str]:
    """What comes of each of these lines, on one connection."""
    outcomes: list[str] = []
    async with lines(server.process) as peer:
        for text in texts:
            peer.send(text, "sync")
            said: list[str] = []
            while not said or "'sync' is not a command" not in said[-1]:
                try:
                    line = await peer.next()
                except ConnectionResetError:  # it was closed before `sync` behind a `quit` was read
                    line = b""
                if not line:
                    return [*outcomes, "closed"]
                said.append(line.decode())
            outcomes.append(outcome(said[:-1]))
    return outcomes


def _rights(dialect: str, name: str) -> Sequence[Right]:
    shown = TEXTS[dialect].get(name, name).format(topic="a", id="k3f9a2-1")
    need = REQUIRED_RIGHTS[type(DIALECTS[dialect].parse(shown.encode()))]
    return need[0] if need else ()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded(tmp_path_factory.mktemp("port"), "own protocol") as server:
        yield server


@pytest.fixture(scope="module")
def owner(port: Guarded) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {port.good}"}
    with httpx.Client(base_url=port.process.url, headers=headers, timeout=DEADLINE) as http:
        yield http


COMMANDS = [line for line in LINES if not line.endswith("`auth`")]


@pytest.mark.parametrize("line", COMMANDS)
async def test_a_command_admits_the_tokens_of_its_row(line: str, port: Guarded, owner: httpx.Client) -> None:
    dialect, name = line.replace("`", "").split(" ", 1)
    row, auth, rights = LINES[line], AUTH[dialect], _rights(dialect, name)
    untouched = Place(owner)

    def text(column: str) -> str:
        at = Place(owner) if row[column] == "done" else untouched
        return TEXTS[dialect].get(name, name).format(topic=at.topic, id=at.id)

    assert await say(port, text("none")) == [row["none"]]
    tokens = made(BAD, port)
    tokens = tokens[:1] if row["bad"] == "closed" else tokens
    said = await say(port, *(part for token in tokens for part in (auth % token, text("bad"))))
    assert said == ["unauthorised", row["bad"]] * len(tokens)
    assert await say(port, auth % without(rights), text("other right")) == ["done", row["other right"]]
    assert await say(port, auth % elsewhere(rights), text("other topic")) == ["done", row["other topic"]]
    for good in made(GOOD, port):
        assert await say(port, auth % good, text("good")) == ["done", row["good"]]
    assert untouched.state() == (1, 1)


@pytest.mark.parametrize("line", sorted(set(LINES) - set(COMMANDS)))
async def test_a_token_is_taken_if_it_is_good(line: str, port: Guarded) -> None:
    row, auth = LINES[line], AUTH[line.split(maxsplit=1)[0]]
    tokens = made(BAD, port)
    assert await say(port, *(auth % token for token in tokens)) == [row["bad"]] * len(tokens)
    for column, token in (("other right", without(())), ("other topic", elsewhere(()))):
        assert await say(port, auth % token) == [row[column]]
    for good in made(GOOD, port):
        assert await say(port, auth % good) == [row["good"]]
