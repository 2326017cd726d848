"""The terminals' page in real Chromium, at real PTYs: what people see, type and press."""

import asyncio
import hashlib
import re
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, Route, expect

from core.access import Person
from core.errors import UserError
from core.ids import TerminalId, WorkspaceId
from core.ports.commands import Guest, TerminalView
from core.viewing import CLOSE_MISSING, Size
from tests.browser.test_pages import CONTRAST, DESK, PHONE, WIDE
from tests.fakes.commands import a_person
from tests.fakes.lacking import lacking
from tests.fakes.serving import until
from tests.fakes.story import tell
from tests.fakes.terminal import FakeTerminal
from tests.fakes.terminal_page import cells, place, ready, run, shows, size, text
from tests.fakes.web import Setup, Site, a_site

pytestmark = pytest.mark.browser
SPACE = WorkspaceId("k3v9x203")
Open = Callable[..., Any]
EXPECTED = "WebSocket connection|status of 400|net::ERR_"
"""What a browser says of cut connections and of refusals, as asked, and of networks that change."""


@pytest_asyncio.fixture(loop_scope="session")
async def opened(chromium: Browser, site: Site) -> AsyncIterator[Open]:
    """Give a way to open the terminals as a person on a new device."""
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and not re.search(EXPECTED, message.text):
            complaints.append(message.text)

    async with AsyncExitStack() as stack:

        @asynccontextmanager
        async def context(**settings: Any) -> AsyncIterator[Any]:
            made = await chromium.new_context(**settings)
            yield made
            await made.close()

        async def open_(
            size: tuple[int, int] = DESK,
            *,
            person: Person | None = None,
            has_own_time: bool = False,
            **settings: Any,
        ) -> Page:
            viewport = {"width": size[0], "height": size[1]}
            made = await stack.enter_async_context(context(viewport=viewport, **settings))
            person = person or site.person
            cookie = f"cookie-{len(site.commands.doors.cookies)}"
            site.commands.doors.cookies[cookie] = Guest(person=person, workspace=SPACE)
            url = site.own(SPACE)
            await made.add_cookies([{"name": "samovar-workspace", "value": cookie, "url": url}])
            await made.grant_permissions(["clipboard-read", "clipboard-write"], origin=url)
            page: Page = await made.new_page()
            if has_own_time:
                await page.clock.install()
            page.set_default_timeout(30_000)
            page.on("console", note)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            await page.goto(url)
            return page

        yield open_
    assert complaints == []


def the(site: Site) -> FakeTerminal:
    """The terminal that was opened last."""
    return list(site.commands.terminals_of.values())[-1]


def a_program(path: Path, text: str) -> str:
    """Write a Python program; return the command that runs it."""
    path.write_text(text)
    return f"{sys.executable} {path}"


RAW = """
import hashlib, os, sys, termios, tty
saved = termios.tcgetattr(0)
tty.setraw(0)
try:
    os.write(1, b"%(before)s ready\\r\\n")
    got = b""
    while %(more)s:
        got += os.read(0, 65536)
    os.write(1, b"%(after)s")
    %(then)s
finally:
    termios.tcsetattr(0, termios.TCSADRAIN, saved)
"""


def a_reader(path: Path, *, more: str, then: str, before: str = "", after: str = "") -> str:
    """A program that reads raw bytes as long as `more`, and then does `then`."""
    return a_program(path, RAW % {"more": more, "then": then, "before": before, "after": after})


# The page opens a shell, and shows the same to all who look


async def test_the_first_visit_opens_a_shell_that_answers(opened: Open, site: Site) -> None:
    page = await opened()
    await ready(page)
    await run(page, "echo $((6*7)) tea")
    await shows(page, "42 tea")
    assert len(site.commands.terminals_of) == 1


async def test_what_was_drawn_is_said_up_to_the_last_key(opened: Open, site: Site) -> None:
    page = await opened()
    await ready(page)
    await run(page, "echo one two")
    await shows(page, "one two")
    await until(lambda: [view.seen for view in the(site).views] == [the(site).end])


async def test_a_refresh_shows_the_same_screen_and_opens_nothing(opened: Open, site: Site) -> None:
    page = await opened()
    await ready(page)
    await run(page, "name=kettle; echo has $name")
    await shows(page, "has kettle")
    await ready(page)
    before = await text(page)
    await page.reload()
    await shows(page, "has kettle")
    assert await text(page) == before
    await run(page, "echo still $name")
    await shows(page, "still kettle")
    assert len(site.commands.terminals_of) == 1


async def test_a_second_device_shows_the_same_screen_at_once_and_both_see_all(
    opened: Open, site: Site
) -> None:
    first = await opened()
    await ready(first)
    await run(first, "echo from the first")
    await shows(first, "from the first")
    second = await opened()
    await shows(second, "from the first")
    await run(second, "echo from the second")
    await shows(second, "from the second")
    await shows(first, "from the second")
    assert len(site.commands.terminals_of) == 1


async def test_viewers_are_shown_by_name_and_who_only_looks_is_said_to(
    opened: Open, site: Site
) -> None:
    page = await opened()
    await ready(page)
    await expect(page.locator("#viewers li")).to_have_text(["Ana"])
    guest = await opened(person=a_person("viewer", "Vera"))
    await expect(page.locator("#viewers li")).to_have_text(["Ana", "Vera (read-only)"])
    await expect(guest.locator("#state")).to_have_text("connected, read-only")
    await expect(guest.get_by_role("button", name="New terminal")).to_be_hidden()
    typed = bytes(the(site).typed)
    await guest.keyboard.type("x")
    await expect(guest.locator("#remark")).to_contain_text("look only")
    assert bytes(the(site).typed) == typed
    await run(page, "echo on the go")
    await shows(guest, "on the go")
    await guest.close()
    await expect(page.locator("#viewers li")).to_have_text(["Ana"])


# The connection


async def test_after_a_cut_typing_is_blocked_and_then_all_goes_on_from_where_it_was(
    opened: Open, site: Site, tmp_path: Path
) -> None:
    page = await opened()
    await ready(page)
    go = tmp_path / "go"
    waiting = f"(until [ -e {go} ]; do sleep 0.1; done; seq -f 'line %g.' 1 200)"
    await run(page, f"echo one; {waiting} &")
    await shows(page, "one")
    terminal, tab = the(site), next(iter(site.commands.tabs))
    state = site.commands.tabs[tab]
    site.commands.tabs[tab] = replace(state, state="opening")  # The node is away: 4503.
    terminal.cut()
    await expect(page.locator("#notice")).to_contain_text("Not connected")
    await expect(page.locator("#state")).to_have_text("not connected")
    typed = bytes(terminal.typed)
    await page.locator(".screen").click()
    await page.keyboard.type("lost")
    await expect(page.locator("#remark")).to_contain_text("not sent")
    go.touch()
    await until(lambda: "line 200." in terminal.screen())
    site.commands.tabs[tab] = state
    await expect(page.locator("#notice")).to_be_hidden(timeout=30_000)
    await shows(page, "line 200.")
    shown = re.findall(r"line (\d+)\.", await text(page))
    assert shown == [f"{n}" for n in range(1, 201)]
    assert bytes(terminal.typed) == typed
    await run(page, "echo two")
    await shows(page, "two")


async def test_a_hundred_cuts_lose_and_repeat_nothing(opened: Open, site: Site) -> None:
    page = await opened()
    await ready(page)
    await run(page, "for n in $(seq 1 400); do echo count $n.; sleep 0.01; done; echo over")
    await shows(page, "count 1.")
    terminal = the(site)
    for _ in range(100):
        await until(lambda: terminal.views or "over\r\n" in terminal.screen().split("seq", 1)[1])
        terminal.cut()
    await shows(page, "over")
    shown = [line for line in (await text(page)).splitlines() if line.startswith("count ")]
    assert shown == [f"count {n}." for n in range(1, 401)]


async def test_w8_a_connection_that_fell_silent_is_noticed_and_made_anew(
    opened: Open, site: Site
) -> None:
    page = await opened(has_own_time=True)
    await ready(page)
    terminal = the(site)
    for n in range(1, 4):
        await page.clock.fast_forward(10_000)
        await until(lambda n=n: terminal.beats >= n)
    await expect(page.locator("#state")).to_have_text("connected")
    terminal.is_silent = True
    (before,) = terminal.views
    for _ in range(4):  # The last answer may be on its way until the second one.
        await page.clock.fast_forward(10_000)
    terminal.is_silent = False
    await until(lambda: terminal.views and before not in terminal.views)
    await expect(page.locator("#state")).to_have_text("connected")
    await run(page, "echo anew")
    await shows(page, "anew")


async def test_a_terminal_that_is_gone_is_said_and_not_dialled_again(
    opened: Open, site: Site
) -> None:
    page = await opened()
    await ready(page)
    the(site).cut(CLOSE_MISSING, "The container was removed.")
    await expect(page.locator("#notice-text")).to_have_text("The container was removed.")
    await page.keyboard.type("x")
    await expect(page.locator("#remark")).to_have_text("The container was removed.")


async def test_a_shell_that_is_being_opened_is_said_and_then_shown(
    opened: Open, site: Site
) -> None:
    site.commands.opens = False
    page = await opened()
    await expect(page.locator("#notice")).to_contain_text("being opened")
    await expect(page.locator(".tab-state")).to_have_text("opening")
    (tab,) = site.commands.tabs
    await site.commands.terminals_of[tab].open()
    site.commands.tabs[tab] = replace(site.commands.tabs[tab], state="open")
    await ready(page)
    await expect(page.locator("#notice")).to_be_hidden()


async def test_a_fast_program_waits_for_the_screen_and_its_last_line_is_shown(
    opened: Open, site: Site
) -> None:
    page = await opened()
    await ready(page)
    await run(page, "seq 1 500000; echo over")
    await shows(page, "over", within_s=100)
    assert "500000" in (await text(page)).splitlines()


async def test_a_first_look_that_failed_opens_no_second_shell(opened: Open, site: Site) -> None:
    page = await opened()
    await ready(page)
    tries: list[str] = []

    async def fail_once(route: Route) -> None:
        tries.append(route.request.url)
        await (route.abort() if len(tries) == 1 else route.continue_())

    await page.route("**/terminals", fail_once)
    await page.reload()
    await ready(page)
    assert len(tries) > 1
    assert len(site.commands.terminals_of) == 1


async def test_a_page_that_came_half_is_loaded_again(opened: Open, site: Site) -> None:
    page = await opened()
    await ready(page)
    tries: list[str] = []

    async def fail_once(route: Route) -> None:
        tries.append(route.request.url)
        await (route.abort() if len(tries) == 1 else route.continue_())

    await page.route("**/line.js", fail_once)
    await page.reload()
    await until(lambda: len(tries) == 2)
    await ready(page)


# What is typed and pasted


async def test_a_paste_of_100_kb_arrives_byte_for_byte_in_brackets(
    opened: Open, site: Site, tmp_path: Path
) -> None:
    words = "".join(f"{n} żółw 🫖 $(rm -rf) `x`\n" for n in range(4000))[:100_000]
    wanted = b"\x1b[200~" + words.replace("\n", "\r").encode() + b"\x1b[201~"
    page = await opened()
    await ready(page)
    program = a_reader(
        tmp_path / "reader.py",
        before=r"\x1b[?2004h",
        more=r'not got.endswith(b"\x1b[201~")',
        after=r"\x1b[?2004l",
        then="print(len(got), hashlib.sha256(got).hexdigest(), end='\\r\\n')",
    )
    await run(page, program)
    await shows(page, " ready")
    await page.evaluate("(words) => navigator.clipboard.writeText(words)", words)
    await page.get_by_role("button", name="Paste").first.click()
    await shows(page, f"{len(wanted)} {hashlib.sha256(wanted).hexdigest()}")


async def test_a_paste_by_keyboard_cannot_leave_its_brackets(
    opened: Open, site: Site, tmp_path: Path
) -> None:
    page = await opened()
    await ready(page)
    program = a_reader(
        tmp_path / "reader.py",
        before=r"\x1b[?2004h",
        more='b"end" not in got',
        after=r"\x1b[?2004l",
        then="print(repr(got), end='\\r\\n')",
    )
    await run(page, program)
    await shows(page, " ready")
    await page.evaluate("() => navigator.clipboard.writeText('a\\x1b[201~b end')")
    await page.keyboard.press("Control+Shift+V")
    await shows(page, r"b'\x1b[200~ab end\x1b[201~'")


async def test_what_is_typed_is_utf_8(opened: Open, site: Site) -> None:
    page = await opened()
    await ready(page)
    await page.keyboard.insert_text("echo żółw 🫖 中文")
    await page.keyboard.press("Enter")
    await shows(page, "żółw 🫖 中文")
    assert "żółw 🫖 中文".encode() in the(site).typed


async def test_what_is_selected_is_copied_by_button_and_by_keys(opened: Open, site: Site) -> None:
    page = await opened()
    await ready(page)
    await page.get_by_role("button", name="Copy").click()
    await expect(page.locator("#remark")).to_contain_text("Select something first")
    await run(page, "echo oolong-and-sencha")
    await shows(page, "oolong-and-sencha")
    x, y, _, _ = await place(page, "oolong-and-sencha")
    await page.mouse.dblclick(x, y)
    await page.get_by_role("button", name="Copy").click()
    await expect(page.locator("#remark")).to_have_text("Copied.")
    read = "() => navigator.clipboard.readText()"
    assert await page.evaluate(read) == "oolong-and-sencha"
    await page.evaluate("() => navigator.clipboard.writeText('')")
    await page.mouse.dblclick(x, y)
    await page.keyboard.press("Control+Shift+C")
    await until(lambda: page.evaluate(read))
    assert await page.evaluate(read) == "oolong-and-sencha"


async def test_ctrl_c_reaches_the_program(opened: Open, site: Site) -> None:
    page = await opened()
    await ready(page)
    # A shell would lose the signal where it comes just as its child ends.
    say = "lambda *_: print('caught', flush=True)"
    waits = f"signal.signal(signal.SIGINT, {say}); print('waits', flush=True); signal.pause()"
    await run(page, f'{sys.executable} -c "import signal; {waits}"')
    await shows(page, "waits")
    await page.keyboard.press("Control+C")
    await shows(page, "^Ccaught")


# Size


async def test_the_shell_has_the_size_of_the_window(opened: Open, site: Site) -> None:
    page = await opened()
    await ready(page)
    before = await size(page)
    await page.set_viewport_size({"width": 700, "height": 500})
    await until(lambda: the(site).size.columns < before[0])

    async def fits() -> bool:
        shown = the(site).size
        return await size(page) == (shown.columns, shown.rows)

    await until(fits)
    columns, rows = await size(page)
    await run(page, "stty size")
    await shows(page, f"{rows} {columns}")
    assert await page.evaluate(WIDE) == []


async def test_the_window_that_comes_to_the_front_gives_the_size(opened: Open, site: Site) -> None:
    large = await opened()
    await ready(large)
    wide = the(site).size
    small = await opened(PHONE)
    await until(lambda: the(site).size.columns < wide.columns)

    async def has(page: Page, wanted: Size) -> bool:
        return await size(page) == (wanted.columns, wanted.rows)

    async def is_back() -> bool:
        """What the other window says as it opens may come only now."""
        await large.evaluate("() => dispatchEvent(new Event('focus'))")
        return the(site).size == wide and await has(small, wide)

    await until(lambda: has(large, the(site).size))
    await until(is_back)
    assert await small.evaluate(WIDE) == []


# Search, links, mouse, colours


async def test_what_was_written_can_be_searched(opened: Open, site: Site) -> None:
    page = await opened()
    await ready(page)
    await run(page, "seq -f 'cup %g' 1 300")
    await shows(page, "cup 300")
    await page.keyboard.press("Control+Shift+F")
    box = page.get_by_label("Search for")
    await expect(box).to_be_focused()
    await box.press_sequentially("cup 17")
    await expect(page.locator("#find-count")).to_contain_text("of 11")
    await box.press("Enter")
    selected = "() => document.querySelector('.screen').terminal.getSelection()"
    assert await page.evaluate(selected) == "cup 17"
    await box.fill("samovar-nowhere")
    await expect(page.locator("#find-count")).to_have_text("nothing")
    await box.press("Escape")
    await expect(page.locator("#find")).to_be_hidden()
    await run(page, "echo back")
    await shows(page, "back")


async def test_an_https_link_opens_elsewhere_and_no_other_does(opened: Open, site: Site) -> None:
    page = await opened()
    await page.context.route("https://tea.example/**", lambda route: route.fulfill(body="tea"))
    await ready(page)
    await run(page, "printf 'see %s://tea.example/%s now\\n' https green http black")
    await shows(page, "see https://tea.example/green now")
    x, y, _, _ = await place(page, "https://tea.example/green")
    await page.mouse.move(x, y)
    async with page.context.expect_page() as popped:
        await page.mouse.click(x, y)
    other = await popped.value
    await other.wait_for_url("https://tea.example/green")
    assert await other.evaluate("() => window.opener") is None
    assert await other.evaluate("() => document.referrer") == ""
    await other.close()
    x, y, _, _ = await place(page, "http://tea.example/black")
    await page.mouse.move(x, y)
    await page.mouse.click(x, y)
    await run(page, "echo stayed")
    await shows(page, "stayed")
    assert len(page.context.pages) == 1


async def test_a_link_behind_other_words_asks_before_it_opens(opened: Open, site: Site) -> None:
    page = await opened()
    await page.context.route("https://tea.example/**", lambda route: route.fulfill(body="tea"))
    await ready(page)
    await run(page, r"printf '\e]8;;https://tea.example/oolong\e\\click-me\e]8;;\e\\\n'")
    await shows(page, "click-me")
    x, y, _, _ = await place(page, "click-me")
    await page.mouse.move(x, y)
    await page.mouse.click(x, y)
    asking = page.get_by_role("dialog")
    await expect(asking).to_contain_text("https://tea.example/oolong")
    async with page.context.expect_page() as popped:
        await asking.get_by_role("button", name="Open it").click()
    await (await popped.value).wait_for_url("https://tea.example/oolong")


async def test_a_program_that_takes_the_mouse_gets_it(
    opened: Open, site: Site, tmp_path: Path
) -> None:
    page = await opened()
    await ready(page)
    program = a_reader(
        tmp_path / "mouse.py",
        before=r"\x1b[?1000h\x1b[?1006h",
        more='b"m" not in got',
        after=r"\x1b[?1000l\x1b[?1006l",
        then="print(repr(got), end='\\r\\n')",
    )
    await run(page, program)
    await shows(page, " ready")
    _, y, left, _ = await place(page, " ready")
    await page.mouse.click(left + 2, y)

    async def reported() -> bool:
        found = re.search(r"b'\\x1b\[<0;(\d+);(\d+)M\\x1b\[<0;\1;\2m'", await text(page))
        return found is not None and found[1] == "1"

    await until(reported)


async def test_true_colour_and_wide_characters_are_in_their_cells(opened: Open, site: Site) -> None:
    page = await opened()
    await ready(page)
    await run(page, r"printf '=\e[38;2;1;2;255mA\e[0m中🫖é|\n'")
    await shows(page, "=A中🫖é|")
    found = await cells(page, "=A")
    assert [(cell["text"], cell["width"]) for cell in found if cell["width"]] == [
        ("=", 1),
        ("A", 1),
        ("中", 2),
        ("🫖", 2),
        ("é", 1),
        ("|", 1),
    ]
    assert found[1]["rgb"]
    assert found[1]["colour"] == 0x0102FF


async def test_one_of_those_who_look_answers_what_programs_ask(
    opened: Open, site: Site, tmp_path: Path
) -> None:
    page = await opened()
    await ready(page)
    program = a_reader(
        tmp_path / "asker.py",
        before=r"\x1b[c",
        more='not got.endswith(b"q")',
        then="print(repr(got), end='\\r\\n')",
    )
    other = await opened(person=a_person("member", "Ben"))
    await shows(other, "$")
    guest = await opened(person=a_person("viewer", "Vera"))
    await shows(guest, "$")
    await page.evaluate("() => dispatchEvent(new Event('focus'))")
    await run(page, program)
    await shows(page, " ready")
    await shows(other, " ready")
    await shows(guest, " ready")
    await until(lambda: b"\x1b[?1;2c" in the(site).typed)
    await page.keyboard.type("q")
    await shows(page, r"b'\x1b[?1;2cq'")
    await page.reload()
    await shows(page, r"b'\x1b[?1;2cq'")
    assert bytes(the(site).typed).count(b"\x1b[?1;2c") == 1, "what is painted is not answered"


@pytest.mark.parametrize(
    ("program", "sign", "leave"),
    [("vim -u NONE -n", "~", ":q!\r"), ("less /etc/services", "tcp", "q"), ("top", "PID", "q")],
)
async def test_full_screen_programs_draw_and_leave(
    program: str, sign: str, leave: str, opened: Open, site: Site
) -> None:
    name = program.partition(" ")[0]
    if shutil.which(name) is None:
        lacking(name)
    page = await opened()
    await ready(page)
    await run(page, f"echo before; {program}")

    async def is_drawn() -> bool:
        shown = await text(page)
        return sign in shown and "before" not in shown.splitlines()

    await until(is_drawn)
    if program.startswith("vim"):
        await page.keyboard.type("ihello tea")
        await page.keyboard.press("Escape")
        await shows(page, "hello tea")
        before = await text(page)
        await page.reload()
        await shows(page, "hello tea")
        assert (await text(page)).splitlines()[0] == before.splitlines()[0]
    await page.keyboard.type(leave)
    await ready(page)
    await run(page, "echo after")
    await shows(page, "after")


# Tabs


def tab(page: Page, name: str) -> Any:
    return page.get_by_role("tab", name=re.compile(rf"^{name}"))


async def new_tab(page: Page, name: str) -> None:
    """Open one more shell and wait for its prompt."""
    await page.get_by_role("button", name="New terminal").first.click()
    await expect(tab(page, name)).to_have_attribute("aria-selected", "true")
    await ready(page)


async def test_a_new_tab_is_a_shell_of_its_own(opened: Open, site: Site) -> None:
    page = await opened()
    await ready(page)
    await run(page, "mine=first; echo is $mine")
    await shows(page, "is first")
    await new_tab(page, "Shell 2")
    await run(page, "echo is ${mine:-none}")
    await shows(page, "is none")
    await tab(page, "Shell 1").click()
    await shows(page, "is first")
    await run(page, "echo again $mine")
    await shows(page, "again first")
    await page.reload()
    await expect(tab(page, "Shell 1")).to_have_attribute("aria-selected", "true")


async def test_an_answer_from_before_a_shell_was_opened_does_not_take_it_away(
    opened: Open, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = await opened()
    await ready(page)
    held, let_go, at_once = asyncio.Event(), asyncio.Event(), site.commands.terminals

    async def late(*words: Any) -> Sequence[TerminalView]:
        found = await at_once(*words)
        if not held.is_set():
            held.set()
            await let_go.wait()
        return found

    monkeypatch.setattr(site.commands, "terminals", late)
    await look_again(page)
    await held.wait()
    await new_tab(page, "Shell 2")
    async with page.expect_response("**/terminals"):
        let_go.set()
    async with page.expect_response("**/terminals"):
        await look_again(page)
    await expect(page.locator(".tab-title")).to_have_text(["Shell 1", "Shell 2"])
    await expect(tab(page, "Shell 2")).to_have_attribute("aria-selected", "true")


async def look_again(page: Page) -> None:
    """Let a page look for tabs now."""
    await page.evaluate("() => document.dispatchEvent(new Event('visibilitychange'))")


async def test_a_tab_is_renamed_by_a_double_click_and_by_f2_for_all(
    opened: Open, site: Site
) -> None:
    page = await opened()
    await ready(page)
    await tab(page, "Shell 1").dblclick()
    box = page.get_by_label("Name of the terminal")
    await box.fill("logs <b>")
    await box.press("Enter")
    await expect(tab(page, "logs <b>")).to_be_focused()
    other = await opened()
    await expect(tab(other, "logs <b>")).to_be_visible()
    await tab(page, "logs").press("F2")
    await box.fill("never")
    await box.press("Escape")
    await expect(tab(page, "logs <b>")).to_be_visible()
    assert [one.title for one in site.commands.tabs.values()] == ["logs <b>"]


async def names(page: Page) -> list[str]:
    return await page.locator(".tab-title").all_inner_texts()


async def test_tabs_are_moved_by_dragging_and_by_keys(opened: Open, site: Site) -> None:
    page = await opened()
    await ready(page)
    await new_tab(page, "Shell 2")
    await new_tab(page, "Shell 3")
    await page.locator(".tab").nth(0).drag_to(page.locator(".tab").nth(2))
    await expect(page.locator(".tab-title")).to_have_text(["Shell 2", "Shell 3", "Shell 1"])
    await tab(page, "Shell 3").focus()
    await page.keyboard.press("Control+Shift+ArrowLeft")
    await expect(page.locator(".tab-title")).to_have_text(["Shell 3", "Shell 2", "Shell 1"])
    await page.keyboard.press("ArrowRight")
    await expect(tab(page, "Shell 2")).to_have_attribute("aria-selected", "true")
    other = await opened()
    await expect(other.locator(".tab-title")).to_have_text(["Shell 3", "Shell 2", "Shell 1"])


async def test_closing_a_tab_asks_while_it_runs_and_ends_what_runs(
    opened: Open, site: Site
) -> None:
    page = await opened()
    await ready(page)
    await new_tab(page, "Shell 2")
    second = the(site)
    await page.get_by_role("button", name="Close Shell 2").click()
    asking = page.get_by_role("dialog")
    await expect(asking).to_contain_text("still runs")
    await asking.get_by_role("button", name="Keep it").click()
    await run(page, "echo alive")
    await shows(page, "alive")
    await page.get_by_role("button", name="Close Shell 2").click()
    await asking.get_by_role("button", name="Close it").click()
    await expect(page.locator(".tab-title")).to_have_text(["Shell 1"])
    await until(lambda: second._process is not None and second._process.returncode is not None)
    await expect(tab(page, "Shell 1")).to_have_attribute("aria-selected", "true")
    await page.get_by_role("button", name="Close Shell 1").click()
    await asking.get_by_role("button", name="Close it").click()
    await expect(page.locator("#empty")).to_be_visible()
    await page.locator("#empty-new").click()
    await ready(page)


@pytest.mark.parametrize(
    ("command", "badge", "words"),
    [("exit 3", "exit 3", "exit code 3"), ("kill -9 $$", "signal 9", "killed by signal 9")],
)
async def test_the_exit_code_is_in_the_tab_and_in_the_terminal(
    command: str, badge: str, words: str, opened: Open, site: Site
) -> None:
    page = await opened()
    await ready(page)
    await run(page, command)
    await shows(page, f"[The shell ended: {words}]")
    await expect(page.locator(".tab-state")).to_have_text(badge)
    await page.keyboard.type("x")
    await expect(page.locator("#remark")).to_contain_text("has ended")
    await page.reload()
    await shows(page, f"[The shell ended: {words}]")
    await expect(page.locator(".tab-state")).to_have_text(badge)
    await page.get_by_role("button", name="Close Shell 1").click()
    await expect(page.locator("#empty")).to_be_visible()


async def test_why_a_terminal_could_not_be_opened_is_said(opened: Open, site: Site) -> None:
    site.commands.opens = False
    page = await opened()
    await expect(page.locator(".tab-state")).to_have_text("opening")
    (name,) = site.commands.tabs
    why = "The container has no shell."
    site.commands.tabs[name] = replace(site.commands.tabs[name], state="exited", error=why)
    await expect(page.locator("#notice-text")).to_have_text(why)
    await expect(page.locator(".tab-state")).to_have_text("ended")


async def test_why_no_terminal_opens_stays_on_the_page_until_one_does(
    opened: Open, site: Site
) -> None:
    why = f"{SPACE} is not ready yet: it is building. Try again when it is."
    site.commands.fail_next["open_terminal"] = UserError(why)
    page = await opened()
    await expect(page.locator("#empty")).to_contain_text(why)
    await page.locator("#empty-new").click()
    await ready(page)
    await expect(page.locator("#empty")).to_be_hidden()


async def test_the_keyboard_alone_reaches_everything(opened: Open, site: Site) -> None:
    page = await opened()
    await ready(page)
    await page.keyboard.press("Control+F6")
    await expect(tab(page, "Shell 1")).to_be_focused()
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="New terminal").first).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(tab(page, "Shell 2")).to_have_attribute("aria-selected", "true")
    await ready(page)
    await page.keyboard.press("Control+F6")
    await expect(tab(page, "Shell 2")).to_be_focused()
    await page.keyboard.press("Delete")
    await expect(page.get_by_role("dialog")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.locator(".tab")).to_have_count(2)
    unnamed = await page.evaluate(
        "() => [...document.querySelectorAll('button, input, a, textarea')]"
        ".filter((e) => !(e.ariaLabel || e.textContent.trim() || e.querySelector('img[alt]')))"
        ".map((e) => e.outerHTML)"
    )
    assert unnamed == []


# Phones


async def test_a_phone_has_the_keys_that_its_keyboard_has_not(
    opened: Open, site: Site, tmp_path: Path
) -> None:
    page = await opened(PHONE, has_touch=True, is_mobile=True)
    await ready(page)
    bar = page.get_by_role("toolbar", name="More keys")
    await expect(bar).to_be_visible()
    assert await page.evaluate(WIDE) == []
    assert await bar.evaluate("(bar) => bar.scrollWidth <= bar.clientWidth"), "all keys are seen"
    program = a_reader(
        tmp_path / "keys.py",
        more='not got.endswith(b"q")',
        then="print(repr(got), end='\\r\\n')",
    )
    await run(page, program)
    await shows(page, " ready")
    for key in ("Escape", "Tab", "Up", "Vertical bar", "Slash", "Tilde", "Control"):
        await bar.get_by_role("button", name=key, exact=True).tap()
    control = bar.get_by_role("button", name="Control")
    await expect(control).to_have_attribute("aria-pressed", "true")
    await page.keyboard.type("c")
    await control.tap()
    await expect(control).to_have_attribute("aria-pressed", "true")
    await bar.get_by_role("button", name="Left").tap()
    await expect(control).to_have_attribute("aria-pressed", "false")
    await page.keyboard.type("q")
    await shows(page, r"b'\x1b\t\x1b[A|/~\x03\x1b[1;5Dq'")


async def test_a_desk_has_no_such_bar(opened: Open, site: Site) -> None:
    page = await opened()
    await expect(page.get_by_role("toolbar", name="More keys")).to_be_hidden()


async def test_the_phones_keyboard_hides_nothing(opened: Open, site: Site) -> None:
    page = await opened(PHONE, has_touch=True, is_mobile=True)
    await ready(page)
    rows = the(site).size.rows
    await page.evaluate(
        """() => {
          Object.defineProperty(visualViewport, "height", { value: 480, configurable: true });
          visualViewport.dispatchEvent(new Event("resize"));
        }"""
    )
    await until(lambda: the(site).size.rows < rows)
    box = await page.get_by_role("toolbar", name="More keys").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 480


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", [PHONE, DESK])
async def test_the_page_fits_its_screen_and_can_be_read(
    screen: tuple[int, int], scheme: str, opened: Open, site: Site
) -> None:
    phone = {"has_touch": True, "is_mobile": True} if screen == PHONE else {}
    page = await opened(screen, color_scheme=scheme, **phone)
    await ready(page)
    await run(page, "ls --color=always /; printf '\\e[93mbright yellow\\e[0m\\n'; exit 3")
    await shows(page, "bright yellow")
    await expect(page.locator(".tab-state")).to_have_text("exit 3")
    await page.get_by_role("button", name="Search").click()
    assert await page.evaluate(WIDE) == []
    assert await page.evaluate(CONTRAST) == []


async def test_without_xterm_the_page_says_what_is_missing(chromium: Browser) -> None:
    setup = Setup(xterm=None)
    await tell(setup.commands, setup.person)
    setup.commands.doors.cookies["c"] = Guest(person=setup.person, workspace=SPACE)
    async with a_site(setup) as site:
        context = await chromium.new_context()
        url = site.own(SPACE)
        await context.add_cookies([{"name": "samovar-workspace", "value": "c", "url": url}])
        page = await context.new_page()
        await page.goto(url)
        await expect(page.get_by_role("heading")).to_have_text("The terminal is not installed")
        await expect(page.locator(".command")).to_have_text("./samovar doctor")
        await context.close()
    assert TerminalId(f"{SPACE}.t1") not in setup.commands.tabs
