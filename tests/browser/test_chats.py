"""Chats beside the shells in real Chromium, on a desk and on a phone."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, FrameLocator, Locator, Page, expect

from core.access import Person
from core.errors import QuotaError
from core.ids import TaskId, WorkspaceId
from core.ports.commands import ChatView, Guest
from tests.browser.test_pages import DESK, PHONE, WIDE
from tests.fakes.commands import a_person, a_result
from tests.fakes.serving import until
from tests.fakes.terminal_page import ready
from tests.fakes.web import Site

pytestmark = pytest.mark.browser
SPACE = WorkspaceId("k3v9x204")
OWN = TaskId("T-4")
Open = Callable[..., Any]
EXPECTED = "WebSocket connection|status of 4(0[0-9]|29)|net::ERR_"
both = pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])


@pytest_asyncio.fixture(loop_scope="session")
async def opened(chromium: Browser, site: Site) -> AsyncIterator[Open]:
    """Give a way to open a workspace's page as a person on a new device."""
    complaints: list[str] = []
    async with AsyncExitStack() as stack:

        @asynccontextmanager
        async def context(**settings: Any) -> AsyncIterator[Any]:
            made = await chromium.new_context(**settings)
            yield made
            await made.close()

        async def open_(
            size: tuple[int, int] = DESK, at: str = "", person: Person | None = None
        ) -> Page:
            settings = {"viewport": {"width": size[0], "height": size[1]}}
            if size == PHONE:
                settings |= {"has_touch": True, "is_mobile": True}
            made = await stack.enter_async_context(context(**settings))
            cookie = f"cookie-{len(site.commands.doors.cookies)}"
            guest = Guest(person=person or site.person, workspace=SPACE)
            site.commands.doors.cookies[cookie] = guest
            url = site.own(SPACE)
            await made.add_cookies([{"name": "samovar-workspace", "value": cookie, "url": url}])
            page: Page = await made.new_page()
            page.set_default_timeout(30_000)
            page.on(
                "console",
                lambda said: (
                    said.type == "error"
                    and not re.search(EXPECTED, said.text)
                    and complaints.append(said.text)
                ),
            )
            page.on("pageerror", lambda error: complaints.append(str(error)))
            await page.goto(url + at)
            if not at:
                await expect(tab(page, "Shell")).to_have_attribute("aria-selected", "true")
            return page

        yield open_
    assert complaints == []


def talk(page: Page) -> FrameLocator:
    """What the conversation's frame shows."""
    return page.frame_locator("iframe.talk-frame:not(.is-loading)")


def tab(page: Page, name: str) -> Locator:
    return page.get_by_role("tab", name=name)


async def asked(page: Page, words: str) -> None:
    """Open a chat with the button, by words and Enter."""
    await page.get_by_role("button", name="New chat", exact=True).click()
    box = talk(page).get_by_label("Message")
    await box.fill(words)
    await box.press("Enter")
    await expect(talk(page).locator(".line").get_by_text(words)).to_be_visible()
    await expect(tab(page, words)).to_have_attribute("aria-selected", "true")


def chat_of(site: Site, words: str) -> TaskId:
    return next(task for task, view in site.commands.views.items() if view.prompt == words)


@both
async def test_a_chat_is_opened_beside_the_shell_and_streams(
    opened: Open, site: Site, size: tuple[int, int]
) -> None:
    page = await opened(size)
    await expect(tab(page, "Shell 1")).to_have_attribute("aria-selected", "true")
    await asked(page, "Why is it slow?")
    chat = chat_of(site, "Why is it slow?")
    await expect(page).to_have_url(f"{site.own(SPACE)}/#{chat}")
    await until(lambda: site.commands.listening(site.commands.session(chat)))
    site.commands.speak(chat, "session.state", state="busy", reason="")
    await expect(talk(page).get_by_text("At work")).to_be_visible()
    site.commands.write(chat, "m1", "Because of")
    await expect(talk(page).locator(".ev-draft")).to_have_text("Because of")
    site.commands.speak(chat, "message.text", message="m1", text="Because of **tea**.")
    await expect(talk(page).locator("strong")).to_have_text("tea")
    await expect(talk(page).locator(".ev-draft")).to_have_count(0)
    site.commands.speak(
        chat, "tool.start", tool="t1", name="Bash", title="ls", input={"command": "ls -la"}
    )
    folded = talk(page).locator("details.fold", has_text="Bash")
    await expect(folded.locator(".input")).to_be_hidden()
    await folded.locator("summary").click()
    await expect(folded.locator(".input")).to_contain_text("ls -la")
    site.commands.speak(chat, "session.state", state="idle", reason="")
    await expect(talk(page).get_by_text("At work")).to_be_hidden()
    assert await page.evaluate(WIDE) == []
    frame = page.frame(url=re.compile(r"/chats/T-"))
    assert frame is not None
    assert await frame.evaluate(WIDE) == []
    await tab(page, "Shell 1").click()
    await ready(page)
    await expect(page.locator("iframe.talk-frame")).to_have_count(0)


@both
async def test_enter_sends_shift_enter_begins_a_line_and_a_draft_is_kept(
    opened: Open, site: Site, size: tuple[int, int]
) -> None:
    page = await opened(size)
    await asked(page, "First")
    box = talk(page).get_by_label("Message")
    await box.fill("one")
    await box.press("Shift+Enter")
    await box.press_sequentially("two")
    await expect(box).to_have_value("one\ntwo")
    await tab(page, "Shell 1").click()
    await tab(page, "First").click()
    await expect(box).to_have_value("one\ntwo")
    await page.reload()
    await expect(box).to_have_value("one\ntwo")
    await box.press("Enter")
    await expect(talk(page).locator(".line", has_text="two")).to_be_visible()
    await expect(box).to_have_value("")
    assert site.commands.views[chat_of(site, "First")].lines[-1].text == "one\ntwo"


@both
async def test_stop_ends_the_turn_and_the_chat_goes_on(
    opened: Open, site: Site, size: tuple[int, int]
) -> None:
    page = await opened(size)
    await asked(page, "Count")
    chat = chat_of(site, "Count")
    stop = talk(page).get_by_role("button", name="Stop")
    await expect(stop).to_be_hidden()
    site.commands.speak(chat, "session.state", state="busy", reason="")
    await stop.click()
    await expect(stop).to_be_hidden()
    assert ("stop", chat) in site.commands.calls
    await expect(talk(page).get_by_label("Message")).to_be_enabled()


@both
async def test_a_question_shows_on_the_tab_and_is_answered_by_a_button(
    opened: Open, site: Site, size: tuple[int, int]
) -> None:
    page = await opened(size)
    await asked(page, "Paint it")
    chat = chat_of(site, "Paint it")
    options = [{"label": "red", "description": "warm"}, {"label": "blue", "description": ""}]
    question = {"text": "Which colour?", "header": "Colour", "options": options}
    site.commands.ask(chat, questions=(question,), title="Which colour?")
    await talk(page).get_by_role("button", name="red").click()
    await expect(talk(page).get_by_role("button", name="red")).to_have_count(0)
    answers = [what for name, what in site.commands.calls if name == "answer"]
    assert answers[-1][3] == {"Which colour?": "red"}


async def test_the_tab_of_a_chat_that_asks_says_so(opened: Open, site: Site) -> None:
    page = await opened()
    await asked(page, "Paint it")
    await tab(page, "Shell 1").click()
    site.commands.ask(chat_of(site, "Paint it"), title="May I?", kind="permission")
    await expect(tab(page, "Paint it").locator(".tab-state")).to_have_text("asks you")


@both
async def test_the_tasks_own_conversation_is_read_and_steered_and_cannot_be_closed(
    opened: Open, site: Site, size: tuple[int, int]
) -> None:
    site.commands.talk(OWN, SPACE, is_own=True)
    page = await opened(size)
    title = site.commands.views[OWN].card.title
    await tab(page, title).click()
    box = talk(page).get_by_label("Message")
    await box.fill("Look at refunds as well")
    await box.press("Enter")
    await expect(talk(page).locator(".line", has_text="refunds as well")).to_be_visible()
    assert site.commands.views[OWN].lines[-1].text == "Look at refunds as well"
    await expect(page.get_by_role("button", name=f"Close {title}")).to_have_count(0)


async def test_chats_are_renamed_moved_and_closed_like_shells(opened: Open, site: Site) -> None:
    page = await opened()
    for words in ("one", "two"):
        await asked(page, words)
    await tab(page, "two").click()
    await page.keyboard.press("Control+F6")
    await expect(tab(page, "two")).to_be_focused()
    await page.keyboard.press("F2")
    await page.get_by_label("Name of the chat").fill("second")
    await page.keyboard.press("Enter")
    await expect(tab(page, "second")).to_be_visible()
    await tab(page, "second").focus()
    await page.keyboard.press("Control+Shift+ArrowLeft")
    titles = page.locator(".tab-title")
    await expect(titles).to_have_text(["second", "one", "Shell 1"])
    await tab(page, "second").focus()
    await page.keyboard.press("Delete")
    await page.get_by_role("button", name="Close it").click()
    await expect(titles).to_have_text(["one", "Shell 1"])
    assert ("close_chat", chat_of(site, "two")) in site.commands.calls


async def test_a_chat_that_was_not_begun_is_thrown_away(opened: Open, site: Site) -> None:
    page = await opened()
    await page.get_by_role("button", name="New chat", exact=True).click()
    await expect(talk(page).get_by_role("heading", name="New chat", exact=True)).to_be_visible()
    await page.get_by_role("button", name="Close New chat").click()
    await expect(page.locator(".tab-title")).to_have_text(["Shell 1"])
    assert site.commands.talks == {}


async def test_a_refusal_is_said_and_the_words_stay(opened: Open, site: Site) -> None:
    page = await opened()
    site.commands.fail_next["new_chat"] = QuotaError("There are 8 chats already. Close one first.")
    await page.get_by_role("button", name="New chat", exact=True).click()
    box = talk(page).get_by_label("Message")
    await box.fill("One more")
    await box.press("Enter")
    await expect(talk(page).get_by_text("Close one first")).to_be_visible()
    await expect(box).to_have_value("One more")


async def test_p1_words_that_are_sent_again_after_another_tab_was_looked_at_are_one_chat(
    opened: Open, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = await opened()
    held, let_go, at_once = asyncio.Event(), asyncio.Event(), site.commands.new_chat

    async def slow(*words: Any, **more: Any) -> ChatView:
        made = await at_once(*words, **more)
        held.set()
        await let_go.wait()
        return made

    monkeypatch.setattr(site.commands, "new_chat", slow)
    await page.get_by_role("button", name="New chat").click()
    box = talk(page).get_by_label("Message")
    await box.fill("Why?")
    await box.press("Enter")
    await held.wait()
    await tab(page, "Shell 1").click()
    await expect(page.locator("iframe.talk-frame")).to_have_count(0)
    let_go.set()
    await tab(page, "New chat").click()
    await expect(box).to_have_value("Why?")
    await box.press("Enter")
    await expect(talk(page).locator(".line").get_by_text("Why?")).to_be_visible()
    assert len(site.commands.talks) == 1
    await box.fill("And the till?")
    await box.press("Enter")
    await expect(talk(page).locator(".line").get_by_text("And the till?")).to_be_visible()


async def test_a_conversation_that_does_not_come_is_said_and_comes_later(
    opened: Open, site: Site
) -> None:
    page = await opened()
    await asked(page, "Why?")
    await tab(page, "Shell 1").click()
    at = re.compile(r"/chats/T-\d+$")
    await page.route(at, lambda route: route.abort())
    await tab(page, "Why?").click()
    await expect(page.locator("#notice")).to_contain_text("Not connected. Trying again")
    await page.unroute(at)
    await expect(talk(page).locator(".line").get_by_text("Why?")).to_be_visible()
    await expect(page.locator("#notice")).to_be_hidden()


async def test_arrow_keys_pass_the_tab_of_a_chat_and_its_panel_is_named(
    opened: Open, site: Site
) -> None:
    page = await opened()
    for words in ("one", "two"):
        await asked(page, words)
    await expect(talk(page).get_by_label("Message")).to_be_focused()
    await page.keyboard.press("Control+F6")
    await expect(tab(page, "two")).to_be_focused()
    await page.keyboard.press("ArrowLeft")
    await expect(talk(page).locator(".line").get_by_text("one")).to_be_visible()
    await expect(tab(page, "one")).to_be_focused()
    panel = page.get_by_role("tabpanel", name="one")
    await expect(panel).to_have_id(await tab(page, "one").get_attribute("aria-controls") or "")
    await page.keyboard.press("End")
    await expect(tab(page, "Shell 1")).to_be_focused()
    await tab(page, "two").click()
    await expect(talk(page).get_by_label("Message")).to_be_focused()


async def test_a_second_device_sees_the_same_at_once(opened: Open, site: Site) -> None:
    page = await opened()
    await asked(page, "Why?")
    chat = chat_of(site, "Why?")
    site.commands.speak(chat, "message.text", message="m1", text="Because.")
    other = await opened(PHONE, f"/#{chat}")
    await expect(talk(other).get_by_text("Because.")).to_be_visible()
    box = talk(other).get_by_label("Message")
    await box.fill("From the phone")
    await box.press("Enter")
    await expect(talk(page).locator(".line", has_text="From the phone")).to_be_visible()


async def test_whoever_may_only_look_reads_and_has_no_box(opened: Open, site: Site) -> None:
    page = await opened()
    await asked(page, "Why?")
    chat = chat_of(site, "Why?")
    looking = await opened(DESK, f"/#{chat}", a_person("viewer", "Vera"))
    await expect(talk(looking).locator(".line", has_text="Why?")).to_be_visible()
    await expect(talk(looking).get_by_label("Message")).to_be_hidden()
    await expect(looking.get_by_role("button", name="New chat", exact=True)).to_be_hidden()


async def test_an_ended_chat_says_why_and_a_message_wakes_it(opened: Open, site: Site) -> None:
    page = await opened()
    await asked(page, "Why?")
    chat = chat_of(site, "Why?")
    why = "The coding agent ended before it was done."
    site.commands.finish(chat, a_result(headline="Failed", advice=why), state="failed")
    await expect(talk(page).locator("#talk-standing")).to_contain_text(why)
    await expect(tab(page, "Why?").locator(".tab-state")).to_have_text("ended")
    await expect(talk(page).get_by_label("Message")).to_be_visible()
