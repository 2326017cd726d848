"""Recordings in real Chromium: a tool call leads to its second, and it plays."""

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from core.ids import SessionId, TaskId
from tests.browser.test_pages import DESK, PHONE, WIDE
from tests.fakes.lacking import lacking
from tests.fakes.web import Setup, Site, a_site, player_folder

pytestmark = pytest.mark.browser


@pytest_asyncio.fixture(loop_scope="session")
async def page(chromium: Browser, site: Site) -> AsyncIterator[Page]:
    """A signed-in page that must not complain."""
    if player_folder() is None:
        lacking("asciinema-player; ./samovar test fetches it")
    complaints: list[str] = []
    context = await chromium.new_context(viewport={"width": DESK[0], "height": DESK[1]})
    await context.add_cookies([{"name": "samovar", "value": site.cookie, "url": site.url}])
    made = await context.new_page()
    made.set_default_timeout(30_000)
    made.on("pageerror", lambda error: complaints.append(str(error)))
    made.on(
        "console",
        lambda said: (
            said.type == "error"
            and "ERR_NETWORK_CHANGED" not in said.text
            and complaints.append(said.text)
        ),
    )
    yield made
    await context.close()
    assert complaints == []


def session_of(site: Site, state: str = "done") -> tuple[TaskId, SessionId]:
    task = next(task for task, view in site.commands.views.items() if view.card.state == state)
    return task, site.commands.session(task)


async def shows(page: Page, words: str) -> None:
    await expect(page.locator("#film[data-ready]")).to_be_visible()
    await expect(page.locator(".ap-term")).to_contain_text(words)


async def test_a_tool_call_on_the_tasks_page_opens_its_second_and_shows_the_command(
    page: Page, site: Site
) -> None:
    task, _ = session_of(site)
    await page.goto(f"{site.url}/tasks/{task}")
    call = page.locator(".ev-tool_start", has_text="pytest -q tests/test_cart.py")
    await call.locator("summary").click()
    await call.get_by_role("link", name="in the recording").click()
    await page.wait_for_url(re.compile(r"/recordings/.*[?]at=[0-9.]+$"))
    await shows(page, "$ pytest -q tests/test_cart.py")
    assert "2 failed" not in await page.locator(".ap-term").inner_text()


async def test_it_is_stepped_through_played_and_sped_up(page: Page, site: Site) -> None:
    _, session = session_of(site)
    await page.goto(f"{site.url}/recordings/{session}")
    await expect(page.locator("#film[data-ready]")).to_be_visible()
    await page.get_by_role("button", name="Step", exact=False).nth(1).click()
    await expect(page.locator(".ap-term")).to_contain_text("Read shop/cart.py")
    await page.get_by_role("button", name="Step", exact=False).nth(1).click()
    await shows(page, "$ pytest -q tests/test_cart.py")
    await page.get_by_label("Speed").select_option("16")
    await shows(page, "$ pytest -q tests/test_cart.py")
    await page.locator(".ap-wrapper").press("Space")
    await expect(page.locator(".ap-term")).to_contain_text("has ended")


async def test_on_a_phone_all_of_it_fits(page: Page, site: Site) -> None:
    await page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    task, session = session_of(site)
    await page.goto(f"{site.url}/recordings/{session}?at=5")
    await expect(page.locator("#film[data-ready]")).to_be_visible()
    assert await page.evaluate(WIDE) == []
    await page.goto(f"{site.url}/tasks/{task}/recordings")
    assert await page.evaluate(WIDE) == []
    await page.get_by_role("link", name="Agent, run").click()
    await expect(page.locator("#film[data-ready]")).to_be_visible()
    box = await page.locator(".ap-player").bounding_box()
    assert box is not None
    assert box["width"] <= PHONE[0]


async def test_without_the_player_the_page_says_what_is_missing(chromium: Browser) -> None:
    from tests.fakes.story import tell

    setup = Setup(player=None)
    await tell(setup.commands, setup.person)
    async with a_site(setup) as site:
        context = await chromium.new_context()
        await context.add_cookies([{"name": "samovar", "value": site.cookie, "url": site.url}])
        page = await context.new_page()
        await page.goto(f"{site.url}/recordings/{session_of(site)[1]}")
        await expect(page.locator("main")).to_contain_text("./samovar doctor")
        await expect(page.get_by_role("link", name="Download")).to_be_visible()
        await context.close()
