"""A browser, and pages in it that must not complain."""

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import (
    Browser,
    Error,
    Page,
    Request,
    Response,
    async_playwright,
    expect,
)

from tests.fakes.lacking import lacking
from tests.fakes.story import tell
from tests.fakes.web import Setup, Site, a_site, xterm_folder

CHROMIUM = os.environ.get("SAMOVAR_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

expect.set_options(timeout=30_000)


@pytest.fixture(autouse=True)
def loads_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load a page again of which something was dropped as Docker made or removed a network."""
    goto, changed = Page.goto, "ERR_NETWORK_CHANGED"

    async def patient(page: Page, url: str, **settings: Any) -> Response | None:
        dropped: list[Request] = []

        def note(request: Request) -> None:
            if changed in (request.failure or ""):
                dropped.append(request)

        page.on("requestfailed", note)
        try:
            for is_last in (False, False, False, True):
                dropped.clear()
                try:
                    answer = await goto(page, url, **settings)
                except Error as error:
                    if is_last or changed not in str(error):
                        raise
                else:
                    if is_last or not dropped:
                        return answer
        finally:
            page.remove_listener("requestfailed", note)
        raise AssertionError("the last try returns or raises")

    monkeypatch.setattr(Page, "goto", patient)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let all tests here share a loop, which their browser needs."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def started() -> AsyncIterator[Browser]:
    """One browser for all tests: starting one takes longer than most of them."""
    if not Path(CHROMIUM).exists():
        lacking(f"{CHROMIUM}; install chromium or set SAMOVAR_CHROMIUM")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def chromium(started: Browser) -> AsyncIterator[Browser]:
    """The browser, without anything of another test."""
    yield started
    for context in started.contexts:
        await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def site() -> AsyncIterator[Site]:
    """A site whose workspaces have terminals."""
    if xterm_folder() is None:
        lacking("xterm.js; ./samovar test fetches it")
    setup = Setup()
    await tell(setup.commands, setup.person)
    async with a_site(setup) as running:
        yield running
