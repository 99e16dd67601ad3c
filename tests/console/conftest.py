"""A page of the console that notices what must not happen: errors, violations of the policy, requests elsewhere."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import pytest

from tests.clients.conftest import browser
from tests.harness import DEADLINE, ServerProcess, start_server

__all__ = ["browser"]

playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed (PyPI package playwright)")


SHEETS: Final = {
    "topics": ("Create a topic",),
    "topic": ("Publish", "Settings"),
    "groups": ("Create a group",),
    "group": ("Operations",),
    "tokens": ("Make a token",),
}
"""What is folded on a screen, by the first word of its address."""


class ConsolePage:
    """One tab with the console in it."""

    def __init__(self, page: Any, url: str) -> None:
        self.page = page
        self.url = url
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self._listeners: dict[str, Callable[[Any], None]] = {
            "pageerror": lambda error: self.errors.append(str(error)),
            "console": lambda line: self.errors.append(line.text) if line.type == "error" else None,
            "request": self._note_request,
        }
        for event, listener in self._listeners.items():
            page.on(event, listener)
        page.set_default_timeout(DEADLINE * 1_000)

    async def leave(self) -> None:
        """The tab is as it was."""
        for event, listener in self._listeners.items():
            self.page.remove_listener(event, listener)
        await self.page.goto("about:blank")
        await self.page.context.clear_cookies()

    def _note_request(self, request: Any) -> None:
        if not request.url.startswith((self.url, "data:")):
            self.foreign.append(request.url)

    async def open(self, screen: str = "") -> None:
        await self.page.goto(f"{self.url}/#/{screen}")
        await self.page.get_by_role("main").wait_for()

    async def see(self, text: str) -> None:
        """Wait until the screen shows the text."""
        await self.page.get_by_text(text).first.wait_for()

    async def click(self, name: str, role: str = "button") -> None:
        await self.page.get_by_role(role, name=name, exact=True).click()

    async def unfold(self, screen: str) -> None:
        """Open the forms of the screen, and what it can do, once they are there."""
        for name in SHEETS.get(screen.partition("/")[0], ()):
            await self.page.locator("details.sheet > summary").filter(has_text=re.compile(f"^{name}$")).click()

    async def agree(self, word: str | None, action: str) -> None:
        """Answer the dialog that asks whether to do it."""
        dialog = self.page.get_by_role("dialog")
        await dialog.wait_for()
        if word is not None:
            await dialog.get_by_role("textbox").fill(word)
        await dialog.get_by_role("button", name=action, exact=True).click()

    async def evaluate(self, function: str) -> Any:
        async with asyncio.timeout(DEADLINE):
            return await self.page.evaluate(function)

    def check(self) -> None:
        """Nothing has happened that must not."""
        assert not self.foreign
        assert not self.errors


Open = Callable[..., AbstractAsyncContextManager[ConsolePage]]


@pytest.fixture
def console(browser: Any) -> Open:
    """Opens a tab for the server at a URL; what must not happen is checked at its end."""
    _need_chromium()

    @asynccontextmanager
    async def open_console(url: str, *, checked: bool = True, **options: Any) -> AsyncIterator[ConsolePage]:
        context = await browser.new_context(**options)
        try:
            page = ConsolePage(await context.new_page(), url)
            yield page
            if checked:
                page.check()
        finally:
            await context.close()

    return open_console


@pytest.fixture(scope="session")
def tabs() -> dict[str, Any]:
    """Those that tests share, by the options of their contexts. They end with the browser."""
    return {}


@pytest.fixture
def tab(browser: Any, tabs: dict[str, Any]) -> Open:
    """Does the same in a tab that tests share, since a new one takes half a second of CPU. For a test that changes
    nothing but the page and cookies: no clock, no network, no permission."""
    _need_chromium()

    @asynccontextmanager
    async def open_tab(url: str, **options: Any) -> AsyncIterator[ConsolePage]:
        key = repr(sorted(options.items()))
        tab = tabs.pop(key, None) or await (await browser.new_context(**options)).new_page()
        page = ConsolePage(tab, url)
        yield page
        page.check()
        await page.leave()
        tabs[key] = tab  # unless the test has failed

    return open_tab


def _need_chromium() -> None:
    if not shutil.which("chromium"):
        pytest.skip("chromium is not installed (Debian package chromium)")


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """One that the module's tests share."""
    with start_server() as process:
        yield process
