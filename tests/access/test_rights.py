"""What rights reach, seen from the outside."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest

from app.access.authenticator import Authenticator
from app.access.jwt_keys import Expected, read_keys
from app.errors import Unauthorised
from app.messages.topic import MAX_FILTER_NAMES
from tests.access.conftest import Guarded
from tests.access.keys import SECRET, claims, put, signed
from tests.harness import http_client, start_server
from tests.line_client import lines

NOTHING: dict[str, Any] = {"publish": None, "subscribe": None, "consume": None, "admin": None, "view": None}


@pytest.fixture
async def http(protected: Guarded) -> AsyncIterator[httpx.AsyncClient]:
    async with http_client(protected.process.url) as client:
        yield client


def holding(**rights: list[str]) -> dict[str, str]:
    """The header of one who has these rights and no others."""
    return {"Authorization": f"Bearer {signed(claims(**(NOTHING | rights)))}"}


async def publish(http: httpx.AsyncClient, topic: str) -> str:
    answer = await http.post(f"/topics/{topic}/messages", content=b"x", headers=holding(publish=[topic]))
    id: str = answer.json()["id"]
    return id


async def test_a_group_may_send_its_dead_only_where_its_owner_may_rule(http: httpx.AsyncClient, topic: str) -> None:
    owner = holding(admin=[f"{topic}.**"])
    path = f"/topics/{topic}.a/groups/g"
    inside = await http.put(path, json={"dead_letter": f"{topic}.lost"}, headers=owner)
    outside = await http.put(path, json={"dead_letter": "elsewhere", "max_deliveries": 3}, headers=owner)
    assert (inside.status_code, outside.status_code, outside.json()["code"]) == (200, 403, "forbidden")
    seen = await http.get(path, headers=holding(consume=[f"{topic}.a"]))
    assert (seen.json()["dead_letter"], seen.json()["max_deliveries"]) == (f"{topic}.lost", 10)


async def test_a_client_with_admin_on_some_topics_may_list_those(http: httpx.AsyncClient, topic: str) -> None:
    await publish(http, f"{topic}.a")
    owner = holding(admin=[f"{topic}.**"])
    for match in (f"{topic}.**", f"{topic}.*", f"{topic}.a"):
        answer = await http.get("/topics", params={"match": match}, headers=owner)
        assert [info["topic"] for info in answer.json()["topics"]] == [f"{topic}.a"]
    for query in ({}, {"match": "**"}, {"match": "*.a"}, {"match": topic}):
        assert (await http.get("/topics", params=query, headers=owner)).status_code == 403


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (["{}.a"], 200), (["{}.*"], 200), (["{}.**"], 200), (["{}.a", "{}.*.b"], 200),
        (["{}"], 404), (["{}x.a"], 404), (["{}/a"], 404), (["**"], 404), (["*.a"], 404), (["{}.a", "b"], 404),
    ],
)  # fmt: skip
async def test_a_stream_is_allowed_when_all_it_may_show_is(
    http: httpx.AsyncClient, topic: str, asked: list[str], status: int
) -> None:
    reader = holding(subscribe=[f"{topic}.**"])
    names = [name.format(topic) for name in asked]
    query: dict[str, Any] = {"topic": names, "timeout": "1ms"}
    assert (await http.get("/stream", params=query, headers=reader)).status_code == status
    if len(names) == 1:
        path = f"/topics/{names[0]}"
        for below in ("stream?timeout=1ms", "messages?wait=1ms"):
            assert (await http.get(f"{path}/{below}", headers=reader)).status_code == status


async def test_a_right_to_many_topics_is_a_right_to_a_stream_of_them(http: httpx.AsyncClient, topic: str) -> None:
    names = [f"{topic}.{number}" for number in range(MAX_FILTER_NAMES)]
    query: dict[str, Any] = {"topic": names, "timeout": "1ms"}
    assert (await http.get("/stream", params=query, headers=holding(subscribe=names))).status_code == 200
    assert (await http.get("/stream", params=query, headers=holding(subscribe=names[1:]))).status_code == 404


async def test_what_may_not_be_read_looks_as_if_it_were_not_there(http: httpx.AsyncClient) -> None:
    """The same bytes, but for the name, whether there is such a topic or not."""
    there, missing = (f"t.{uuid4().hex}" for _ in range(2))
    id = await publish(http, there)
    await http.put(f"/topics/{there}/groups/g", headers=holding(admin=[there]))
    stranger = holding(subscribe=["other"], consume=["other"])
    ids = {"ids": [id]}
    routes: list[tuple[str, str, Any]] = [
        ("GET", "", None), ("GET", "/messages", None), ("GET", f"/messages/{id}", None), ("GET", "/stream", None),
        ("GET", "/groups/g", None), ("GET", "/groups/g/stream", None), ("POST", "/groups/g/pull", None),
        ("POST", "/groups/g/ack", ids), ("POST", "/groups/g/nack", ids), ("POST", "/groups/g/extend", ids),
    ]  # fmt: skip
    for method, below, body in routes:
        first, second = [
            await http.request(method, f"/topics/{topic}{below}", json=body, headers=stranger)
            for topic in (there, missing)
        ]
        assert first.status_code == second.status_code == 404
        assert first.text.replace(there, "") == second.text.replace(missing, "")
        assert {name for name in first.headers if name != "date"} == {name for name in second.headers if name != "date"}


# A group decides what its topic keeps, and writes to another topic: it takes more than the right to work in it


@pytest.mark.parametrize("admin", [[], ["{}"], ["{}.dead"], ["{}.*"]])
async def test_the_right_to_consume_alone_creates_no_group(
    protected: Guarded, http: httpx.AsyncClient, topic: str, admin: list[str]
) -> None:
    rights = {"consume": [topic], "admin": [name.format(topic) for name in admin]}
    await publish(http, topic)
    for method, call in (("POST", "pull"), ("GET", "stream?timeout=1ms"), ("HEAD", "stream"), ("GET", "")):
        answer = await http.request(method, f"/topics/{topic}/groups/g/{call}".rstrip("/"), headers=holding(**rights))
        assert answer.status_code == 404
    async with lines(protected.process) as peer:
        peer.send(f"auth {signed(claims(**(NOTHING | rights)))}", f"work {topic} g")
        assert [line[:13] for line in await peer.take(2)][1] == b"ERR not_found"
        peer.send(f'{{"command":"subscribe","topic":"{topic}","group":"g"}}')
        assert b"admin" in await peer.next()
    state = await http.get(f"/topics/{topic}", headers=holding(subscribe=[topic]))
    assert state.json()["groups"] == []


async def test_a_client_with_admin_on_both_topics_creates_a_group_by_a_first_pull_and_others_consume_in_it(
    http: httpx.AsyncClient, topic: str
) -> None:
    await publish(http, topic)
    path = f"/topics/{topic}/groups/g"
    owner, worker = holding(consume=[topic], admin=[f"{topic}.*", topic]), holding(consume=[topic])
    assert (await http.post(f"{path}/pull", params={"lease": "0"}, headers=owner)).status_code == 200
    pulled = await http.post(f"{path}/pull", headers=worker)
    assert [message["data"] for message in pulled.json()["messages"]] == ["x"]
    assert (await http.delete(path, headers=worker)).status_code == 403


async def test_the_usual_dead_letter_topic_needs_the_same_right_as_any_other(
    http: httpx.AsyncClient, topic: str
) -> None:
    path = f"/topics/{topic}/groups/g"
    owner = holding(admin=[topic, f"{topic}-lost"])
    for body in ({}, {"max_deliveries": 1}, {"dead_letter": f"{topic}.dead"}):
        answer = await http.put(path, json=body, headers=owner)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert f"{topic}.dead" in answer.json()["detail"]
    assert (await http.put(path, json={"dead_letter": f"{topic}-lost"}, headers=owner)).status_code == 200
    changed = await http.put(path, json={"max_deliveries": 1}, headers=owner)
    assert (changed.status_code, changed.json()["dead_letter"]) == (200, f"{topic}-lost")


async def test_a_site_that_was_named_may_bring_a_token_but_no_cookie(tmp_path: Path) -> None:
    origin = "https://app.example.org"
    key = put(tmp_path / "secret", SECRET.encode())
    flags = ("--jwt-keys", f"HS256:{key}", "--allowed-origins", origin)
    token = signed(claims(aud=None, iss=None))
    with start_server(*flags, tcp_port=0) as process:
        async with http_client(process.url, headers={"Origin": origin}) as http:
            preflight = await http.options(
                "/topics/a/messages",
                headers={"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"},
            )
            assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, origin)
            bearer = await http.post("/topics/a/messages", headers={"Authorization": f"Bearer {token}"})
            cookie = await http.post("/topics/a/messages", headers={"Cookie": f"plainmq={token}"})
            assert (bearer.status_code, cookie.status_code) == (201, 401)
            assert cookie.headers["access-control-allow-origin"] == origin
            assert "www-authenticate" in cookie.headers["access-control-expose-headers"].lower()


@pytest.mark.parametrize(
    ("expected", "named", "good"),
    [
        (Expected(), {}, True),
        (Expected(), {"iss": "whoever"}, True),
        (Expected(), {"aud": "another"}, False),
        (Expected(audience="us"), {"aud": "us"}, True),
        (Expected(audience="us"), {"aud": ["them", "us"]}, True),
        (Expected(audience="us"), {}, False),
        (Expected(issuer="us"), {"iss": "us"}, True),
        (Expected(issuer="us"), {"iss": ["us"]}, False),
        (Expected(issuer="us"), {}, False),
    ],
)
def test_the_audience_and_the_issuer_of_a_signed_token_are_checked(
    tmp_path: Path, expected: Expected, named: dict[str, Any], good: bool
) -> None:
    keys = read_keys(f"HS256:{put(tmp_path / 'secret', SECRET.encode())}", expected)
    token = jwt.PyJWS().encode(json.dumps(claims(aud=None, iss=None) | named).encode(), SECRET)
    authenticator = Authenticator(keys=keys)
    if good:
        assert authenticator.authenticate(token, "").name == "somebody"
    else:
        with pytest.raises(Unauthorised):
            authenticator.authenticate(token, "")


# The right to view: everything but messages, and nothing is changed


async def test_a_viewer_sees_names_state_and_figures_and_no_message(http: httpx.AsyncClient, topic: str) -> None:
    id = await publish(http, topic)
    await http.put(f"/topics/{topic}/groups/g", headers=holding(admin=[topic, f"{topic}.dead"]))
    viewer = holding(view=[topic])
    for path in (f"/topics?match={topic}", f"/topics/{topic}", f"/topics/{topic}/groups/g"):
        assert (await http.get(path, headers=viewer)).status_code == 200
    for below in ("messages", f"messages/{id}", "stream?timeout=1ms", "groups/g/stream?timeout=1ms"):
        assert (await http.get(f"/topics/{topic}/{below}", headers=viewer)).status_code == 404
    changes = {("POST", "messages"): 403, ("POST", "groups/g/pull"): 404, ("PUT", ""): 403, ("DELETE", ""): 403}
    for (method, below), status in changes.items():
        answer = await http.request(method, f"/topics/{topic}/{below}".rstrip("/"), headers=viewer)
        assert answer.status_code == status
    state = await http.get(f"/topics/{topic}/groups/g", headers=viewer)
    assert (state.json()["ready"], state.json()["leased"]) == (1, 0)


async def test_figures_of_the_whole_server_take_the_right_to_view_or_admin_everything(http: httpx.AsyncClient) -> None:
    for rights, status in (({"view": ["**"]}, 200), ({"admin": ["**"]}, 200), ({"view": ["a.**"]}, 403)):
        for path in ("/metrics", "/stats", "/stats/stream?timeout=1ms"):
            assert (await http.get(path, headers=holding(**rights))).status_code == status


@pytest.mark.parametrize("right", ["view", "consume", "admin"])
async def test_jobs_are_listed_without_their_text_for_clients_that_may_not_read(
    http: httpx.AsyncClient, topic: str, right: str
) -> None:
    worker = {"Authorization": f"Bearer {signed(claims())}"}
    await http.post(f"/topics/{topic}/messages", content=b"secret", headers=worker)
    leased = (await http.post(f"/topics/{topic}/groups/g/pull", headers=worker)).json()["messages"]
    query = {"topic": topic, "group": "g", "state": "leased"}
    (job,) = (await http.get("/jobs", params=query, headers=holding(**{right: [topic]}))).json()["jobs"]
    seen = (job["lease"], job["size"], job["consumer"], "data" in job)
    assert seen == (leased[0]["lease"], 6, claims()["sub"], False)
    reader = holding(**{right: [topic], "subscribe": [topic]})
    (job,) = (await http.get("/jobs", params=query, headers=reader)).json()["jobs"]
    assert job["data"] == "secret"


async def test_who_may_view_a_group_sees_its_dead_in_a_topic_outside_its_pattern_without_what_they_say(
    http: httpx.AsyncClient, topic: str
) -> None:
    graves, group = f"graves.{topic}", f"/topics/{topic}/groups/g"
    boss = holding(publish=[topic], consume=[topic], admin=[topic, graves])
    await http.put(group, headers=boss, json={"max_deliveries": 1, "dead_letter": graves})
    secret: dict[str, Any] = {"headers": boss | {"X-Plainmq-Title": "secret"}, "content": b"secret"}
    await http.post(f"/topics/{topic}/messages?event=paid", **secret)
    (job,) = (await http.post(f"{group}/pull", headers=boss)).json()["messages"]
    await http.post(f"{group}/nack", headers=boss, json={"ids": [job["id"]], "reason": "no paper"})
    viewer = holding(view=[topic])
    state = (await http.get(group, headers=viewer)).json()
    assert (state["dead"], state["dead_letter"], state["dead_letters"]["kept"]) == (1, graves, 1)
    listed = await http.get("/jobs", params={"topic": topic, "group": "g", "state": "dead"}, headers=viewer)
    (letter,) = listed.json()["jobs"]
    assert (letter["topic"], letter["event"], letter["dead"]["reason"]) == (graves, "paid", "no paper")
    assert "secret" not in listed.text
    for path in (f"/topics/{graves}", f"/topics/{graves}/messages", f"/topics/{graves}/messages/{letter['id']}"):
        assert (await http.get(path, headers=viewer)).status_code == 404


async def test_a_line_client_may_list_topics_with_the_right_to_view(protected: Guarded) -> None:
    async with lines(protected.process) as peer:
        peer.send(f"auth {signed(claims(**(NOTHING | {'view': ['**']})))}", "topics")
        assert (await peer.take(2))[1].startswith(b"OK")


async def test_a_copy_takes_the_right_to_read_here_and_to_publish_there(http: httpx.AsyncClient, topic: str) -> None:
    id = await publish(http, topic)
    path, query = f"/topics/{topic}/messages/{id}/copy", {"to": f"{topic}.b"}
    here, there = {"subscribe": [topic]}, {"publish": [f"{topic}.b"]}
    for rights, status in ((here, 403), (there, 404), (here | {"publish": [topic]}, 403), (here | there, 201)):
        assert (await http.post(path, params=query, headers=holding(**rights))).status_code == status


async def test_a_viewer_of_the_jobs_of_a_group_sees_neither_bodies_nor_headers(
    http: httpx.AsyncClient, topic: str
) -> None:
    writer = holding(publish=[topic])
    await http.post(f"/topics/{topic}/messages", content=b"secret", headers={**writer, "X-Plainmq-Title": "secret"})
    await http.put(f"/topics/{topic}/groups/g", headers=holding(admin=[topic, f"{topic}.dead"]))
    query = {"topic": topic, "group": "g"}
    (seen,) = (await http.get("/jobs", params=query, headers=holding(view=[topic]))).json()["jobs"]
    assert seen["size"] == 6
    assert "secret" not in str(seen)
    (read,) = (await http.get("/jobs", params=query, headers=holding(view=[topic], subscribe=[topic]))).json()["jobs"]
    assert (read["data"], read["headers"]) == ("secret", {"title": "secret"})
