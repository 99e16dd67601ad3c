"""Pictures of the console for the pages: `python -m tests.console.pictures` takes them again. A test takes them too,
into a folder of its own.
"""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any, Final

import httpx
from playwright.async_api import async_playwright

from tests.clients.conftest import ARGUMENTS
from tests.harness import DEADLINE, ROOT, http_client, start_server

PICTURES: Final = {
    "console-overview": ("", "3 dead messages"),
    "console-topic": ("topic/orders.eu", "order"),
    "console-group": ("group/orders.eu/billing?state=dead", "no such account"),
}
SIZE: Final = {"width": 1_180, "height": 800}
ROUNDS: Final = 12  # seconds of traffic, for the charts


async def take(browser: Any, folder: Path) -> None:
    """Fill a server, keep it busy for some seconds, and take all pictures."""
    with start_server() as server:
        async with http_client(server.url) as http:
            await _fill(http)
            context = await browser.new_context(viewport=SIZE, color_scheme="light")
            page = await context.new_page()
            page.set_default_timeout(DEADLINE * 1_000)
            await page.goto(server.url)
            for number in range(ROUNDS):
                await _work(http, number)
                await page.wait_for_timeout(1_000)  # the charts have a point a second
            for name, (screen, text) in PICTURES.items():
                await page.goto(f"{server.url}/#/{screen}")
                await page.get_by_text(text).first.wait_for()
                await page.screenshot(path=folder / f"{name}.png")
            await context.close()


async def _fill(http: httpx.AsyncClient) -> None:
    for topic in ("rooms.kitchen", "rooms.hall", "logs"):
        await http.post(f"/topics/{topic}/messages", content=b"hello")
    await http.put("/topics/orders.eu/groups/billing", json={"max_deliveries": 1})
    await http.put("/topics/orders.eu/groups/shipping", json={})
    for order in range(3):
        await _publish(http, order)
    pulled = await http.post("/topics/orders.eu/groups/billing/pull", params={"max": 3})
    leases = [message["lease"] for message in pulled.json()["messages"]]
    await http.post("/topics/orders.eu/groups/billing/nack", json={"ids": leases, "reason": "no such account"})


async def _work(http: httpx.AsyncClient, number: int) -> None:
    for order in range(20 + 15 * (number % 4)):
        await _publish(http, 100 * number + order)
    pulled = await http.post("/topics/orders.eu/groups/shipping/pull", params={"max": 30})
    leases = [message["lease"] for message in pulled.json()["messages"]]
    if leases:
        await http.post("/topics/orders.eu/groups/shipping/ack", json={"ids": leases})


async def _publish(http: httpx.AsyncClient, order: int) -> None:
    body = json.dumps({"order": order, "total": f"{order * 1.5:.2f}"})
    headers = {"Content-Type": "application/json"}
    (
        await http.post("/topics/orders.eu/messages", content=body, headers=headers, params={"event": "created"})
    ).raise_for_status()


async def _main() -> None:
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        await take(browser, ROOT / "docs")
        await browser.close()


if __name__ == "__main__":
    asyncio.run(_main())
