"""Somebody with few rights sees what they may see: no refusal, no button that would be refused, nothing that is said to
be empty and is not.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.access.claims import Rights, every_right
from app.access.tokens import make_token
from tests.console.conftest import ConsolePage, Open
from tests.harness import ServerProcess, http_client, start_server

MENU = ["Overview", "Topics", "Groups", "Scheduled", "Subscribers"]


@asynccontextmanager
async def logged_in(console: Open, folder: Path, rights: Rights) -> AsyncIterator[tuple[ConsolePage, ServerProcess]]:
    """A page of somebody with these rights, at a server with messages in three topics. No request is refused."""
    tokens = folder / "tokens"
    admin, limited = make_token(tokens, "root", every_right()), make_token(tokens, "guest", rights)
    with start_server("--tokens", str(tokens)) as server:
        async with http_client(server.url, headers={"Authorization": f"Bearer {admin}"}) as http:
            for topic in ("orders.eu", "orders.us", "secret"):
                await http.put(f"/topics/{topic}/groups/g", json={"max_deliveries": 1})
                (await http.post(f"/topics/{topic}/messages", content=b"a body")).raise_for_status()
                (await http.post(f"/topics/{topic}/messages?delay=1h", content=b"later")).raise_for_status()
                (job,) = (await http.post(f"/topics/{topic}/groups/g/pull")).json()["messages"]
                await http.post(f"/topics/{topic}/groups/g/nack", json={"ids": [job["lease"]], "reason": "broken"})
        async with console(server.url, checked=False) as page:
            refused: list[str] = []
            await page.page.goto(server.url)
            await page.page.get_by_label("Token").fill(limited)
            await page.click("Log in")
            await page.page.get_by_role("heading", name="Overview").wait_for()
            page.page.on("response", lambda answer: refused.append(answer.url) if answer.status >= 400 else None)
            page.errors.clear()  # of the first question, who it is
            yield page, server
            assert not refused
            page.check()


async def test_who_may_view_some_topics_sees_these_in_every_list(console: Open, tmp_path: Path) -> None:
    async with logged_in(console, tmp_path, Rights(view=["orders.*"])) as (page, _):
        menu = page.page.get_by_role("navigation", name="Screens").get_by_role("link")
        assert (await menu.all_inner_texts())[:-1] == MENU
        await page.see("Groups with dead messages")
        for screen in ("topics", "groups", "scheduled"):
            await page.open(screen)
            await page.see("orders.us")
            text = await page.page.get_by_role("main").inner_text()
            assert "orders.eu" in text
            assert "secret" not in text
        await page.open("subscribers")
        await page.see("Nobody listens now.")
        await page.open("group/orders.eu/g")
        await page.see("broken")
        await page.see("To see the body")
        await page.open("topic/orders.eu")
        await page.see("To see the messages")


async def test_who_may_view_topics_by_two_patterns_sees_both(console: Open, tmp_path: Path) -> None:
    async with logged_in(console, tmp_path, Rights(view=["orders.eu", "secret"])) as (page, _):
        await page.open("topics")
        await page.see("2 topics")
        await page.page.get_by_label("Filter").fill("SEC")
        await page.see("1 topic with this text")


@pytest.mark.parametrize("screen", ["tokens", "server"])
async def test_a_screen_that_would_be_refused_says_so_and_asks_nothing(
    console: Open, tmp_path: Path, screen: str
) -> None:
    async with logged_in(console, tmp_path, Rights(view=["orders.*"])) as (page, _):
        await page.open(screen)
        await page.see("Your token has no right to see this.")


async def test_who_may_only_publish_and_read_gets_to_a_topic(console: Open, tmp_path: Path) -> None:
    rights = Rights(publish=["orders.eu"], subscribe=["orders.**"])
    async with logged_in(console, tmp_path, rights) as (page, _):
        await page.see("publish messages to")
        await page.page.get_by_role("textbox", name="Topic").fill("orders.us")
        await page.click("Open")
        await page.see("a body")
        assert await page.page.get_by_text("Publish", exact=True).count() == 0
        await page.open("topic/orders.eu")
        await page.page.get_by_text("Publish", exact=True).first.wait_for()
