"""Previews and uploads in a real browser, with everything real: from a page to a port and back."""

import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from bot.demo.script import say, step
from tests.fakes.container_app import start_app, stop_app
from tests.fakes.served import Served, served
from tests.fakes.serving import until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.docker,
    pytest.mark.claude,
    pytest.mark.timeout(300),
]
PORT, OTHER = 5173, 8000
FETCH = """async (url) => {
  try {
    const answer = await fetch(url, {credentials: "include"});
    return answer.status;
  } catch (error) {
    return String(error);
  }
}"""


@pytest_asyncio.fixture(loop_scope="session")
async def samovar(tmp_path: Path) -> AsyncGenerator[Served]:
    async with served(tmp_path) as running:
        yield running


async def shot(page: Page, name: str) -> None:
    """Keep a picture where somebody wants to look at one."""
    folder = os.environ.get("SAMOVAR_SHOTS")
    if folder:
        for width in (390, 1280):
            await page.set_viewport_size({"width": width, "height": 800})
            await page.screenshot(path=f"{folder}/{name}-{width}.png", full_page=True)


@dataclass
class Scene:
    """A workspace, and somebody who is signed in at its page."""

    samovar: Served
    workspace: str
    pages: str
    page: Page

    async def start(self, port: int) -> None:
        """Let an app listen."""
        await start_app(self.samovar.stage.engine, self.workspace, port)
        await until(lambda: self.listens(port))

    async def listens(self, port: int) -> bool:
        found = await self.samovar.get("workspaces", self.workspace, "ports")
        return port in {one["port"] for one in found["ports"]}

    async def at(self, port: int) -> None:
        """Go to the page about a port."""
        await self.page.goto(f"{self.pages}/workspaces/{self.workspace}/previews/{port}")


@pytest_asyncio.fixture(loop_scope="session")
async def scene(chromium: Browser, samovar: Served) -> Scene:
    task = await samovar.ask("Say hello", [step(say("Hello."))])
    await samovar.ended(task)
    (workspace,) = [w["id"] for w in (await samovar.get("workspaces"))["workspaces"]]
    link = await samovar.post("sign-in-links")
    page = await chromium.new_page()
    page.set_default_timeout(30_000)
    pages = link["url"].partition("/sign-in")[0]
    await page.goto(link["url"])
    await page.get_by_role("button").click()
    await expect(page).to_have_url(f"{pages}/")
    return Scene(samovar, workspace, pages, page)


async def test_people_open_what_listens_and_show_it_to_others(
    chromium: Browser, scene: Scene, tmp_path: Path
) -> None:
    await scene.start(PORT)
    shop = await _open_from_the_workspaces_page(scene)
    await _no_other_origin_reaches_it(scene, shop)
    stranger = await (await chromium.new_context()).new_page()
    await _by_a_link(scene, stranger, shop.url)
    await _come_and_go(scene, stranger, shop.url)
    await _send_files(scene.page, f"{scene.pages}/workspaces/{scene.workspace}/files/", tmp_path)


async def _open_from_the_workspaces_page(scene: Scene) -> Page:
    page, workspace = scene.page, scene.workspace
    await page.goto(f"{scene.pages}/workspaces/{workspace}")
    await expect(page.get_by_role("link", name=str(PORT))).to_be_visible(timeout=30_000)
    await shot(page, "workspace")
    async with page.context.expect_page() as opened:
        await page.get_by_role("button", name="Open", exact=True).click()
    shop = await opened.value
    await expect(shop.locator("h1")).to_have_text("The shop", timeout=30_000)
    assert shop.url.startswith(f"http://ws-{workspace}--{PORT}.localhost:")
    await expect(shop.locator("#ws")).to_have_text("said by echo")
    await expect(shop.locator("#sse")).to_have_text("an event")
    root = shop.url
    await shop.goto(f"{root}cookies")
    await expect(shop.locator("body")).to_have_text("theirs=1")
    await shop.goto(root)
    return shop


async def _no_other_origin_reaches_it(scene: Scene, shop: Page) -> None:
    """A page of one port asks another one, and the pages, with all cookies: it hears nothing."""
    page = scene.page
    await scene.start(OTHER)
    await scene.at(OTHER)
    await expect(page.locator(".facts-list")).to_contain_text("something listens")
    await page.get_by_role("button", name="Open the preview").click()
    await expect(page.locator("h1")).to_have_text("The shop")
    assert await page.evaluate(FETCH, page.url) == 200
    for there in (page.url, f"{scene.pages}/api/v1/tasks"):
        assert "Failed to fetch" in await shop.evaluate(FETCH, there)


async def _by_a_link(scene: Scene, stranger: Page, shop: str) -> None:
    await scene.at(PORT)
    await shot(scene.page, "preview")
    await scene.page.get_by_role("button", name="Make a link").click()
    made = await scene.page.locator("pre.command").inner_text()
    await shot(scene.page, "preview-link")
    await stranger.goto(shop)
    await expect(stranger.locator("h1")).to_have_text("Not open here")
    await shot(stranger, "stranger")
    await stranger.goto(made)
    await shot(stranger, "entrance")
    await stranger.get_by_role("button", name="Open").click()
    await expect(stranger.locator("h1")).to_have_text("The shop")
    await stranger.goto(made)
    await expect(stranger.locator("h1")).to_have_text("This link does not open")


async def _come_and_go(scene: Scene, stranger: Page, shop: str) -> None:
    async def is_over() -> bool:
        return not await scene.listens(PORT)

    await stop_app(scene.samovar.stage.engine, scene.workspace)
    await until(is_over)
    await stranger.goto(shop)
    await expect(stranger.locator("p").first).to_contain_text("Nothing listens", timeout=30_000)
    await shot(stranger, "nothing")
    await scene.start(PORT)
    await expect(stranger.locator("h1")).to_have_text("The shop", timeout=30_000)
    await scene.at(PORT)
    await scene.page.get_by_role("button", name="End all links").click()
    await expect(scene.page.locator("h1")).to_be_visible()

    async def is_shut() -> bool:
        await stranger.goto(shop)
        return await stranger.locator("h1").inner_text() == "Not open here"

    await until(is_shut)


async def _send_files(page: Page, folder: str, tmp_path: Path) -> None:
    await page.goto(folder)
    first = tmp_path / "grün & 100%.txt"
    first.write_text("one")
    large = tmp_path / "large.bin"
    large.write_bytes(os.urandom(8_000_000))
    box = page.locator("[data-upload]")
    await box.locator("input").set_input_files([first, large])
    await expect(box.locator("li").nth(0)).to_have_text("grün & 100%.txt is there.")
    await expect(box.locator("li").nth(1)).to_have_text("large.bin is there.")
    await shot(page, "upload")
    await page.get_by_role("button", name="Show the folder again").click()
    await page.get_by_role("link", name="grün & 100%.txt").click()
    await expect(page.locator("#L1")).to_contain_text("one")
    await page.go_back()
    first.write_text("two")
    page.once("dialog", lambda dialog: dialog.dismiss())
    await box.locator("input").set_input_files(first)
    await expect(box.locator("li")).to_have_text("grün & 100%.txt was left as it is.")
    page.once("dialog", lambda dialog: dialog.accept())
    await box.locator("input").set_input_files(first)
    await expect(box.locator("li").nth(1)).to_have_text("grün & 100%.txt is there.")
    await page.get_by_role("link", name="grün & 100%.txt").click()
    await expect(page.locator("#L1")).to_contain_text("two")
