"""What a hostile publisher sends does nothing in the console; and it comes back when the server or a token goes."""

import signal
from pathlib import Path
from urllib.parse import quote

import pytest

from app.access.claims import Rights, every_right
from app.access.tokens import make_token
from tests.console.conftest import Open
from tests.harness import ServerProcess, free_port, http_client, start_server

HOSTILE = {
    "markup": b"<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>",
    "control characters": bytes(range(32)) + b"the end",
    "bidi": "user \u202etxt.exe\u2066 the end".encode(),
    "not utf-8": b"\xff\xfe\x00 the end",
    "deep json": b"[" * 5_000 + b"]" * 5_000,
    "an empty message": b"",
}
EVERY_RIGHT = every_right()


async def publish(server: ServerProcess, body: bytes) -> None:
    async with http_client(server.url) as http:
        (await http.post("/topics/t/messages", content=body)).raise_for_status()


@pytest.mark.parametrize("form", ["auto", "text", "json", "hex"])
async def test_no_message_runs_or_breaks_anything(console: Open, server: ServerProcess, form: str) -> None:
    topic = f"hostile-{form}"
    async with http_client(server.url) as http:
        for name, body in HOSTILE.items():
            event = "<b>" if name == "markup" else None
            params = {"event": event} if event else {}
            headers = {"Content-Type": "text/html"}
            (
                await http.post(f"/topics/{topic}/messages", content=body, params=params, headers=headers)
            ).raise_for_status()
    async with console(server.url) as page:
        await page.open(f"topic/{topic}?form={form}")
        await page.page.get_by_role("log").get_by_role("listitem").nth(len(HOSTILE) - 1).wait_for()
        assert await page.page.title() == f"{topic} · plainmq"
        assert await page.page.locator(".messages img, .messages script, .messages b b").count() == 0
        text = await page.page.get_by_role("log").inner_text()
        assert "\u202e" not in text


async def test_a_message_of_16_mib_is_cut(console: Open) -> None:
    with start_server("--max-bytes", "64MiB", "--max-message", "16MiB") as server:
        async with http_client(server.url) as http, console(server.url) as page:
            (await http.post("/topics/large/messages", content=b"x" * (16 << 20))).raise_for_status()
            await page.open("topic/large")
            await page.see("16 MiB")
            await page.page.get_by_role("log").locator("summary").click()
            shown = await page.page.get_by_role("log").locator("pre").inner_text()
            assert 0 < len(shown) <= (64 << 10) + 1


async def test_it_says_when_the_server_is_gone_and_comes_back_without_a_hole(console: Open, tmp_path: Path) -> None:
    port = free_port()
    engine = ("--engine", f"sqlite:///{tmp_path}/log.db")
    async with console(f"http://127.0.0.1:{port}", checked=False) as page:
        with start_server(*engine, port=port) as server:
            await publish(server, b"before")
            await page.open("topic/t")
            await page.see("before")
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
        await page.see("connection lost")
        with start_server(*engine, port=port) as server:
            await publish(server, b"while it was away")
            await page.see("while it was away")
            shown = await page.page.get_by_role("log").locator(".excerpt").all_inner_texts()
            assert shown == ["while it was away", "before"]
        assert not page.foreign


async def test_a_token_is_asked_for_and_asked_for_again_when_it_is_revoked(console: Open, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    good = make_token(tokens, "ann", EVERY_RIGHT)
    with start_server("--tokens", str(tokens)) as server:
        async with console(server.url, checked=False) as page:
            await page.open("topics")
            await page.page.get_by_label("Token").fill("pmq_wrong")
            await page.click("Log in")
            await page.see("token")
            await page.page.get_by_label("Token").fill(good)
            await page.click("Log in")
            await page.see("There is no topic yet.")
            await page.see("ann")
            cookies = await page.page.context.cookies()
            assert [(cookie["name"], cookie["httpOnly"]) for cookie in cookies] == [("plainmq", True)]
            tokens.write_text("")
            await page.see("Your token is no longer valid")
            assert page.page.url.endswith("#/topics")
            assert not page.foreign


async def test_what_was_typed_is_there_after_the_token_was_asked_for_again(console: Open, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    good = make_token(tokens, "ann", EVERY_RIGHT)
    with start_server("--tokens", str(tokens)) as server:
        async with console(server.url, checked=False) as page:
            await page.open("topic/long")
            await page.page.get_by_label("Token").fill(good)
            await page.click("Log in")
            await page.page.get_by_text("Publish", exact=True).first.click()
            await page.page.get_by_label("Body").fill("a long text")
            await page.page.get_by_label("Delivery").select_option("to one subscriber")
            tokens.write_text("")
            await page.see("Your token is no longer valid")
            again = make_token(tokens, "bob", EVERY_RIGHT)
            await page.page.get_by_label("Token").fill(again)
            await page.click("Log in")
            assert await page.page.get_by_label("Body").input_value() == "a long text"
            assert await page.page.get_by_label("Delivery").input_value() == "one"
            await page.click("Publish")
            await page.see("Published as")


async def test_a_token_that_may_only_view_sees_figures_and_no_body_and_no_button_that_acts(
    console: Open, tmp_path: Path
) -> None:
    tokens = tmp_path / "tokens"
    admin, viewer = make_token(tokens, "root", EVERY_RIGHT), make_token(tokens, "guest", Rights(view=["**"]))
    with start_server("--tokens", str(tokens)) as server:
        async with http_client(server.url, headers={"Authorization": f"Bearer {admin}"}) as http:
            (await http.post("/topics/t/messages", content=b"a secret")).raise_for_status()
            (await http.post("/topics/t/groups/g/pull")).raise_for_status()
        async with console(server.url, checked=False) as page:
            await page.open("group/t/g")
            await page.page.get_by_label("Token").fill(viewer)
            await page.click("Log in")
            await page.see("leased")
            await page.see("To see the body")
            assert "a secret" not in await page.page.content()
            assert await page.page.get_by_role("button", name="Skip chosen …").count() == 0
            await page.open("topic/t")
            await page.see("To see the messages")
            assert await page.page.get_by_text("Publish", exact=True).count() == 0
            await page.open()
            await page.see("Published")
            assert not page.foreign


MARKUP = "<img/src=x/onerror=document.title='broken'>"  # a lawful name of a topic
REASON = "no account <b>x</b>"
SCREENS = (
    "",
    "topics",
    f"topic/{quote(MARKUP, safe='')}",
    f"topic/{quote(MARKUP + '.dead', safe='')}",
    "groups",
    f"group/{quote(MARKUP, safe='')}/g?state=dead",
    f"group/{quote(MARKUP, safe='')}/g?state=leased",
    f"group/{quote(MARKUP, safe='')}/g?state=delayed",
    f"group/{quote(MARKUP, safe='')}/g?state=ready",
    "scheduled",
    "subscribers",
    "tokens",
)


async def test_nothing_that_strangers_wrote_runs_or_disguises_itself_on_any_screen(
    console: Open, tmp_path: Path
) -> None:
    """In topics, bodies, events, headers, keys, reasons of failures, and the names of consumers."""
    tokens = tmp_path / "tokens"
    admin = make_token(tokens, "root", EVERY_RIGHT)
    worker = make_token(tokens, "<b>worker</b>", Rights(consume=["**"]))
    topic = f"/topics/{quote(MARKUP, safe='')}"
    options = {"event": "<i>created</i>", "key": "<u>key</u>"}
    fields = {"X-Plainmq-Note": "<s>note</s>"}
    with start_server("--tokens", str(tokens)) as server:
        url, as_worker = server.url, {"Authorization": f"Bearer {worker}"}
        async with http_client(url, headers={"Authorization": f"Bearer {admin}"}) as http, console(url) as page:
            await http.put(f"{topic}/groups/g", json={"max_deliveries": 2})
            for number, body in enumerate(HOSTILE.values()):
                params = options | {"key": f"<u>{number}</u>"}
                (await http.post(f"{topic}/messages", content=body, params=params, headers=fields)).raise_for_status()
            for _ in range(3):
                jobs = (await http.post(f"{topic}/groups/g/pull?max=2", headers=as_worker)).json()["messages"]
                nack = {"ids": [job["lease"] for job in jobs], "reason": REASON}
                (await http.post(f"{topic}/groups/g/nack", json=nack)).raise_for_status()
            await http.post(f"{topic}/groups/g/pull?max=1", headers=as_worker)
            await http.post(f"{topic}/messages?delay=1h", content=HOSTILE["markup"], params=options, headers=fields)
            await page.page.goto(url)
            await page.page.get_by_label("Token").fill(admin)
            await page.click("Log in")
            await page.page.get_by_role("heading", name="Overview").wait_for()
            page.errors.clear()  # of the first question, who it is
            for screen in SCREENS:
                await page.open(screen)
                await page.page.get_by_role("heading", level=1).wait_for()
                await page.page.locator("[aria-busy]").wait_for(state="detached")
                await page.evaluate("() => document.querySelectorAll('main details').forEach(one => one.open = true)")
                made = "main :is(img, script, i, u, s, b b)"
                assert await page.page.locator(made).count() == 0, screen
                text = await page.page.get_by_role("main").inner_text()
                assert not {"\u202e", "\u2066", "\u0000"} & {*text}, screen
                width = await page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
                assert width <= 0, screen
