"""Each screen shows what there is, reads well to a screen reader, and fits a phone."""

import json
from typing import Any

import httpx
import pytest

from tests.console.conftest import Open
from tests.console.prefix import below_a_path
from tests.harness import ServerProcess, http_client, start_server

axe = pytest.importorskip("axe_playwright_python.async_playwright", reason="axe-playwright-python is not installed")

SCREENS = {
    "": "Overview",
    "topics": "orders.eu",
    "topic/orders.eu": '{"order":7}',
    "groups": "billing",
    "group/orders.eu/billing": "leased",
    "group/orders.eu/billing?state=ready": "ready",
    "scheduled": "Publish now",
    "subscribers": "Subscribers",
    "tokens": "Tokens",
    "server": "unread output",
}


@pytest.fixture(scope="module", autouse=True)
def filled(server: ServerProcess) -> None:
    """A topic with messages, a group with a lease, and something that is scheduled."""
    with httpx.Client(base_url=server.url) as http:
        for order in range(7, 10):
            body = json.dumps({"order": order}, separators=(",", ":"))
            http.post("/topics/orders.eu/messages", content=body, params={"event": "created"}).raise_for_status()
        http.post("/topics/orders.eu/messages", content=b"later", params={"delay": "1h"}).raise_for_status()
        http.post("/topics/orders.eu/groups/billing/pull", params={"max": 1}).raise_for_status()


@pytest.mark.parametrize("screen", SCREENS)
async def test_a_screen_shows_what_there_is(tab: Open, server: ServerProcess, screen: str) -> None:
    async with tab(server.url) as page:
        await page.open(screen)
        await page.see(SCREENS[screen])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
async def test_a_screen_has_no_serious_barrier(tab: Open, server: ServerProcess, screen: str, scheme: str) -> None:
    async with tab(server.url, color_scheme=scheme) as page:
        await page.open(screen)
        await page.see(SCREENS[screen])
        found = await axe.Axe().run(page.page)
        serious = [rule for rule in found.response["violations"] if rule["impact"] in {"serious", "critical"}]
        assert not serious, found.generate_report()


@pytest.mark.parametrize("screen", SCREENS)
async def test_a_screen_fits_a_phone(tab: Open, server: ServerProcess, screen: str) -> None:
    async with tab(server.url, viewport={"width": 320, "height": 640}) as page:
        await page.open(screen)
        await page.see(SCREENS[screen])
        width: Any = await page.evaluate("() => document.documentElement.scrollWidth")
        assert width <= 320


async def test_an_empty_server_shows_how_to_publish_and_that_it_arrives(tab: Open) -> None:
    with start_server() as server:
        async with tab(server.url) as page:
            await page.open()
            await page.see(f"curl -d hello {server.url}/topics/hello/messages")
            await page.click("Publish a message")
            await page.see("Hello from the console")
            async with http_client(server.url) as http:
                await http.post("/topics/hello/messages", content=b"hello from curl")
            await page.see("hello from curl")
            await page.see(f"telnet 127.0.0.1 {server.tcp_port}")


async def test_messages_arrive_with_any_event_name_and_can_be_filtered(tab: Open, server: ServerProcess) -> None:
    async with tab(server.url) as page, http_client(server.url) as http:
        await page.open("topic/tail")
        await page.see("Live")
        for name in ("price", "message", "x y"):
            await http.post("/topics/tail/messages", content=f"of {name}", params={"event": name})
        for name in ("price", "message", "x y"):
            await page.see(f"of {name}")
        await page.page.keyboard.press("/")
        await page.page.keyboard.type("PRICE")
        await page.page.get_by_text("of message").wait_for(state="detached")
        await page.see("of price")
        assert "filter=PRICE" in page.page.url


async def test_older_messages_are_fetched_backwards_without_an_end(tab: Open, server: ServerProcess) -> None:
    async with http_client(server.url) as http:
        lines = "\n".join(f'"number {number:03}"' for number in range(300))
        batch = {"Content-Type": "application/x-ndjson"}
        (await http.post("/topics/history/messages", content=lines, headers=batch)).raise_for_status()
    async with tab(server.url) as page:
        await page.open("topic/history")
        await page.see("number 250")
        assert await page.page.get_by_text("number 249").count() == 0
        await page.click("Older messages")
        await page.see("number 150")
        await page.click("Older messages")
        await page.see("number 050")
        await page.click("Older messages")
        await page.see("number 000")
        shown = await page.page.get_by_role("log").get_by_role("listitem").count()
        assert shown == 300


async def test_the_console_works_below_a_path_of_a_proxy(tab: Open) -> None:
    with start_server() as server:
        async with below_a_path(server.port) as url, tab(url) as page:
            await page.open()
            await page.see("Publish your first message")
            await page.click("Publish a message")
            await page.see("Hello from the console")


@pytest.mark.parametrize("address", ["topic/", "group/orders.eu", "group///"])
async def test_an_address_without_the_name_of_a_thing_shows_the_overview(
    tab: Open, server: ServerProcess, address: str
) -> None:
    async with tab(server.url) as page:
        await page.open(address)
        await page.page.get_by_role("heading", name="Overview").wait_for()


@pytest.mark.parametrize("screen", ["groups", "subscribers", "group/orders.eu/billing"])
async def test_a_hint_in_a_field_is_shown_whole(tab: Open, server: ServerProcess, screen: str) -> None:
    async with tab(server.url) as page:
        await page.open(screen)
        await page.see(SCREENS[screen])
        await page.unfold(screen)
        cut = await page.evaluate("""() => {
            const context = document.createElement('canvas').getContext('2d')
            return [...document.querySelectorAll('input[placeholder]')].filter(input => {
                const style = getComputedStyle(input)
                context.font = style.font
                const room = input.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight)
                return context.measureText(input.placeholder).width > room
            }).map(input => input.placeholder)
        }""")
        assert cut == []
