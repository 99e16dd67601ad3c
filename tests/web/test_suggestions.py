"""A slip in a path, a method or an option is told with what was probably meant."""

import httpx
import pytest

from tests.harness import ServerProcess

SLIPS = [
    ("POST", "/topics/foo/message", 405, "POST /topics/foo/messages"),
    ("POST", "/topics/foo/bar/mesages", 405, "POST /topics/foo/bar/messages"),
    ("POST", "/topics/foo/publish", 405, "POST /topics/foo/messages"),
    ("POST", "/topics/foo", 405, "POST /topics/foo/messages"),
    ("POST", "/topics/a%2Fb%3F", 405, "POST /topics/a%2Fb%3F/messages"),
    ("POST", "/topics/foo/messages/", 405, "POST /topics/foo/messages"),
    ("GET", "/topics/foo/message", 404, "GET /topics/foo/messages"),
    ("GET", "/topics/foo/messages/", 400, "GET /topics/foo/messages"),
    ("GET", "/topics/foo/message/k3f9a2xq-42", 404, "GET /topics/foo/messages/k3f9a2xq-42"),
    ("GET", "/topics/foo/Streams", 404, "GET /topics/foo/stream"),
    ("GET", "/topics/foo/subscribe", 404, "GET /topics/foo/stream"),
    ("GET", "/topic/foo/stream", 404, "GET /topics/foo/stream"),
    ("PUT", "/topic/foo", 404, "PUT /topics/foo"),
    ("POST", "/topics/jobs/groups/g/pul", 405, "POST /topics/jobs/groups/g/pull"),
    ("POST", "/topics/jobs/group/g/ack", 405, "POST /topics/jobs/groups/g/ack"),
    ("POST", "/topics/jobs/groups/g", 405, "POST /topics/jobs/groups/g/pull"),
    ("POST", "/topics/foo/messages/k3f9a2xq-42", 405, "POST /topics/foo/messages/k3f9a2xq-42/copy"),
    ("DELETE", "/topics/jobs/group/g", 404, "DELETE /topics/jobs/groups/g"),
    ("GET", "/streams?topic=a", 404, "GET /stream"),
    ("GET", "/topic", 404, "GET /topics"),
    ("GET", "/healthz", 404, "GET /livez"),
    ("GET", "/metric", 404, "GET /metrics"),
    ("GET", "/ready", 404, "GET /readyz"),
    ("GET", "/topics/foo/mesages?since=earliest", 400, "GET /topics/foo/messages"),
    ("GET", "/topics/foo/mesages?limit=1&since=1", 400, "GET /topics/foo/messages"),
    ("GET", "/topics/foo/steam?since=last:10", 400, "GET /topics/foo/stream"),
    ("PUT", "/topics/foo/group/g?start=latest", 400, "PUT /topics/foo/groups/g"),
    ("GET", "/health", 404, "GET /livez"),
    ("HEAD", "/health", 404, "HEAD /livez"),
    ("GET", "/ping", 404, "GET /livez"),
    ("GET", "/liveness", 404, "GET /livez"),
    ("GET", "/readiness", 404, "GET /readyz"),
    ("GET", "/status", 404, "GET /readyz"),
    ("GET", "/health/live", 404, "GET /livez"),
    ("GET", "/health/ready", 404, "GET /readyz"),
    ("GET", "/-/healthy", 404, "GET /livez"),
    ("GET", "/api/health", 404, "GET /livez"),
    ("GET", "/actuator/prometheus", 404, "GET /metrics"),
    ("POST", "/api/v1/topics/foo/messages", 404, "POST /topics/foo/messages"),
]


@pytest.mark.parametrize(("method", "path", "status", "meant"), SLIPS)
async def test_an_error_about_a_misspelt_path_names_the_nearest_request(
    http: httpx.AsyncClient, method: str, path: str, status: int, meant: str
) -> None:
    answer = await http.request(method, path)
    assert answer.status_code == status
    if method != "HEAD":
        assert answer.json()["detail"].endswith(f"; did you mean {meant}?")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/favicon.ico"), ("GET", "/topics/nope"), ("GET", "/topics/nope/messages/k3f9a2xq-42"),
        ("GET", "/topics/nope/groups/messages"), ("PUT", "/topics/nope/messages"), ("DELETE", "/topics/nope/stream"),
        ("POST", "/topics/foo/groups/g/purge"),
        ("GET", "/x" * 5_000), ("GET", "/topics/" + "message/" * 500), ("POST", "/metrics"), ("GET", "/%C3%A9"),
    ],
)  # fmt: skip
async def test_what_is_right_or_like_nothing_gets_no_guess(http: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await http.request(method, path)
    assert answer.status_code in {400, 404, 405, 414}
    assert "did you mean" not in answer.json()["detail"]


async def test_no_slip_is_answered_with_a_request_that_deletes_or_skips(http: httpx.AsyncClient) -> None:
    for slip in ("/topics/foo/purg", "/topics/foo/groups/g/ship", "/topics/foo/groups/g/peek", "/topics/foo/prge"):
        detail = (await http.post(slip)).json()["detail"]
        assert not [word for word in ("/purge", "/skip", "/seek", "/release") if detail.endswith(f"{word}?")], detail
    written = (await http.post("/topic/foo/purge")).json()["detail"]
    assert written.endswith("; did you mean POST /topics/foo/purge?")  # the client wrote the word itself


async def test_an_option_where_there_are_none_is_refused(http: httpx.AsyncClient, topic: str) -> None:
    detail = (await http.get(f"/topics/{topic}?xyzzy=1")).json()["detail"]
    assert detail == "'xyzzy' is not an option here; there are none"


@pytest.mark.parametrize("option", ["topics", "Topic", "topic[]"])
async def test_an_error_about_the_only_required_option_names_it(http: httpx.AsyncClient, option: str) -> None:
    answer = await http.get("/stream", params={option: "a"})
    assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")
    assert answer.json()["detail"] == f"{option!r} is not an option here; did you mean 'topic'?"


async def test_a_stream_of_no_topic_says_which_option_is_missing(http: httpx.AsyncClient) -> None:
    for path in ("/stream", "/stream?limit=1", "/stream?channel=a"):
        detail = (await http.get(path)).json()["detail"]
        assert detail == "option 'topic' is missing: expected ?topic=NAME, as often as is needed"


async def test_an_error_about_a_missing_group_says_how_to_create_it(
    server: ServerProcess, http: httpx.AsyncClient, topic: str
) -> None:
    path = f"/topics/{topic}/jobs%3F/groups/g"
    answer = await http.get(f"{path}/stream")
    assert answer.status_code == 404
    assert f"PUT {path}, or a first POST to its /pull, makes one" in answer.json()["detail"]
    assert (await http.put(path)).is_success
    with httpx.stream("GET", f"{server.url}{path}/stream?timeout=1ms") as stream:
        assert stream.status_code == 200
