"""Dialogs and forms have no serious barrier, screens read well, and all actions can be done by the keyboard."""

from itertools import pairwise
from typing import Any

import httpx
import pytest

from tests.console.conftest import ConsolePage, Open
from tests.harness import ServerProcess, http_client

axe = pytest.importorskip("axe_playwright_python.async_playwright", reason="axe-playwright-python is not installed")

TOPIC, GROUP = "orders", "billing"
DIALOGS = {
    "redrive": (f"group/{TOPIC}/{GROUP}?state=dead", "Redrive all 1 …"),
    "seek": (f"group/{TOPIC}/{GROUP}", "Move …"),
    "purge of a group": (f"group/{TOPIC}/{GROUP}", "Purge unacked …"),
    "pause of a group": (f"group/{TOPIC}/{GROUP}", "Pause …"),
    "delete of a group": (f"group/{TOPIC}/{GROUP}", "Delete …"),
    "pause of a topic": (f"topic/{TOPIC}", "Pause publishing …"),
    "purge of a topic": (f"topic/{TOPIC}", "Purge …"),
    "delete of a topic": (f"topic/{TOPIC}", "Delete …"),
    "keys": ("", "Keys"),
}
SCREENS = ("", "topics", f"topic/{TOPIC}", "groups", f"group/{TOPIC}/{GROUP}", "scheduled", "subscribers", "server")


@pytest.fixture(scope="module", autouse=True)
def filled(server: ServerProcess) -> None:
    with httpx.Client(base_url=server.url) as http:
        http.put(f"/topics/{TOPIC}/groups/{GROUP}", json={"max_deliveries": 1})
        for number in range(3):
            http.post(f"/topics/{TOPIC}/messages", content=f"order {number}").raise_for_status()
        http.post(f"/topics/{TOPIC}/messages?delay=1h", content=b"later").raise_for_status()
        (job,) = http.post(f"/topics/{TOPIC}/groups/{GROUP}/pull?max=1").json()["messages"]
        http.post(f"/topics/{TOPIC}/groups/{GROUP}/nack", json={"ids": [job["lease"]], "reason": "no such account"})


async def barriers(page: ConsolePage) -> list[str]:
    """The serious ones."""
    found = await axe.Axe().run(page.page)
    return [rule["id"] for rule in found.response["violations"] if rule["impact"] in {"serious", "critical"}]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", DIALOGS)
async def test_a_dialog_has_no_serious_barrier_and_gives_the_focus_back(
    tab: Open, server: ServerProcess, name: str, scheme: str
) -> None:
    screen, button = DIALOGS[name]
    async with tab(server.url, color_scheme=scheme, viewport={"width": 320, "height": 640}) as page:
        await page.open(screen)
        await page.page.get_by_role("heading", level=1).wait_for()
        await page.see("live")
        opener = page.page.get_by_role("button", name=button, exact=True)
        if "/" in screen:
            await page.unfold(screen)
        if button == "Move …":
            await page.page.get_by_label("move the group to").fill("earliest")
        await opener.focus()
        await page.page.keyboard.press("Enter")
        dialog = page.page.get_by_role("dialog")
        await dialog.get_by_role("heading", level=2).wait_for()
        assert not await barriers(page)
        assert await page.evaluate("() => document.documentElement.scrollWidth") <= 320
        assert await page.evaluate("() => document.querySelector('dialog').contains(document.activeElement)")
        await page.page.keyboard.press("Escape")
        await dialog.wait_for(state="detached")
        assert await opener.evaluate("button => button === document.activeElement")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", ["topics", f"topic/{TOPIC}", f"group/{TOPIC}/{GROUP}", "tokens"])
async def test_forms_and_errors_have_no_serious_barrier(
    tab: Open, server: ServerProcess, screen: str, scheme: str
) -> None:
    async with tab(server.url, color_scheme=scheme) as page:
        await page.open(screen)
        await page.unfold(screen)
        assert not await barriers(page)


@pytest.mark.parametrize("screen", SCREENS)
async def test_a_screen_reads_well(tab: Open, server: ServerProcess, screen: str) -> None:
    """What a screen reader gets: one first heading, no level left out, landmarks, a name for every control, and live
    regions that stay quiet while nothing happens."""
    async with tab(server.url) as page:
        await page.open(screen)
        await page.see("live")
        await page.page.get_by_role("heading", level=1).wait_for()
        tree: dict[str, Any] = await page.evaluate(
            """() => ({
              levels: [...document.querySelectorAll('h1, h2, h3')].map(heading => Number(heading.tagName[1])),
              landmarks: ['header', 'nav', 'main'].filter(name => !document.querySelector(name)),
              nameless: [...document.querySelectorAll(
                'button, a, input, select, textarea, summary, [role=region], [role=log]')]
                .filter(one => !(one.textContent.trim() || one.ariaLabel || one.labels?.length)).length,
            })"""
        )
        levels = tree["levels"]
        assert levels.count(1) == 1
        assert all(deeper <= level + 1 for level, deeper in pairwise(levels))
        assert (tree["landmarks"], tree["nameless"]) == ([], 0)
        snapshot = await page.page.get_by_role("main").aria_snapshot()
        assert "heading" in snapshot
        await page.evaluate(
            """() => { window.said = []
              const regions = document.querySelectorAll('[role=status], [role=alert]')
              const note = changes => said.push(...changes.map(change => change.target.textContent.trim()))
              const watch = new MutationObserver(note)
              const wanted = { subtree: true, childList: true, characterData: true }
              for (const region of regions) watch.observe(region, wanted) }"""
        )
        await _samples(page, 3)
        assert await page.evaluate("() => said") == []


async def _samples(page: ConsolePage, count: int) -> None:
    """Until the server has sent so many more samples."""
    await page.evaluate(
        """() => { window.samples = 0
          fetch('stats/stream').then(async answer => {
            const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader()
            for (;;) samples += (await reader.read()).value.split('event: stats').length - 1 }) }"""
    )
    await page.page.wait_for_function(f"() => samples >= {count}")


async def test_every_action_of_a_group_is_done_by_the_keyboard(tab: Open, server: ServerProcess) -> None:
    async with http_client(server.url) as http:
        await http.put("/topics/typed/groups/g", json={"max_deliveries": 1})
        for number in range(3):
            await http.post("/topics/typed/messages", content=f"{number}")
        (job,) = (await http.post("/topics/typed/groups/g/pull?max=1")).json()["messages"]
        await http.post("/topics/typed/groups/g/nack", json={"ids": [job["lease"]], "reason": "no"})
        async with tab(server.url) as page:
            await page.open("group/typed/g")
            await page.see("no")
            press = page.page.keyboard.press

            async def do(selector: str, *keys: str) -> None:
                """Go there by the Tab key alone, and press the keys."""
                wanted = page.page.locator(selector)
                await wanted.wait_for()
                for _ in range(100):
                    if await wanted.evaluate("one => one === document.activeElement"):
                        break
                    await press("Tab")
                else:
                    raise AssertionError(f"{selector} is not reached by Tab")
                for key in keys:
                    await press(key)

            await do("text=Redrive all 1 …", "Enter")
            await page.page.get_by_role("dialog").wait_for()
            await press("Enter")
            await page.see("1 message went back.")
            for state in ("leased", "delayed", "dead", "ready"):
                await do(f"button.stage.{state}", "Enter")
                await page.page.get_by_role("heading", name=state.capitalize()).wait_for()
            await do("#jobs tr:nth-child(1) input[type=checkbox]", "Space")
            await do("text=Skip 1 chosen …", "Enter")
            await page.page.get_by_role("dialog").wait_for()
            await page.page.keyboard.type("skip")
            await press("Enter")
            await page.see("Skipped.")
            await do("text=Operations", "Enter")
            await do("text=/^Pause …$/", "Enter")
            await page.page.get_by_role("dialog").wait_for()
            await do("dialog button.primary", "Enter")
            await page.see("The group is paused.")
            await do("input[name=to]")
            await page.page.keyboard.type("earliest")
            await press("Enter")
            await page.page.get_by_role("dialog").wait_for()
            await page.page.keyboard.type("g")
            await press("Enter")
            await page.see("Moved.")
        assert (await http.get("/topics/typed/groups/g")).json()["ready"] >= 3
