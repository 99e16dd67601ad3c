"""No field of a body is ignored: for each operation of openapi.yaml, a body with an unknown field is refused, and
changes nothing."""

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import yaml

from app.web.app import ROUTES
from tests.harness import ServerProcess, http_client, start_server

PATHS: Final = yaml.safe_load((Path(__file__).parents[2] / "openapi" / "openapi.yaml").read_text())["paths"]
METHODS: Final = ("get", "put", "post", "delete")
OPERATIONS: Final = [
    (method, path, operation.get("requestBody"))
    for path, item in PATHS.items()
    for method, operation in item.items()
    if method in METHODS
]
FREE: Final = ("post", "/topics/{topic}/messages")  # its body is the message
UNREAD: Final = [(method, path) for method, path, body in OPERATIONS if body is None]
READ: Final = [(method, path) for method, path, body in OPERATIONS if body and (method, path) != FREE]
_numbers = count()
BODY: Final = b'{"before":"1h"}'


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with start_server() as process:
        yield process


class Target:
    """A topic with a message, a group with a leased job, and a scheduled publish."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.topic = f"foo{next(_numbers)}"
        self.id = self.scheduled = ""

    async def make(self) -> "Target":
        await self.http.put(f"/topics/{self.topic}")
        await self.http.put(f"/topics/{self.topic}/groups/g")
        self.id = (await self.http.post(f"/topics/{self.topic}/messages", content=b"x")).json()["id"]
        self.scheduled = (await self.http.post(f"/topics/{self.topic}/messages?delay=1h", content=b"x")).json()["id"]
        await self.http.post(f"/topics/{self.topic}/groups/g/pull?lease=1h")
        return self

    def request(self, method: str, path: str) -> dict[str, Any]:
        """A request that succeeds without a body. A stream ends at once."""
        id = self.scheduled if path.startswith("/scheduled/") else self.id
        url = path.format(topic=self.topic, group="g", id=id, file="main.js", name="sensors")
        params = {"timeout": "1ms"} if path.endswith("stream") else {}
        params |= {"topic": self.topic} if path in {"/stream", "/jobs"} else {}
        params |= {"group": "g"} if path == "/jobs" else {}
        params |= {"to": "bar"} if path.endswith("/copy") else {}
        return {"method": method.upper(), "url": url, "params": params}

    async def state(self) -> list[Any]:
        """What requests may change, apart from rates."""
        topics = (await self.http.get("/topics")).json()["topics"]
        groups = (await self.http.get("/groups")).json()["groups"]
        scheduled = (await self.http.get("/scheduled")).json()
        return [{name: value for name, value in record.items() if name != "rate"} for record in [*topics, *groups]] + [
            scheduled
        ]


@pytest.mark.parametrize(("method", "path"), [*UNREAD, *READ])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_a_field_that_a_route_does_not_know_is_refused(
    method: str, path: str, chunked: bool, server: ServerProcess
) -> None:
    async with http_client(server.url) as http:
        target = await Target(http).make()
        before = await target.state()
        body = _parts(BODY) if chunked else BODY
        answer = await http.request(**target.request(method, path), content=body)
        assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")
        assert "before" in answer.json()["detail"]
        assert await target.state() == before


async def _parts(body: bytes) -> Any:
    yield body[:5]
    yield body[5:]


@pytest.mark.parametrize(("method", "path"), UNREAD)
@pytest.mark.parametrize("body", [b"", b"{}", b" {}\r\n", b"\xef\xbb\xbf{ }"])
async def test_an_empty_object_is_no_body(method: str, path: str, body: bytes, server: ServerProcess) -> None:
    async with http_client(server.url) as http:
        bare = await http.request(**(await Target(http).make()).request(method, path))
        answer = await http.request(**(await Target(http).make()).request(method, path), content=body)
        assert answer.status_code == bare.status_code
        assert answer.is_success or path in {"/tickets", "/tokens", "/tokens/{name}"}, answer.text


@pytest.mark.parametrize("body", [b"before=1h", b"[]", b"null", b"{", b"\xff", b" " * 2_000, b'{"a":"' + b"x" * 99_999])
async def test_what_is_not_an_empty_object_is_refused(body: bytes, server: ServerProcess) -> None:
    async with http_client(server.url) as http:
        topic = (await Target(http).make()).topic
        for path in (f"/topics/{topic}/pause", f"/topics/{topic}/purge", "/session"):
            answer = await http.post(path, content=body)
            assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")
        assert not (await http.get(f"/topics/{topic}")).json()["paused"]


def test_routes_read_a_body_exactly_where_openapi_has_one() -> None:
    """The document decides which operations are tested above, so it has to agree with the code."""
    in_code = {
        (method.lower(), route.path.replace(":path", "")): route.reads_body
        for route in ROUTES
        for method in route.methods or ()
        if method != "HEAD"
    }
    assert in_code == {(method, path): body is not None for method, path, body in OPERATIONS}


async def test_a_pull_with_an_empty_body_still_waits_and_answers(server: ServerProcess) -> None:
    async with http_client(server.url) as http:
        await http.put("/topics/waits")
        await http.put("/topics/waits/groups/g")
        await http.post("/topics/waits/messages", content=b"x")
        answer = await http.post("/topics/waits/groups/g/pull?wait=5s", content=b"{}")
        assert [message["data"] for message in json.loads(answer.content)["messages"]] == ["x"]
