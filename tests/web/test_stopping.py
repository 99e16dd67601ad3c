"""A server that is stopping refuses what would change the log, by whatever route, and still settles leases."""

from collections.abc import AsyncIterator

import httpx
import pytest

from app.broker.broker import Broker
from app.log.topic_log import Limits
from app.messages.message import Scheduled
from app.storage.memory import MemoryEngine
from app.web.app import ROUTES, create_app
from app.web.middleware.origin import Rules
from app.web.publish_request import PublishLimits
from tests.engines.conftest import Clock
from tests.harness import OPEN, draft

GROUP = "/topics/{topic:path}/groups/{group}"
CHANGES = {  # the body of a request that would be carried out otherwise
    ("POST", "/topics/{topic:path}/messages"): "hello",
    ("POST", "/topics/{topic:path}/messages/{id}/copy"): None,
    ("POST", f"{GROUP}/pull"): None,
    ("POST", f"{GROUP}/redrive"): '{"all":true}',
    ("POST", f"{GROUP}/seek"): '{"to":"earliest"}',
    ("POST", f"{GROUP}/pause"): None,
    ("POST", f"{GROUP}/resume"): None,
    ("PUT", GROUP): '{"max_deliveries":7}',
    ("DELETE", GROUP): None,
    ("POST", "/topics/{topic:path}/purge"): None,
    ("POST", "/topics/{topic:path}/pause"): None,
    ("POST", "/topics/{topic:path}/resume"): None,
    ("PUT", "/topics/{topic:path}"): '{"max_messages":7}',
    ("DELETE", "/topics/{topic:path}"): None,
    ("POST", "/scheduled/{id}/publish"): None,
    ("DELETE", "/scheduled/{id}"): None,
}
SETTLING = {("POST", f"{GROUP}/{action}") for action in ("ack", "nack", "extend", "release", "skip")}
OF_THE_LOG = ("/topics", "/scheduled")  # other routes change tokens and sessions
LISTS = ("/topics", "/groups", "/scheduled")


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    async with Broker(MemoryEngine(Limits(), Clock())) as broker:
        yield broker


@pytest.fixture
async def http(broker: Broker) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(create_app(broker, OPEN, PublishLimits(), Rules()))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield http


def test_every_route_that_changes_the_log_is_known_here() -> None:
    routes = {
        (method, route.path)
        for route in ROUTES
        for method in {*(route.methods or ())} - {"GET", "HEAD"}
        if route.path.startswith(OF_THE_LOG)
    }
    assert routes == {*CHANGES} | SETTLING


async def test_changes_are_refused_and_leases_settled(broker: Broker, http: httpx.AsyncClient) -> None:
    later = await broker.publish([draft("a", b"later", delay=3_600.0)])
    assert isinstance(later, Scheduled)
    await broker.publish([draft("a", *(b"work" for _ in SETTLING))])
    ids = [lease["id"] for lease in (await http.post(url_of(f"{GROUP}/pull"))).json()["messages"]]
    broker.drain()
    before = [(await http.get(path)).json() for path in LISTS]
    for (method, path), body in CHANGES.items():
        options = {"to": "a"} if path.endswith("/copy") else {}
        url = url_of(path, later.id if path.startswith("/scheduled") else ids[0])
        answer = await http.request(method, url, content=body, params=options)
        assert (answer.status_code, answer.json()["code"]) == (503, "draining"), (method, path)
    assert before == [(await http.get(path)).json() for path in LISTS]
    for (_, path), id in zip(sorted(SETTLING), ids, strict=True):
        assert (await http.post(url_of(path), json={"ids": [id]})).status_code == 200, path


def url_of(path: str, id: str = "") -> str:
    return path.replace("{topic:path}", "a").replace("{group}", "g").replace("{id}", id)
