"""Tokens are made and revoked in the console."""

from pathlib import Path

from app.access.claims import every_right
from app.access.tokens import make_token
from tests.console.conftest import Open
from tests.harness import http_client, start_server


async def test_a_token_is_made_shown_once_and_revoked(console: Open, tmp_path: Path) -> None:
    boss = make_token(tmp_path / "tokens", "boss", every_right())
    with start_server("--data-dir", str(tmp_path)) as server:
        async with console(server.url, checked=False) as page, http_client(server.url) as http:
            await page.open("tokens")
            await page.page.get_by_label("Token").fill(boss)
            await page.click("Log in")
            await page.see("boss (yours)")
            await page.page.get_by_text("Make a token").click()
            await page.page.get_by_label("Name", exact=True).fill("sensors")
            await page.page.get_by_label("publish: publish messages").fill("rooms.**, a")
            await page.page.get_by_label("Expires in").fill("30d")
            await page.click("Make")
            token = await page.page.locator("section.made pre").inner_text()
            sent = await http.post(
                "/topics/rooms.1/messages", content=b"x", headers={"Authorization": f"Bearer {token}"}
            )
            assert sent.status_code == 201
            await page.click("I have copied it")
            await page.see("rooms.**, a")
            await page.page.get_by_role("row", name="sensors").get_by_role("button").click()
            await page.agree("sensors", "Revoke")
            await page.see("sensors is revoked.")
            again = await http.get("/session", headers={"Authorization": f"Bearer {token}"})
            assert again.status_code == 401
            assert token not in await page.page.content()
            assert not page.foreign


async def test_the_first_token_stays_on_the_screen(console: Open, tmp_path: Path) -> None:
    with start_server("--data-dir", str(tmp_path)) as server:
        async with console(server.url, checked=False) as page:
            await page.open("tokens")
            await page.page.get_by_text("Make a token").click()
            await page.page.get_by_label("Name", exact=True).fill("boss")
            await page.page.get_by_label("publish: publish messages").fill("**")
            await page.click("Make")
            await page.see("no token could make another one")
            await page.page.get_by_label("admin: list").fill("**")
            await page.click("Make")
            assert (await page.page.locator("section.made pre").inner_text()).startswith("pmq_")
            await page.click("I have copied it")
            await page.see("boss")
            assert not page.foreign
