r"""Half of a surrogate pair, which JSON can write as `\ud800`, is no character: it is refused, and changes nothing."""

import httpx
import pytest

HALVES = [r"\ud800", r"\udc00", r"\uD800x", r"\ud800\u0041", r"\udc00\ud800", "a" * 100 + r"\udbff" + "b" * 100]
WHY = r"a text has half of a surrogate pair, such as \ud800, which is no character"
BODIES = [
    ("POST", "/groups/g/nack", '{"ids":["LEASE"],"reason":"%s"}'),
    ("POST", "/groups/g/nack", '{"ids":["%s"]}'),
    ("POST", "/groups/g/ack", '{"ids":["LEASE","%s"]}'),
    ("POST", "/groups/g/skip", '{"ids":["%s"]}'),
    ("POST", "/groups/g/release", '{"ids":["%s"]}'),
    ("POST", "/groups/g/redrive", '{"ids":["%s"]}'),
    ("POST", "/groups/g/seek", '{"to":"%s"}'),
    ("PUT", "/groups/g", '{"dead_letter":"%s"}'),
    ("PUT", "/groups/g", '{"%s":1}'),
    ("PUT", "", '{"max_messages":1,"max_age":"%s"}'),
]


@pytest.mark.parametrize(("method", "path", "body"), BODIES)
async def test_half_of_a_surrogate_pair_in_a_body_is_refused(
    http: httpx.AsyncClient, topic: str, method: str, path: str, body: str
) -> None:
    await http.post(f"/topics/{topic}/messages", content=b"x")
    (await http.put(f"/topics/{topic}/groups/g")).raise_for_status()
    (job,) = (await http.post(f"/topics/{topic}/groups/g/pull")).json()["messages"]
    before = [(await http.get(f"/topics/{topic}{below}")).json() for below in ("", "/groups/g")]
    for half in HALVES:
        content = body.replace("LEASE", job["lease"]) % half
        answer = await http.request(method, f"/topics/{topic}{path}", content=content)
        assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")
        assert answer.json()["detail"].endswith(WHY), content
    after = [(await http.get(f"/topics/{topic}{below}")).json() for below in ("", "/groups/g")]
    assert [state | {"rate": 0, "rates": 0} for state in after] == [state | {"rate": 0, "rates": 0} for state in before]


async def test_a_whole_pair_is_a_character(http: httpx.AsyncClient, topic: str) -> None:
    await http.post(f"/topics/{topic}/messages", content=b"x")
    (job,) = (await http.post(f"/topics/{topic}/groups/g/pull")).json()["messages"]
    body = r'{"ids":["LEASE"],"reason":"\ud83d\ude00"}'.replace("LEASE", job["lease"])
    assert (await http.post(f"/topics/{topic}/groups/g/nack", content=body)).is_success
    listed = (await http.get("/jobs", params={"topic": topic, "group": "g", "state": "delayed"})).json()
    ready = (await http.get("/jobs", params={"topic": topic, "group": "g", "state": "ready"})).json()
    assert [job["reason"] for job in listed["jobs"] + ready["jobs"]] == ["\U0001f600"]


@pytest.mark.parametrize("option", ["event", "key", "ttl", "delay", "at"])
async def test_half_of_a_surrogate_pair_in_an_option_is_refused(
    http: httpx.AsyncClient, topic: str, option: str
) -> None:
    answer = await http.post(f"/topics/{topic}/messages?{option}=%ED%A0%80", content=b"x")
    assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")
    assert (await http.get(f"/topics/{topic}")).status_code == 404


async def test_half_of_a_surrogate_pair_in_a_name_is_refused(http: httpx.AsyncClient, topic: str) -> None:
    for path, code in (
        (f"/topics/{topic}%ED%A0%80", "topic_invalid"),
        (f"/topics/{topic}/groups/%ED", "group_invalid"),
    ):
        answer = await http.put(path)
        assert (answer.status_code, answer.json()["code"]) == (400, code)


async def test_half_of_a_surrogate_pair_in_a_header_of_a_message_is_refused(
    http: httpx.AsyncClient, topic: str
) -> None:
    answer = await http.post(f"/topics/{topic}/messages", content=b"x", headers=[(b"X-Plainmq-A", b"\xed\xa0\x80")])
    assert (answer.status_code, answer.json()["code"]) == (400, "option_invalid")
    assert (await http.get(f"/topics/{topic}")).status_code == 404
