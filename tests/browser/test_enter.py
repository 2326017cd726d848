"""Ways into a workspace, in real Chromium: links, buttons, and doors that stay shut."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from core.access import Person
from core.ids import WorkspaceId
from core.ports.commands import Guest
from tests.browser.test_pages import CONTRAST, DESK, PHONE, WIDE
from tests.fakes.commands import a_person
from tests.fakes.terminal_page import ready, run, shows
from tests.fakes.web import Site

pytestmark = pytest.mark.browser
SPACE, OTHER = WorkspaceId("k3v9x203"), WorkspaceId("k3v9x204")
Fresh = Callable[..., Any]


@pytest_asyncio.fixture(loop_scope="session")
async def fresh(chromium: Browser, site: Site) -> AsyncIterator[Fresh]:
    """Give a browser that nobody used, or that somebody is signed in with."""
    async with AsyncExitStack() as stack:

        async def fresh_(
            person: Person | None = None, size: tuple[int, int] = DESK, **settings: Any
        ) -> Page:
            viewport = {"width": size[0], "height": size[1]}
            context = await chromium.new_context(viewport=viewport, **settings)
            stack.push_async_callback(context.close)
            if person is not None:
                cookie = site.sign_in.signed_in(person)
                await context.add_cookies([{"name": "samovar", "value": cookie, "url": site.url}])
            page: Page = await context.new_page()
            page.set_default_timeout(30_000)
            return page

        yield fresh_


async def a_link(site: Site) -> str:
    return site.url + await site.commands.workspace_link(site.person, SPACE)


async def unfurl(url: str) -> None:
    """Look at a link as programs do that preview it."""
    async with aiohttp.ClientSession() as session:
        for method in ("HEAD", "GET"):
            async with session.request(method, url) as answer:
                assert answer.status == 200


async def test_c9_a_preview_and_then_the_person_who_gets_in_without_a_trace_of_the_link(
    fresh: Fresh, site: Site
) -> None:
    url = await a_link(site)
    await unfurl(url)
    page = await fresh()
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.headers.get("referer", "")))
    await page.goto(url)
    await expect(page.get_by_role("heading")).to_have_text(f"Ana, open workspace {SPACE}?")
    await page.get_by_role("button", name="Open").click()
    await ready(page)
    assert page.url.partition("#")[0] == f"{site.own(SPACE)}/"
    assert await page.evaluate("() => document.referrer") == ""
    assert await page.evaluate("() => document.cookie") == "", "no script reads the cookie"
    on_workspace = [referer for referer in seen if site.own(SPACE) in referer]
    assert all("handed" not in referer and "link" not in referer for referer in on_workspace)
    cookies = await page.context.cookies()
    assert [cookie["domain"] for cookie in cookies] == [site.own(SPACE)[7:].partition(":")[0]]
    await run(page, "echo in")
    await shows(page, "in")


async def test_c9_a_link_that_was_used_or_is_over_says_how_to_get_another(
    fresh: Fresh, site: Site
) -> None:
    url = await a_link(site)
    first = await fresh()
    await first.goto(url)
    late = await fresh()
    await late.goto(url)
    await first.get_by_role("button", name="Open").click()
    await ready(first)
    await late.get_by_role("button", name="Open").click()
    await expect(late.get_by_role("heading")).to_have_text("This link does not open")
    await expect(late.locator("main")).to_contain_text("Open terminal")
    over = await a_link(site)
    site.commands.doors.expire()
    await late.goto(over)
    await expect(late.locator("main")).to_contain_text("its time is up")
    assert len(site.commands.doors.cookies) == 1


async def test_c9_a_link_does_not_open_for_another_person(fresh: Fresh, site: Site) -> None:
    url = await a_link(site)
    bens = await fresh(a_person("member", "Ben"))
    await bens.goto(url)
    await expect(bens.locator("main")).to_contain_text("for Ana, and Ben is signed in")
    await expect(bens.get_by_role("button", name="Open")).to_have_count(0)
    anas = await fresh(site.person)
    await anas.goto(url)
    await anas.get_by_role("button", name="Open").click()
    await ready(anas)


@pytest.mark.parametrize("path", ["/tasks/T-3", "/workspaces/k3v9x203"])
async def test_a_button_opens_the_terminal_beside_the_page(
    path: str, fresh: Fresh, site: Site
) -> None:
    page = await fresh(site.person)
    await page.goto(site.url + path)
    async with page.context.expect_page() as opened:
        await page.get_by_role("button", name="Open terminal").click()
    terminal = await opened.value
    await ready(terminal)
    assert terminal.url.startswith(f"{site.own(SPACE)}/")
    assert page.url == site.url + path
    home = terminal.get_by_role("link", name="Task T-3")
    await expect(home).to_have_attribute("href", f"{site.url}/tasks/T-3")


async def test_c9_who_is_in_one_workspace_is_in_no_other(fresh: Fresh, site: Site) -> None:
    page = await fresh()
    await page.goto(await a_link(site))
    await page.get_by_role("button", name="Open").click()
    await ready(page)
    await page.goto(site.own(OTHER))
    await expect(page.get_by_role("heading")).to_have_text("Sign in first")
    await page.goto(f"{site.url}/workspaces")
    await expect(page).to_have_url(f"{site.url}/sign-in")


async def test_a_deleted_workspace_says_so_also_to_whoever_is_in_it(
    fresh: Fresh, site: Site
) -> None:
    page = await fresh()
    await page.goto(await a_link(site))
    await page.get_by_role("button", name="Open").click()
    await ready(page)
    site.commands.lose_workspace(SPACE)
    await expect(page.get_by_role("heading")).to_have_text("It is gone")
    await expect(page.locator("main")).to_contain_text("was deleted")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK])
async def test_every_door_fits_its_screen_and_can_be_read(
    size: tuple[int, int], scheme: str, fresh: Fresh, site: Site
) -> None:
    page = await fresh(size=size, color_scheme=scheme)
    gone = WorkspaceId("k3v9x202")
    site.commands.lose_workspace(gone)
    doors = [await a_link(site), f"{site.url}/enter?link=x", site.own(SPACE), site.own(gone)]
    doors.append(site.url.replace("127.0.0.1", "elsewhere.localhost"))
    for url in doors:
        await page.goto(url)
        assert await page.evaluate(WIDE) == [], url
        assert await page.evaluate(CONTRAST) == [], url
        assert await page.evaluate("() => getComputedStyle(document.body).margin") == "0px"


async def test_a_page_of_another_site_cannot_frame_or_drive_a_workspace(
    fresh: Fresh, site: Site
) -> None:
    page = await fresh()
    site.commands.doors.cookies["c"] = Guest(person=site.person, workspace=SPACE)
    url = site.own(SPACE)
    await page.context.add_cookies([{"name": "samovar-workspace", "value": "c", "url": url}])
    evil = "http://evil.localhost/"
    html = f"<iframe src='{url}/'></iframe>"
    await page.context.route(
        f"{evil}**", lambda route: route.fulfill(body=html, content_type="text/html")
    )
    await page.goto(evil)
    tried = await page.evaluate(
        """(url) => new Promise((resolve) => {
          const socket = new WebSocket(url.replace("http", "ws") + "/terminals/k3v9x203.t1");
          socket.onopen = () => resolve("open");
          socket.onclose = () => resolve("closed");
        })""",
        url,
    )
    assert tried == "closed"
    asked = {"method": "POST", "credentials": "include", "mode": "no-cors"}
    await page.evaluate(
        "([url, asked]) => fetch(`${url}/terminals`, asked).catch(String)", [url, asked]
    )
    assert site.commands.tabs == {}
    (_, frame) = page.frames
    assert await frame.locator("#tabs").count() == 0
