"""GET /topics and GET /groups: lists in pages, sorted by name or by a figure."""

from typing import Any

import httpx
import pytest


async def publish(http: httpx.AsyncClient, topic: str, count: int = 1) -> None:
    batch = {"Content-Type": "application/x-ndjson"}
    answer = await http.post(f"/topics/{topic}/messages", content=b"1\n" * count, headers=batch)
    answer.raise_for_status()


async def listed(http: httpx.AsyncClient, path: str, name: str, **query: Any) -> list[list[dict[str, Any]]]:
    """All pages, until there is no `next`."""
    pages = []
    while True:
        answer = await http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        pages.append(answer.json()[name])
        query["after"] = answer.json()["next"]
        if query["after"] is None:
            return pages


async def test_topics_come_in_pages_by_name_and_all_of_them_without_a_limit(
    http: httpx.AsyncClient, topic: str
) -> None:
    names = sorted(f"{topic}.{number}" for number in range(7))
    for name in names:
        await publish(http, name)
    pages = await listed(http, "/topics", "topics", match=f"{topic}.*", limit=3)
    assert [[state["topic"] for state in page] for page in pages] == [names[:3], names[3:6], names[6:]]
    (whole,) = await listed(http, "/topics", "topics", match=f"{topic}.*")
    assert [state["topic"] for state in whole] == names


async def test_a_page_begins_after_a_topic_that_is_gone(http: httpx.AsyncClient, topic: str) -> None:
    for name in "abc":
        await publish(http, f"{topic}.{name}")
    first = (await http.get("/topics", params={"match": f"{topic}.*", "limit": 2})).json()
    assert first["next"] == f"{topic}.b"
    await http.delete(f"/topics/{topic}.b")
    rest = (await http.get("/topics", params={"match": f"{topic}.*", "limit": 2, "after": first["next"]})).json()
    assert ([state["topic"] for state in rest["topics"]], rest["next"]) == ([f"{topic}.c"], None)


@pytest.mark.parametrize("sort", ["-messages", "-bytes", "-rate"])
async def test_topics_come_with_the_greatest_figure_first(http: httpx.AsyncClient, topic: str, sort: str) -> None:
    for name, count in (("a", 30), ("b", 50), ("c", 10), ("d", 50)):
        await publish(http, f"{topic}.{name}", count)
    pages = await listed(http, "/topics", "topics", match=f"{topic}.*", sort=sort, limit=1)
    states = [state for page in pages for state in page]
    assert [state["topic"][-1] for state in states] == ["b", "d", "a", "c"]
    assert all(state["rate"] > 0 for state in states)


async def test_groups_of_all_topics_come_in_pages_with_their_figures(http: httpx.AsyncClient, topic: str) -> None:
    for name, count in (("a", 3), ("a/b", 1), ("c", 2)):
        await publish(http, f"{topic}.{name}", count)
        for group in ("g", "h"):
            await http.put(f"/topics/{topic}.{name}/groups/{group}")
    await http.put(f"/topics/elsewhere.{topic}/groups/g")
    (job,) = (await http.post(f"/topics/{topic}.c/groups/h/pull?max=1")).json()["messages"]
    await http.post(f"/topics/{topic}.c/groups/h/ack", json={"ids": [job["id"]]})
    pages = await listed(http, "/groups", "groups", match=f"{topic}.**", limit=4)
    assert [len(page) for page in pages] == [4, 2]
    states = [state for page in pages for state in page]
    named = [(state["topic"].removeprefix(f"{topic}."), state["group"], state["lag"]) for state in states]
    assert named == [("a/b", "g", 1), ("a/b", "h", 1), ("a", "g", 3), ("a", "h", 3), ("c", "g", 2), ("c", "h", 1)]
    for state in states:
        assert state | {"rate": 0} == (await http.get(f"/topics/{state['topic']}/groups/{state['group']}")).json() | {
            "rate": 0
        }
    assert [state["rate"] > 0 for state in states] == [False] * 5 + [True]
    behind = await listed(http, "/groups", "groups", match=f"{topic}.**", sort="-lag", limit=3)
    assert [state["lag"] for page in behind for state in page] == [3, 3, 2, 1, 1, 1]


async def test_a_group_that_is_deleted_is_not_listed(http: httpx.AsyncClient, topic: str) -> None:
    await http.put(f"/topics/{topic}/groups/g")
    await http.delete(f"/topics/{topic}/groups/g")
    assert (await http.get("/groups", params={"match": topic})).json() == {"groups": [], "next": None, "total": 0}


@pytest.mark.parametrize("path", ["/topics", "/groups"])
@pytest.mark.parametrize("query", ["sort=messages", "limit=0", "limit=1001", "sort=-rate&after=x", "match=a..b"])
async def test_a_list_that_cannot_be_is_refused(http: httpx.AsyncClient, path: str, query: str) -> None:
    assert (await http.get(f"{path}?{query}")).status_code == 400


async def test_a_list_is_searched_for_a_text_in_names_and_says_how_many_there_are(
    http: httpx.AsyncClient, topic: str
) -> None:
    for name in ("Orders.eu", "orders.us", "rooms"):
        await publish(http, f"{topic}.{name}")
        await http.put(f"/topics/{topic}.{name}/groups/g")
    query: dict[str, Any] = {"match": f"{topic}.**", "search": "oRDers", "limit": 1}
    for sort in ("name", "-messages"):
        found = (await http.get("/topics", params=query | {"sort": sort})).json()
        assert ([state["topic"] for state in found["topics"]], found["total"]) == ([f"{topic}.Orders.eu"], 2)
        rest = (await http.get("/topics", params=query | {"sort": sort, "after": found["next"]})).json()
        assert ([state["topic"] for state in rest["topics"]], rest["total"]) == ([f"{topic}.orders.us"], 2)
    groups = (await http.get("/groups", params=query | {"search": "US/G"})).json()
    assert ([state["topic"] for state in groups["groups"]], groups["total"]) == ([f"{topic}.orders.us"], 1)


async def test_a_list_is_of_the_topics_that_any_of_several_patterns_matches(
    http: httpx.AsyncClient, topic: str
) -> None:
    for name in ("a", "b.c", "d"):
        await publish(http, f"{topic}.{name}")
        await http.put(f"/topics/{topic}.{name}/groups/g")
        await http.post(f"/topics/{topic}.{name}/messages?delay=1h", content=b"later")
    query = {"match": [f"{topic}.a", f"{topic}.b.*"]}
    for path in ("topics", "groups", "scheduled"):
        found = (await http.get(f"/{path}", params=query)).json()[path]
        assert sorted(item["topic"] for item in found) == [f"{topic}.a", f"{topic}.b.c"]
