"""Programs that take the whole screen, much output, and fingers, on the terminals' page."""

import asyncio
import re
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import CDPSession, Page, expect

from tests.browser.test_pages import PHONE
from tests.browser.test_terminal import Open, a_program, look_again, new_tab, opened, tab
from tests.fakes.lacking import lacking
from tests.fakes.serving import until
from tests.fakes.terminal_page import ready, run, shows, size, text
from tests.fakes.web import Site

__all__ = ["opened"]
pytestmark = pytest.mark.browser

CURSES = """
import curses

def main(screen):
    curses.curs_set(0)
    key = ""
    while key != "q":
        rows, columns = screen.getmaxyx()
        screen.erase()
        screen.border()
        screen.addstr(1, 2, f"size {columns}x{rows}")
        screen.addstr(2, 2, f"key {key}", curses.A_REVERSE)
        screen.addstr(rows - 2, 2, "last line")
        screen.refresh()
        pressed = screen.get_wch()
        key = curses.keyname(pressed).decode() if isinstance(pressed, int) else pressed

curses.wrapper(main)
"""


async def sees(page: Page, wanted: str) -> None:
    """Wait until the screen has these words."""

    async def is_there() -> bool:
        return wanted in await text(page)

    try:
        await until(is_there)
    except AssertionError:
        raise AssertionError(f"no {wanted!r} in\n{await text(page)}") from None


async def test_a_curses_program_fills_the_screen_follows_its_size_and_leaves_nothing(
    opened: Open, site: Site, tmp_path: Path
) -> None:
    page = await opened()
    await ready(page)
    await run(page, f"echo before; {a_program(tmp_path / 'full.py', CURSES)}")
    columns, rows = await size(page)
    await sees(page, f"size {columns}x{rows}")
    await sees(page, "last line")
    await page.keyboard.press("ArrowUp")
    await sees(page, "key KEY_UP")
    await page.keyboard.press("F5")
    await sees(page, "key KEY_F(5)")
    await page.keyboard.type("é")
    await sees(page, "key é")
    await page.set_viewport_size({"width": 700, "height": 500})

    async def is_smaller() -> bool:
        now = await size(page)
        return now != (columns, rows) and f"size {now[0]}x{now[1]}" in await text(page)

    await until(is_smaller)
    await page.reload()
    await sees(page, "key KEY_RESIZE")
    await page.keyboard.type("q")
    await ready(page)
    assert "before" in (await text(page)).splitlines()
    assert "last line" not in await text(page)


async def test_tmux_splits_survives_a_refresh_and_leaves(opened: Open, site: Site) -> None:
    if shutil.which("tmux") is None:
        lacking("tmux")
    server = f"samovar-{secrets.token_hex(4)}"
    page = await opened()
    await ready(page)
    try:
        await run(
            page, f"echo before; tmux -L {server} -f /dev/null new-session 'sh -c \"PS1=% sh\"'"
        )
        await sees(page, "[0] 0:sh")
        await run(page, "echo left $((40+2))")
        await sees(page, "left 42")
        await page.keyboard.press("Control+b")
        await page.keyboard.type("%")
        await sees(page, "│")
        await page.keyboard.type("echo right $((40+3))\n")
        await sees(page, "right 43")
        shown = await text(page)
        await page.reload()
        await sees(page, "right 43")
        assert "left 42" in await text(page)
        assert shown.count("│") == (await text(page)).count("│")
        await page.keyboard.press("Control+b")
        await page.keyboard.type("d")
        await ready(page)
        await sees(page, "before")
        await run(page, "echo after")
        await shows(page, "after")
    finally:
        subprocess.run(["tmux", "-L", server, "kill-server"], check=False, capture_output=True)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_five_million_lines_come_to_their_end_and_the_page_stays_alive(
    opened: Open, site: Site
) -> None:
    page = await opened()
    await ready(page)
    await run(page, "seq 1 5000000; echo over")
    slowest_s, loop = 0.0, asyncio.get_running_loop()
    async with asyncio.timeout(800):
        while not re.search(r"5000000\nover\n", await text(page)):
            began = loop.time()
            await page.evaluate("new Promise((done) => requestAnimationFrame(done))")
            slowest_s = max(slowest_s, loop.time() - began)
            await asyncio.sleep(0.5)
    assert slowest_s < 5, "the page draws all the while"
    await run(page, "echo $((40+2))")
    await shows(page, "42")


# Fingers


async def touch(session: CDPSession, kind: str, *points: tuple[float, float]) -> None:
    spots = [{"x": x, "y": y} for x, y in points]
    await session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": spots})


async def middle(page: Page, name: str) -> tuple[float, float]:
    box = await tab(page, name).bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


async def three_tabs(opened: Open, **more: Any) -> tuple[Page, Any]:
    page = await opened(PHONE, has_touch=True, **more)
    await ready(page)
    await new_tab(page, "Shell 2")
    await new_tab(page, "Shell 3")
    return page, page.locator(".tab-title")


async def test_a_finger_that_rests_on_a_tab_moves_it(opened: Open, site: Site) -> None:
    page, titles = await three_tabs(opened)
    session = await page.context.new_cdp_session(page)
    await tab(page, "Shell 1").scroll_into_view_if_needed()
    start, goal = await middle(page, "Shell 1"), await middle(page, "Shell 2")
    await touch(session, "touchStart", start)
    await expect(page.locator(".tab.is-lifted")).to_have_count(1)
    async with page.expect_response("**/terminals"):
        await look_again(page)
    await expect(page.locator(".tab.is-lifted")).to_have_count(1)
    await touch(session, "touchMove", ((start[0] + goal[0]) / 2, goal[1]))
    await touch(session, "touchMove", goal)
    await expect(page.locator(".tab.is-goal")).to_contain_text("Shell 2")
    await touch(session, "touchEnd")
    await expect(titles).to_have_text(["Shell 2", "Shell 1", "Shell 3"])
    await expect(page.locator(".tab.is-lifted, .tab.is-goal")).to_have_count(0)


async def test_a_finger_that_moves_at_once_moves_no_tab(opened: Open, site: Site) -> None:
    page, titles = await three_tabs(opened, has_own_time=True)
    session = await page.context.new_cdp_session(page)
    await tab(page, "Shell 1").scroll_into_view_if_needed()
    start, goal = await middle(page, "Shell 1"), await middle(page, "Shell 2")
    await page.clock.pause_at(await page.evaluate("() => Date.now() / 1000 + 10"))
    await touch(session, "touchStart", start)
    await touch(session, "touchMove", ((start[0] + goal[0]) / 2, goal[1]))
    await page.clock.run_for(1000)
    await touch(session, "touchMove", goal)
    await expect(page.locator(".tab.is-lifted, .tab.is-goal")).to_have_count(0)
    await touch(session, "touchEnd")
    assert not [call for call in site.commands.calls if call[0] == "change_terminal"]
    await expect(titles).to_have_text(["Shell 1", "Shell 2", "Shell 3"])
