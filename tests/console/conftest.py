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
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        page.on("request", self._note_request)
        page.set_default_timeout(DEADLINE * 1_000)

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

    @asynccontextmanager
    async def new_context(options: dict[str, Any]) -> AsyncIterator[Any]:
        context = await browser.new_context(**options)
        try:
            yield context
        finally:
            await context.close()

    return opening(new_context)


@pytest.fixture(scope="session")
def contexts() -> dict[str, Any]:
    """Those of the tabs, by their options. They end with the browser."""
    return {}


@pytest.fixture
def tab(browser: Any, contexts: dict[str, Any]) -> Open:
    """Does the same in contexts that tests share, since a new one takes 0.2 s of CPU. For a test that changes nothing
    in the context but cookies: no clock, no network, no permission."""

    @asynccontextmanager
    async def shared_context(options: dict[str, Any]) -> AsyncIterator[Any]:
        key = repr(sorted(options.items()))
        if key not in contexts:
            contexts[key] = await browser.new_context(**options)
        try:
            yield contexts[key]
        finally:
            await contexts[key].clear_cookies()

    return opening(shared_context)


def opening(context_with: Callable[[dict[str, Any]], AbstractAsyncContextManager[Any]]) -> Open:
    if not shutil.which("chromium"):
        pytest.skip("chromium is not installed (Debian package chromium)")

    @asynccontextmanager
    async def open_console(url: str, *, checked: bool = True, **options: Any) -> AsyncIterator[ConsolePage]:
        async with context_with(options) as context:
            page = ConsolePage(await context.new_page(), url)
            try:
                yield page
                if checked:
                    page.check()
            finally:
                await page.page.close()

    return open_console


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """One that the module's tests share."""
    with start_server() as process:
        yield process
