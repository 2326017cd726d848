"""The whole product in a real browser: sign in, ask, open the terminal of what was made."""

import re
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from bot.demo.script import say, step, use
from tests.fakes.served import Served, served

pytestmark = [
    pytest.mark.browser,
    pytest.mark.docker,
    pytest.mark.claude,
    pytest.mark.timeout(300),
]

COMMIT = "echo 'made = 40 + 2' > made.py && git add made.py && git commit -qm 'Add made'"


@pytest_asyncio.fixture(loop_scope="session")
async def samovar(tmp_path: Path) -> AsyncGenerator[Served]:
    async with served(tmp_path) as running:
        yield running


async def test_from_the_tasks_page_into_its_shell_and_to_its_files(
    chromium: Browser, samovar: Served
) -> None:
    steps = [step(use("Bash", command=COMMIT)), step(say("It is there."))]
    task = await samovar.ask("Make it", steps)
    await samovar.ended(task)
    link = await samovar.post("sign-in-links")
    page = await chromium.new_page()
    page.set_default_timeout(30_000)
    pages = link["url"].partition("/sign-in")[0]
    await page.goto(link["url"])
    await page.get_by_role("button").click()
    await expect(page).to_have_url(f"{pages}/")
    await page.goto(f"{pages}/tasks/{task}")
    async with page.context.expect_page() as opened:
        await page.get_by_role("button", name="Open terminal").click()
    shell = await opened.value
    rows = shell.locator(".xterm-rows")
    await expect(rows).to_contain_text("/workspaces/sample", timeout=60_000)
    await shell.keyboard.type("id -un; python3 -c 'from made import *; print(made)'\n")
    await expect(rows).to_contain_text(re.compile(r"dev.*42", re.DOTALL))
    await shell.reload()
    await expect(rows).to_contain_text(re.compile(r"dev.*42", re.DOTALL), timeout=60_000)
    await page.goto(f"{pages}/workspaces")
    await page.locator("td a").first.click()
    await page.get_by_role("link", name="Files", exact=True).click()
    await page.get_by_role("link", name="made.py").click()
    await expect(page.locator("#L1")).to_contain_text("made = 40 + 2")
    await page.go_back()
    await page.go_back()
    await page.get_by_role("link", name="Changes", exact=True).click()
    await expect(page.locator("tr.is-add")).to_contain_text("made = 40 + 2")
