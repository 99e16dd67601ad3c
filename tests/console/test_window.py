"""A window that is open for a week: its memory is bounded, it rests in the background, and it comes back by itself."""

import asyncio
import json
from typing import Any

import pytest

from tests.console.conftest import ConsolePage, Open
from tests.harness import DEADLINE, ServerProcess, http_client, start_server

EVENTS = 200_000  # of a day, at 2 a second and more
ROUND = 10_000  # messages of a request
SHOWN = 200  # messages in the page
ONE_DRAWING = 5_000  # nodes of the whole list: those of the one before may not be collected yet
GROWTH = 4 << 20  # bytes of the browser's heap: what is drawn comes and goes


async def heap(page: ConsolePage) -> tuple[int, int, int]:
    """Bytes, nodes and listeners that are in use once garbage is collected."""
    session = await page.page.context.new_cdp_session(page.page)
    await session.send("HeapProfiler.collectGarbage")
    counters: dict[str, int] = await session.send("Memory.getDOMCounters")
    used: dict[str, int] = await session.send("Runtime.getHeapUsage")
    await session.detach()
    return used["usedSize"], counters["nodes"], counters["jsEventListeners"]


async def nodes(page: ConsolePage) -> int:
    """The number of nodes in the page, comments included."""
    count: int = await page.evaluate(
        """() => {
          const nodes = document.createNodeIterator(document, NodeFilter.SHOW_ALL)
          let count = 0
          while (nodes.nextNode()) count += 1
          return count
        }"""
    )
    return count


async def publish(server: ServerProcess, topic: str, count: int, size: int = 40) -> None:
    lines = "\n".join([json.dumps("x" * size)] * min(count, ROUND))
    async with http_client(server.url) as http:
        for _ in range(max(count // ROUND, 1)):
            batch = {"Content-Type": "application/x-ndjson"}
            (await http.post(f"/topics/{topic}/messages", content=lines, headers=batch)).raise_for_status()


async def arrived(page: ConsolePage, count: int) -> None:
    await page.see(f"{count:,} arrived")


async def hide(page: ConsolePage, hidden: bool) -> None:
    """What a browser does to a page of another tab: it says so."""
    await page.page.evaluate(
        """hidden => {
          Object.defineProperty(document, 'hidden', { value: hidden, configurable: true })
          document.dispatchEvent(new Event('visibilitychange'))
        }""",
        hidden,
    )


async def test_memory_does_not_grow_with_what_has_arrived(console: Open) -> None:
    with start_server("--max-messages", "300000") as server:
        async with console(server.url) as page:
            await page.open("topic/busy?from=latest")
            await page.see("Live")
            await publish(server, "busy", 2 * ROUND)
            await arrived(page, 2 * ROUND)
            before = await heap(page)
            await publish(server, "busy", EVENTS)
            await arrived(page, EVENTS + 2 * ROUND)
            await page.see(f"{EVENTS + 2 * ROUND - SHOWN:,} passed by")
            after = await heap(page)
            assert await page.page.get_by_role("log").get_by_role("listitem").count() == SHOWN
            assert after[0] < before[0] + GROWTH
            assert after[1] < before[1] + ONE_DRAWING
            assert after[2] < 1.2 * before[2]


async def test_messages_that_are_no_longer_shown_leave_no_node(console: Open, server: ServerProcess) -> None:
    async with console(server.url) as page:
        await page.open("topic/churn?from=latest")
        await page.see("Live")
        counts = []
        for drawing in range(1, 6):
            await publish(server, "churn", 2 * SHOWN)
            await arrived(page, drawing * 2 * SHOWN)
            await page.see(f"{(2 * drawing - 1) * SHOWN:,} passed by")
            counts.append(await nodes(page))
        assert counts == counts[:1] * 5


async def test_screens_that_were_left_keep_nothing(console: Open, server: ServerProcess) -> None:
    await publish(server, "left", 100)
    screens = ("", "topics", "topic/left", "groups", "scheduled", "subscribers", "server")
    async with console(server.url) as page:

        async def look(times: int) -> tuple[int, int, int]:
            await page.open()
            for _ in range(times):
                for screen in screens:
                    await page.page.evaluate("screen => { location.hash = `#/${screen}` }", screen)
                    await page.page.get_by_role("heading", level=1).wait_for()
            await page.page.get_by_role("heading", name="Server").wait_for()
            return await heap(page)

        before = await look(3)
        after = await look(30)
        assert after[0] < before[0] + GROWTH
        assert after[2] < before[2] + 50


async def test_messages_of_a_megabyte_are_not_kept(console: Open) -> None:
    with start_server("--max-bytes", "256MiB", "--max-total-bytes", "512MiB") as server:
        async with console(server.url) as page, http_client(server.url) as http:
            await page.open("topic/large")
            await page.see("Live")
            before = await heap(page)
            for _ in range(60):
                (await http.post("/topics/large/messages", content=b"y" * 1_000_000)).raise_for_status()
            await arrived(page, 60)
            after = await heap(page)
            assert after[0] < before[0] + 60 * (64 << 10) + GROWTH


async def test_a_page_in_the_background_costs_the_server_no_subscriber_and_comes_back_without_a_hole(
    console: Open, server: ServerProcess
) -> None:
    async with console(server.url) as page, http_client(server.url) as http:

        async def subscribers(count: int) -> None:
            async with asyncio.timeout(DEADLINE):
                while (await http.get("/topics/rest")).json()["subscribers"] != count:
                    pass

        await page.page.clock.install()
        await publish(server, "rest", 1)
        await page.open("topic/rest")
        await page.see("Live")
        await hide(page, True)
        await page.page.clock.fast_forward(11_000)
        await page.see("resting")
        await subscribers(0)
        for number in range(3):
            await http.post("/topics/rest/messages", content=f"meanwhile {number}")
        await hide(page, False)
        for number in range(3):
            await page.see(f"meanwhile {number}")
        assert await page.page.get_by_role("log").get_by_role("listitem").count() == 4
        await hide(page, True)
        await page.page.clock.fast_forward(11_000)
        await subscribers(0)
        await publish(server, "rest", 5_000)
        await hide(page, False)
        await page.see("4,900 messages arrived while this page was in the background")


async def test_a_connection_that_is_dead_without_a_word_is_opened_anew(console: Open, server: ServerProcess) -> None:
    """As after a sleep of the machine: nothing is heard, and nothing says why."""
    async with console(server.url) as page, http_client(server.url) as http:
        await page.page.clock.install()
        await http.post("/topics/asleep/messages", content=b"before")
        await page.open("topic/asleep")
        await page.see("Live")
        asked: list[Any] = []
        page.page.on("request", lambda request: asked.append(request) if "asleep/stream" in request.url else None)
        await page.page.clock.fast_forward(61_000)
        await page.page.clock.fast_forward(5_000)
        async with asyncio.timeout(DEADLINE):
            while not asked:
                await page.page.clock.fast_forward(2_000)
        assert asked[0].headers["last-event-id"]
        await http.post("/topics/asleep/messages", content=b"after")
        await page.page.locator(".excerpt").get_by_text("after").wait_for()
        shown = await page.page.get_by_role("log").locator(".excerpt").all_inner_texts()
        assert shown == ["after", "before"]


@pytest.mark.parametrize("screen", ["", "topics", "topic/cut", "groups"])
async def test_a_cut_of_the_network_is_said_and_ends_by_itself(
    console: Open, server: ServerProcess, screen: str
) -> None:
    async with console(server.url, checked=False) as page, http_client(server.url) as http:
        await http.post("/topics/cut/messages", content=b"before")
        await page.open(screen)
        await page.see("live")
        await page.page.context.set_offline(True)
        await page.see("connection lost")
        await http.post("/topics/cut/messages", content=b"while it was cut")
        await page.page.context.set_offline(False)
        await page.page.locator("header .state.open").wait_for()
        if screen == "topic/cut":
            await page.see("while it was cut")
