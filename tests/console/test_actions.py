"""What a person can do in the console is done by the server, and asked about first where it cannot be undone."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.console.conftest import Open
from tests.harness import DEADLINE, ServerProcess, http_client


@pytest.fixture
async def http(server: ServerProcess) -> Any:
    async with http_client(server.url) as client:
        yield client


async def until(http: httpx.AsyncClient, path: str, **expected: Any) -> None:
    """Wait until what is there has these values."""
    async with asyncio.timeout(DEADLINE):
        while True:
            state = (await http.get(path)).json()
            if {name: state.get(name) for name in expected} == expected:
                return


async def fill(http: httpx.AsyncClient, topic: str, *bodies: str, group: str = "", **options: str) -> list[str]:
    """Publish to a topic; with a group, lease all of it. Returns the leases."""
    for body in bodies:
        (await http.post(f"/topics/{topic}/messages", content=body, params=options)).raise_for_status()
    if not group:
        return []
    pulled = await http.post(f"/topics/{topic}/groups/{group}/pull", params={"max": len(bodies)})
    return [message["lease"] for message in pulled.json()["messages"]]


async def test_a_message_is_published_with_its_options_and_shown_as_a_curl_command(
    tab: Open, server: ServerProcess, http: httpx.AsyncClient
) -> None:
    async with tab(server.url) as page:
        await page.open("topic/made")
        await page.page.get_by_text("Publish", exact=True).first.click()
        await page.page.get_by_label("Body").fill("it's 5 o'clock")
        await page.page.get_by_label("Event name").fill("tea")
        await page.see(f"curl --data-raw 'it'\\''s 5 o'\\''clock' '{server.url}/topics/made/messages?event=tea'")
        await page.click("Publish")
        await page.see("Published as")
        (message,) = (await http.get("/topics/made/messages")).json()["messages"]
        assert (message["data"], message["event"]) == ("it's 5 o'clock", "tea")


async def test_a_topic_is_created_changed_and_deleted_when_its_name_is_typed(
    tab: Open, server: ServerProcess, http: httpx.AsyncClient
) -> None:
    async with tab(server.url) as page:
        await page.open("topics")
        await page.page.get_by_text("Create a topic").click()
        await page.page.get_by_label("Name", exact=True).fill("orders.new")
        await page.page.get_by_label("so many messages").fill("7")
        await page.click("Create")
        await page.page.get_by_text("Settings").click()
        await page.page.get_by_label("so many messages").fill("9")
        await page.click("Change")
        await page.see("The retention is changed.")
        assert (await http.get("/topics/orders.new")).json()["retention"]["max_messages"] == 9
        await page.click("Delete …")
        await page.agree("orders.wrong", "Delete")
        assert (await http.get("/topics/orders.new")).status_code == 200
        await page.agree("orders.new", "Delete")
        await page.see("orders.new is deleted.")
        assert (await http.get("/topics/orders.new")).status_code == 404


async def test_a_group_is_created_and_its_settings_are_changed(
    tab: Open, server: ServerProcess, http: httpx.AsyncClient
) -> None:
    async with tab(server.url) as page:
        await page.open("groups")
        await page.page.get_by_text("Create a group").click()
        await page.page.get_by_label("Topic", exact=True).fill("mail.new")
        await page.page.get_by_label("Name", exact=True).fill("crew")
        await page.page.get_by_label("Begins with").select_option("what comes from now on")
        await page.page.get_by_label("A lease lasts").fill("45s")
        await page.click("Create")
        await page.see("A lease lasts 45s; a message is dead after 10 deliveries")
        await page.page.get_by_text("Operations").click()
        await page.page.get_by_label("so many deliveries").fill("3")
        await page.click("Change")
        await page.see("A lease lasts 45s; a message is dead after 3 deliveries")
    expected = {"start": "latest", "ack_timeout": "45s", "max_deliveries": 3}
    await until(http, "/topics/mail.new/groups/crew", **expected)


async def test_a_lease_is_released_and_a_message_skipped(
    tab: Open, server: ServerProcess, http: httpx.AsyncClient
) -> None:
    await fill(http, "stuck", "one", "two", group="g")
    async with tab(server.url) as page:
        await page.open("group/stuck/g")
        await page.page.get_by_role("checkbox").nth(0).check()
        await page.click("Release 1 chosen …")
        await page.agree(None, "Release")
        await until(http, "/topics/stuck/groups/g", ready=1, leased=1)
        await page.page.get_by_role("checkbox").nth(1).wait_for(state="detached")
        await page.page.get_by_role("checkbox").nth(0).check()
        await page.click("Skip 1 chosen …")
        await page.agree("skip", "Skip")
        await until(http, "/topics/stuck/groups/g", ready=1, leased=0)


async def test_a_dead_message_is_found_understood_and_put_back(
    tab: Open, server: ServerProcess, http: httpx.AsyncClient
) -> None:
    for group in ("g", "other"):
        await http.put(f"/topics/orders/groups/{group}", json={"max_deliveries": 1})
    leases = await fill(http, "orders", "one", "two", group="g")
    await http.post("/topics/orders/groups/g/nack", json={"ids": leases, "reason": "no such account"})
    async with tab(server.url) as page:
        await page.open()
        await page.page.get_by_role("link", name="2 dead messages in g of orders").click()
        await page.see("no such account")
        await page.page.get_by_role("checkbox").nth(0).check()
        await page.click("Redrive 1 chosen …")
        await page.agree(None, "Redrive")
        await page.see("1 message went back; 1 dead are left.")
        await until(http, "/topics/orders/groups/g", ready=1)
        await page.click("Redrive all 1 …")
        await page.agree(None, "Redrive")
        await until(http, "/topics/orders/groups/g", ready=2)
    pulled = await http.post("/topics/orders/groups/g/pull", params={"max": 9})
    assert [(job["data"], job["attempt"]) for job in pulled.json()["messages"]] == [("one", 1), ("two", 1)]


async def test_a_group_goes_back_to_the_beginning(tab: Open, server: ServerProcess, http: httpx.AsyncClient) -> None:
    leases = await fill(http, "again", "one", "two", group="g")
    await http.post("/topics/again/groups/g/ack", json={"ids": leases})
    async with tab(server.url) as page:
        await page.open("group/again/g")
        await page.page.get_by_text("Operations").click()
        await page.page.get_by_label("move the group to").fill("earliest")
        await page.click("Move …")
        await page.agree("g", "Move")
        await until(http, "/topics/again/groups/g", ready=2)


async def test_a_topic_is_purged(tab: Open, server: ServerProcess, http: httpx.AsyncClient) -> None:
    await fill(http, "full", "one", "two")
    async with tab(server.url) as page:
        await page.open("topic/full")
        await page.page.get_by_text("Settings").click()
        await page.click("Purge …")
        await page.agree("full", "Purge")
        await page.see("2 messages removed.")
        await until(http, "/topics/full", messages=0)


async def test_a_long_list_is_turned_page_by_page(tab: Open, server: ServerProcess, http: httpx.AsyncClient) -> None:
    await fill(http, "long", *map(str, range(51)))
    await http.put("/topics/long/groups/g", json={})
    async with tab(server.url) as page:
        await page.open("group/long/g?state=ready")
        await page.page.get_by_role("checkbox").nth(49).wait_for()
        await page.click("Next")
        await page.page.get_by_role("checkbox").nth(1).wait_for(state="detached")
        assert await page.page.get_by_role("checkbox").count() == 1
        await page.click("Previous")
        await page.page.get_by_role("checkbox").nth(49).wait_for()


async def test_a_group_is_paused_and_resumed(tab: Open, server: ServerProcess, http: httpx.AsyncClient) -> None:
    await fill(http, "halted", "one", group="g")
    async with tab(server.url) as page:
        await page.open("group/halted/g")
        await page.page.get_by_text("Operations").click()
        await page.click("Pause …")
        await page.agree(None, "Pause")
        await until(http, "/topics/halted/groups/g", paused=True)
        await page.see("paused")
        await page.click("Resume")
        await until(http, "/topics/halted/groups/g", paused=False)


async def test_a_scheduled_message_is_published_now_or_cancelled(
    tab: Open, server: ServerProcess, http: httpx.AsyncClient
) -> None:
    await fill(http, "later", "first", "second", delay="1h")
    async with tab(server.url) as page:
        await page.open("scheduled?match=later")
        await page.see("later")
        await page.page.get_by_role("button", name="Publish now").first.click()
        await page.see("Published to later.")
        await until(http, "/topics/later", messages=1, delayed=1)
        await page.page.get_by_role("button", name="Cancel:").first.click()
        await page.agree(None, "Cancel the message")
        await until(http, "/topics/later", messages=1, delayed=0)


async def test_everything_can_be_reached_by_the_keyboard_alone(
    tab: Open, server: ServerProcess, http: httpx.AsyncClient
) -> None:
    await fill(http, "keys", "hello")
    async with tab(server.url) as page:
        await page.open()
        press = page.page.keyboard.press
        await press("g")
        await press("t")
        await page.see("Create a topic")
        await press("/")
        await page.page.keyboard.type("keys")
        await page.page.get_by_role("link", name="keys").wait_for()
        for _ in range(30):
            await press("Tab")
            focused = await page.evaluate("() => document.activeElement.textContent.trim()")
            if focused == "keys":
                break
        await press("Enter")
        await page.page.get_by_role("heading", name="keys").wait_for()
        await press("?")
        await page.see("go to the filter")


async def test_a_message_is_published_with_headers_priority_and_key_for_a_time(
    tab: Open, server: ServerProcess, http: httpx.AsyncClient
) -> None:
    async with tab(server.url) as page:
        await page.open("topic/timed")
        await page.page.get_by_text("Publish", exact=True).first.click()
        await page.page.get_by_label("Body").fill("soup")
        await page.page.get_by_role("textbox", name="Key").fill("customer-42")
        await page.page.get_by_label("Priority").select_option("7")
        await page.page.get_by_label("Headers, one a line").fill("Customer: 42\nce-type: order")
        await page.page.get_by_label("When").select_option("at")
        await page.page.get_by_label("Time", exact=True).fill("2027-01-31T12:00:00")
        await page.see("-H 'X-Plainmq-Customer: 42' -H 'ce-type: order'")
        await page.click("Publish")
        await page.see("Scheduled as")
    (item,) = (await http.get("/scheduled", params={"match": "timed"})).json()["scheduled"]
    assert (item["data"], item["key"], item["priority"]) == ("soup", "customer-42", 7)
    assert item["due"].startswith("2027-01-3")
    assert item["headers"] == {"customer": "42", "ce-type": "order"}


async def test_a_message_is_copied_to_another_topic(tab: Open, server: ServerProcess, http: httpx.AsyncClient) -> None:
    await fill(http, "source", "twice", event="created")
    async with tab(server.url) as page:
        await page.open("topic/source")
        await page.see("twice")
        await page.page.get_by_role("button", name="Copy ").click()
        await page.page.get_by_label("To the topic").fill("target")
        await page.page.get_by_role("dialog").get_by_role("button", name="Copy", exact=True).click()
        await page.see("Copied to target as")
    (copy,) = (await http.get("/topics/target/messages")).json()["messages"]
    assert (copy["data"], copy["event"]) == ("twice", "created")


async def test_what_a_group_has_not_acked_is_purged_and_the_topic_keeps_it(
    tab: Open, server: ServerProcess, http: httpx.AsyncClient
) -> None:
    await fill(http, "unacked", "one", "two", group="g")
    await fill(http, "unacked", "three")
    async with tab(server.url) as page:
        await page.open("group/unacked/g")
        await page.page.get_by_text("Operations").click()
        await page.click("Purge unacked …")
        await page.see("3 messages count as done")
        await page.agree("g", "Purge")
        await until(http, "/topics/unacked/groups/g", lag=0)
        await until(http, "/topics/unacked", messages=3)


async def test_before_a_redrive_it_says_what_happens_how_fast_and_what_stands_in_the_way(
    tab: Open, server: ServerProcess, http: httpx.AsyncClient
) -> None:
    await http.put("/topics/slow/groups/g", json={"max_deliveries": 1})
    leases = await fill(http, "slow", "one", group="g")
    await http.post("/topics/slow/groups/g/nack", json={"ids": leases, "reason": "no"})
    await http.post("/topics/slow/groups/g/pause")
    await http.post("/topics/slow/pause")
    async with tab(server.url) as page:
        await page.open("group/slow/g")
        await page.click("Redrive all 1 …")
        await page.see("Resume it under Settings")
        await page.click("Close")
        await http.post("/topics/slow/resume")
        await page.click("Redrive all 1 …")
        await page.see("The group is paused: they wait until it is resumed.")
        await page.see("From 1 to 1,000")
        rate = page.page.get_by_label("so many a second")
        await rate.fill("1001")
        await page.click("Redrive")
        assert await rate.evaluate("field => field.validity.rangeOverflow")  # the browser asks for another
        await rate.fill("5")
        await page.click("Redrive")
        await page.see("1 message went back.")


async def test_an_error_says_what_to_do_and_stays_until_it_is_dismissed(
    console: Open, server: ServerProcess, http: httpx.AsyncClient
) -> None:
    await fill(http, "shut", "one")
    async with console(server.url, checked=False) as page:
        await page.page.clock.install()
        await page.open("topic/shut")
        await page.page.get_by_text("Publish", exact=True).first.click()
        await page.see("1 message")
        await http.post("/topics/shut/pause")
        await page.click("Publish")
        alert = page.page.get_by_role("alert").filter(has_text="It was not done.")
        await alert.get_by_text("Resume it on the screen of the topic").wait_for()
        await page.page.clock.fast_forward(60_000)  # notices of what was done are gone by then
        assert await alert.is_visible()
        await page.click("Dismiss")
        await alert.wait_for(state="detached")


async def test_a_body_is_folded_and_opened_by_the_keyboard(
    tab: Open, server: ServerProcess, http: httpx.AsyncClient
) -> None:
    await fill(http, "folded", "a " * 500 + "the end")
    async with tab(server.url) as page:
        await page.open("topic/folded")
        log = page.page.get_by_role("log")
        await log.get_by_text("a a a").wait_for()
        assert "the end" not in await log.inner_text()
        await log.locator("summary").focus()
        await page.page.keyboard.press("Enter")
        await log.get_by_text("the end").wait_for()


async def test_all_messages_of_a_scheduled_batch_are_shown(
    tab: Open, server: ServerProcess, http: httpx.AsyncClient
) -> None:
    lines = "\n".join(f'"number {number:03}"' for number in range(150))
    batch = {"Content-Type": "application/x-ndjson"}
    (await http.post("/topics/batch/messages?delay=1h", content=lines, headers=batch)).raise_for_status()
    async with tab(server.url) as page:
        await page.open("scheduled?match=batch")
        await page.see("number 000")
        await page.see("1 of 150: show more")
        more = page.page.get_by_role("button", name="Show more messages")
        await more.click()
        await page.see("100 of 150: show more")
        await more.click()
        await page.see("number 149")
        assert await page.page.locator(".batch li").count() == 150
        assert await more.count() == 0
