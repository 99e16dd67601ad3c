"""An encoded slash in a segment that names a group or a message: the path is not read as that of another topic."""

import httpx
import pytest

from app.web.app import ROUTES
from app.web.permissions import ProtectedRoute

NAMING = [route for route in ROUTES if "{group}" in route.path or "{id}" in route.path]


@pytest.mark.parametrize("slash", ["%2F", "%2f"])
@pytest.mark.parametrize("route", NAMING, ids=lambda route: f"{min(route.methods)} {route.path}")
async def test_it_is_refused_and_makes_and_changes_nothing(
    http: httpx.AsyncClient, topic: str, route: ProtectedRoute, slash: str
) -> None:
    path = route.path.replace("{topic:path}", topic).replace("{group}", f"a{slash}b").replace("{id}", f"k1{slash}1")
    answer = await http.request(min(set(route.methods or ()) - {"HEAD"}), path)
    expected = "group_invalid" if "{group}" in route.path else "option_invalid"
    if path.startswith("/topics/"):
        assert (answer.status_code, answer.json()["code"]) == (400, expected)
        assert "%2F" in answer.json()["detail"]
    else:
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await http.get("/topics", params={"match": f"{topic}/**"})).json()["topics"] == []


@pytest.mark.parametrize("name", ["{}/groups/a/b", "{}%2Fgroups%2Fa%2Fb"])
async def test_a_topic_with_such_a_name_is_written_with_all_its_slashes_alike(
    http: httpx.AsyncClient, topic: str, name: str
) -> None:
    answer = await http.put(f"/topics/{name.format(topic)}")
    assert (answer.status_code, answer.json()["topic"]) == (200, f"{topic}/groups/a/b")
