"""`python -m tests.console.filled`: how long each screen takes at a server with 10,000 topics, 1,000 groups and a
million messages, what an open console costs a server where nothing happens, and how a page does under 10,000 messages a
second.
"""

import asyncio
import json
import os
import shutil
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import httpx
from playwright.async_api import async_playwright

from tests.clients.conftest import ARGUMENTS
from tests.harness import ServerProcess, http_client, start_server

TOPICS: Final = 10_000
GROUPS: Final = 1_000
MESSAGES: Final = 100  # of each topic
FLAGS: Final = ("--max-topics", "20000", "--max-total-bytes", "4GiB")
AT_ONCE: Final = 8  # requests
QUIET: Final = 20  # seconds without anything to do
FLOOD: Final = 10  # seconds of 10,000 messages each
BATCH: Final = {"Content-Type": "application/x-ndjson"}
SCREENS: Final = {
    "overview": ("", ".tile"),
    "topics": ("topics", "tbody tr:nth-child(100)"),
    "topics by rate": ("topics?sort=-rate", "tbody tr:nth-child(100)"),
    "topics with a filter": ("topics?filter=00042", "tbody tr a"),
    "a topic": ("topic/t.00042", ".messages li:nth-child(50)"),
    "groups": ("groups", "tbody tr:nth-child(100)"),
    "a group": ("group/t.00042/g", "#jobs tbody tr:nth-child(50)"),
    "scheduled": ("scheduled", "main table"),
    "subscribers": ("subscribers", "main table"),
    "server": ("server", "main table"),
}


async def fill(http: httpx.AsyncClient) -> None:
    body = "\n".join(json.dumps({"order": number}) for number in range(MESSAGES))
    names = iter(range(TOPICS))

    async def work() -> None:
        for number in names:
            topic = f"/topics/t.{number:05}"
            if number < GROUPS:
                (await http.put(f"{topic}/groups/g")).raise_for_status()
            (await http.post(f"{topic}/messages", content=body, headers=BATCH)).raise_for_status()

    await asyncio.gather(*[work() for _ in range(AT_ONCE)])


async def usable(page: Any, url: str, screen: str, wanted: str) -> float:
    """Seconds until the screen shows what it is for; the page is there already."""
    await page.goto(f"{url}/#/tokens")
    await page.get_by_role("heading", name="Tokens").wait_for()
    begin = perf_counter()
    await page.evaluate("screen => { location.hash = `#/${screen}` }", screen)
    await page.locator(wanted).first.wait_for()
    return perf_counter() - begin


def cpu(server: ServerProcess) -> float:
    """Seconds of CPU that the server has used."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def cost(server: ServerProcess) -> float:
    """Parts of a core that the server uses."""
    before = cpu(server)
    await asyncio.sleep(QUIET)
    return (cpu(server) - before) / QUIET


async def flood(http: httpx.AsyncClient, page: Any, url: str) -> dict[str, Any]:
    """A topic gets 10,000 messages a second while its page is open. Counts the frames that the page draws."""
    lines = "\n".join(json.dumps({"price": number}) for number in range(1_000))
    await page.goto(f"{url}/#/topic/flood?from=latest")
    await page.locator(".state.open").nth(1).wait_for()
    await page.evaluate(
        "() => { window.frames_ = []; const step = now => { frames_.push(now); requestAnimationFrame(step) }; step(0) }"
    )
    begin, sent = perf_counter(), 0
    while (elapsed := perf_counter() - begin) < FLOOD:
        if sent <= 10 * elapsed:
            (await http.post("/topics/flood/messages", content=lines, headers=BATCH)).raise_for_status()
            sent += 1
        else:
            await asyncio.sleep(0.01)
    frames: list[float] = (await page.evaluate("() => frames_"))[1:]
    gaps = sorted(after - before for before, after in pairwise(frames))
    said = await page.locator(".progress").inner_text()
    return {
        "sent a second": round(1_000 * sent / elapsed),
        "frames a second": round(len(frames) / elapsed),
        "99 % of frames within ms": round(gaps[int(0.99 * len(gaps))]),
        "longest ms": round(gaps[-1]),
        "says": said.replace("\n", " "),
    }


async def main() -> None:
    async with async_playwright() as play:
        browser = await play.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        with start_server(*FLAGS) as server:
            async with http_client(server.url) as http:
                page = await browser.new_page()
                await page.goto(server.url)
                alone = await browser.new_page()
                await page.locator(".tile").first.wait_for()
                watched = await cost(server)
                await page.goto("about:blank")
                print(f"an empty server: {await cost(server):.2%} of a core without a console, {watched:.2%} with one")
                await fill(http)
                await page.goto(server.url)
                await page.locator(".tile").first.wait_for()
                for name, (screen, wanted) in SCREENS.items():
                    print(f"{name}: {1_000 * await usable(page, server.url, screen, wanted):.0f} ms")
                await page.goto(f"{server.url}/#/topics")
                watched = await cost(server)
                await page.goto("about:blank")
                print(f"a full server: {await cost(server):.2%} of a core without a console, {watched:.2%} with one")
                print(await flood(http, alone, server.url))
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
