"""What answers tell a browser: nothing of them is to be run, loaded or framed in our name."""

import httpx
import pytest

from tests.event_stream import stream
from tests.harness import http_client, start_server

NAMES = ("content-security-policy", "cross-origin-resource-policy", "referrer-policy")


async def answers(http: httpx.AsyncClient, topic: str) -> list[httpx.Response]:
    """One of each kind."""
    sent = await http.post(f"/topics/{topic}/messages?event=x", content="hello")
    return [
        sent,
        await http.get(sent.headers["location"]),
        await http.get(f"/topics/{topic}/messages"),
        await http.get(f"/topics/{topic}/messages", headers={"Accept": "application/x-ndjson"}),
        await http.get("/topics"),
        await http.get("/livez"),
        await http.get("/metrics"),
        await http.get("/nothing"),
        await http.patch("/livez"),
        await http.get("/livez", headers={"Host": "evil.example"}),
        await http.get("/livez", headers={"Origin": "https://evil.example"}),
        await http.post(f"/topics/{topic}/messages?evnt=x"),
        await http.get(f"/topics/{topic}/stream?timeout=1ms"),
    ]


async def test_every_answer_says_that_it_is_nothing_to_run(http: httpx.AsyncClient, topic: str) -> None:
    for answer in await answers(http, topic):
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"], answer.request.url
        for name in NAMES:
            assert len(answer.headers.get_list(name)) == 1, (answer.request.url, name)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "strict-transport-security" not in answer.headers


async def test_a_plain_publish_is_answered_in_few_words(http: httpx.AsyncClient, topic: str) -> None:
    """Our own server's needs no more, and under another the app cannot know that it is the fast path's."""
    answer = await http.post(f"/topics/{topic}/messages", content="hello")
    assert (answer.status_code, answer.headers["x-content-type-options"]) == (201, "nosniff")


async def test_what_never_reaches_the_app_says_so_too(topic: str) -> None:
    with start_server(tcp_port=0) as server:
        async with http_client(server.url) as http:
            too_long = await http.get(f"/livez?{'x' * 9_000}")
            too_many = await http.get("/livez", headers={f"A{number}": "b" for number in range(100)})
        for answer, status in ((too_long, 414), (too_many, 431)):
            assert (answer.status_code, answer.headers["x-content-type-options"]) == (status, "nosniff")
        async with stream(server, f"/topics/{topic}/stream") as events:
            assert all(name in events.headers for name in ("x-content-type-options", *NAMES))


@pytest.mark.parametrize("use", ["script", "serviceworker", "style", "worker", "object"])
async def test_a_message_is_no_script_of_a_page(http: httpx.AsyncClient, topic: str, use: str) -> None:
    sent = await http.post(f"/topics/{topic}/messages", content="alert(1)", headers={"Content-Type": "text/javascript"})
    refused = await http.get(sent.headers["location"], headers={"Sec-Fetch-Dest": use})
    assert (refused.status_code, refused.json()["code"]) == (403, "use_forbidden")


@pytest.mark.parametrize("use", ["document", "image", "audio", "video", "empty", ""])
async def test_a_message_may_be_looked_at(http: httpx.AsyncClient, topic: str, use: str) -> None:
    sent = await http.post(f"/topics/{topic}/messages", content="hello")
    assert (await http.get(sent.headers["location"], headers={"Sec-Fetch-Dest": use})).text == "hello"
