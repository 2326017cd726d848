"""The pages in real Chromium: what people see and press."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, expect

from core.ids import TaskId
from tests.fakes.commands import a_person, a_result
from tests.fakes.serving import until
from tests.fakes.story import DIFF, tell, tool
from tests.fakes.web import Setup, Site, a_site

pytestmark = pytest.mark.browser

PHONE, DESK = (390, 844), (1280, 800)
EXPECTED = "status of 403|ERR_NETWORK_CHANGED"
"""What a browser says of refusals, as asked, and of networks that change."""


@pytest_asyncio.fixture(loop_scope="session")
async def site() -> AsyncIterator[Site]:
    setup = Setup()
    await tell(setup.commands, setup.person)
    setup.sign_in.tokens["once"] = setup.person
    async with a_site(setup) as running:
        yield running


Open = Callable[..., Any]


@pytest_asyncio.fixture(loop_scope="session")
async def opened(chromium: Browser, site: Site) -> AsyncIterator[Open]:
    """Give a way to open a page; at the end no page may have complained."""
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
            path: str, size: tuple[int, int] = DESK, *, signed_in: bool = True, **settings: Any
        ) -> Page:
            viewport = {"width": size[0], "height": size[1]}
            made = await stack.enter_async_context(context(viewport=viewport, **settings))
            if signed_in:
                cookie = {"name": "samovar", "value": site.cookie, "url": site.url}
                await made.add_cookies([cookie])
            page: Page = await made.new_page()
            page.set_default_timeout(30_000)
            page.on("console", note)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            await page.goto(site.url + path)
            return page

        yield open_
    assert complaints == []


@pytest.mark.parametrize("size", [PHONE, DESK])
async def test_from_a_question_to_a_pull_request(
    size: tuple[int, int], opened: Open, site: Site
) -> None:
    page = await opened("/", size)
    box = page.get_by_label("What should be done?")
    await page.get_by_label("Project", exact=True).select_option("web")
    await box.fill("Round totals half up")
    await box.press("Shift+Enter")
    await box.press_sequentially("and test it")
    await box.press("Enter")
    card = page.locator("#task-T-6")
    await expect(card).to_contain_text("Round totals half up")
    assert site.commands.views[TaskId("T-6")].prompt == "Round totals half up\nand test it"
    await expect(box).to_have_value("")

    task = TaskId("T-6")
    site.commands.begin(task)
    await expect(card.locator(".pill")).to_have_text("working")
    await card.get_by_role("link", name="Round totals").click()
    site.commands.step(task, "Workspace", "doing", "building", took_s=5.0, usual_s=9.0)
    ticking = page.locator("#card-steps .ticks")
    await expect(ticking).to_have_text(re.compile(r"^([6-9]\.\d|[1-9]\d) s$"))
    site.commands.step(task, "Workspace", "done", "ready", took_s=8.0)

    await until(lambda: site.commands.listening(site.commands.session(task)))
    site.commands.write(task, "m1", "I will lo")
    await expect(page.locator(".ev-draft")).to_have_text("I will lo")
    site.commands.write(task, "m1", "ok at it.")
    await expect(page.locator(".ev-draft")).to_have_text("I will look at it.")
    site.commands.speak(task, "message.text", message="m1", text="I will **look** at it.")
    await expect(page.locator(".ev-draft")).to_have_count(0)
    await expect(page.locator(".ev-message_text strong")).to_have_text("look")

    tool(site.commands, task, "Edit", "cart.py")
    edit = page.locator(".ev-tool_start")
    await expect(edit.locator(".outcome")).to_have_text("")
    await edit.locator("summary").click()
    number = site.commands.told[site.commands.session(task)][-1].data["tool"]
    site.commands.speak(task, "tool.end", tool=number, ok=True, summary="+2 -1", diff=DIFF)
    await expect(edit.locator(".outcome")).to_have_text("+2 -1")
    await expect(edit.locator(".diff .add").first).to_be_visible()
    await expect(page.locator(".ev-tool_end")).to_have_count(0)

    options = [{"label": "Half up", "description": "as in tax law"}, {"label": "Half even"}]
    site.commands.ask(
        task,
        title="Which rounding?",
        questions=({"text": "How?", "options": options, "multiple": False},),
    )
    await page.get_by_role("button", name="Half up").click()
    await expect(page.locator("#card-questions .answered")).to_have_text("Ana: Half up")

    reply = page.get_by_label("Reply")
    await reply.fill("Refunds too")
    later = page.get_by_role("button", name="When idle")
    await later.click()
    await expect(page.locator(".line .receipt")).to_have_text("waits until the agent is idle")

    site.commands.finish(task, a_result(), pull_url="http://127.0.0.1:9/acme/web/pull/3")
    link = page.get_by_role("link", name="Open the pull request")
    await expect(link).to_have_attribute("href", "http://127.0.0.1:9/acme/web/pull/3")
    await expect(page.locator("#card-foot .stop")).to_have_count(0)
    await expect(later).to_be_hidden()


async def test_stop_asks_once_more_and_then_stops(opened: Open, site: Site) -> None:
    page = await opened("/tasks/T-4", PHONE)
    await page.locator(".stop summary").click()
    assert ("stop", "T-4") not in site.commands.calls
    await page.get_by_role("button", name="Yes, stop it").click()
    await expect(page.locator("#card-head .pill")).to_have_text("stopped")
    assert site.commands.calls.count(("stop", TaskId("T-4"))) == 1


async def test_what_comes_again_unchanged_stays_in_its_place(opened: Open, site: Site) -> None:
    page = await opened("/tasks/T-4")
    site.commands.step(TaskId("T-4"), "Agent", "doing", "thinks", took_s=50.0)
    await expect(page.locator("#card-steps")).to_contain_text("thinks")
    foot = await page.locator("#card-foot").element_handle()
    await page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    site.commands.step(TaskId("T-4"), "Agent", "doing", "goes on", took_s=51.0)
    await expect(page.locator("#card-steps")).to_contain_text("goes on")
    assert await foot.evaluate("(foot) => foot.isConnected"), "or who presses a button there misses"


async def test_an_answer_that_is_being_written_survives_what_happens_meanwhile(
    opened: Open, site: Site
) -> None:
    page = await opened("/tasks/T-3")
    own = page.get_by_placeholder("Or in your own words")
    await own.fill("Neither, ask")
    site.commands.step(TaskId("T-3"), "Agent", "doing", "still waits", took_s=200.0)
    await expect(page.locator("#card-steps")).to_contain_text("still waits")
    await expect(own).to_have_value("Neither, ask")
    await expect(own).to_be_focused()
    await own.press("Enter")
    await until(lambda: [what for method, what in site.commands.calls if method == "answer"])
    (given,) = [what for method, what in site.commands.calls if method == "answer"]
    assert given[3] == {"How is it chosen?": "Neither, ask"}


async def test_a_refusal_is_said_and_the_words_are_kept(opened: Open, site: Site) -> None:
    page = await opened("/tasks/T-4")
    site.sign_in.cookies[site.cookie] = a_person("viewer")
    reply = page.get_by_label("Reply")
    await reply.fill("Do more")
    async with page.expect_response(re.compile("/replies$")) as answered:
        await reply.press("Enter")
    assert (await answered.value).status == 403
    await expect(page.locator("#remark")).to_contain_text("may not")
    await expect(reply).to_have_value("Do more")


async def test_a_page_that_lost_its_server_goes_on_where_it_was(
    chromium: Browser, kept_port: int
) -> None:
    setup = Setup()
    await tell(setup.commands, setup.person)
    task = TaskId("T-4")
    context = await chromium.new_context()
    page = await context.new_page()
    async with a_site(setup, port=kept_port) as site:
        await context.add_cookies([{"name": "samovar", "value": site.cookie, "url": site.url}])
        await page.goto(f"{site.url}/tasks/{task}")
        setup.commands.speak(task, "message.text", message="m5", text="before")
        await expect(page.locator("#stream")).to_contain_text("before")
    for n in range(30):
        setup.commands.speak(task, "notice", level="info", code="", text=f"meanwhile {n}.")
    async with a_site(setup, port=kept_port):
        await expect(page.locator("#stream")).to_contain_text("meanwhile 29.")
        shown = await page.locator(".ev-notice").all_inner_texts()
        assert shown == [f"meanwhile {n}." for n in range(30)]
        assert await page.locator(".ev-message_text", has_text="before").count() == 1
    await context.close()


async def test_an_answer_that_is_being_written_survives_a_server_that_starts_again(
    chromium: Browser, kept_port: int
) -> None:
    setup = Setup()
    await tell(setup.commands, setup.person)
    task = TaskId("T-3")
    context = await chromium.new_context()
    page = await context.new_page()
    own = page.get_by_placeholder("Or in your own words")
    async with a_site(setup, port=kept_port) as site:
        await context.add_cookies([{"name": "samovar", "value": site.cookie, "url": site.url}])
        await page.goto(f"{site.url}/tasks/{task}")
        setup.commands.step(task, "Agent", "doing", "waits", took_s=200.0)
        await expect(page.locator("#card-steps")).to_contain_text("waits")
        await own.fill("Neither, ask")
        await own.press("ArrowLeft")
    async with a_site(setup, port=kept_port):
        setup.commands.step(task, "Agent", "doing", "goes on", took_s=200.0)
        await expect(page.locator("#card-steps")).to_contain_text("goes on")
        await expect(own).to_be_focused()
        await page.keyboard.type("as")
        await expect(own).to_have_value("Neither, asask")
    await context.close()


async def test_older_events_come_on_demand_without_leaving_the_page(
    opened: Open, site: Site
) -> None:
    task = TaskId("T-4")
    for n in range(300):
        tool(site.commands, task, "Bash", f"echo {n}.", summary="ok")
    page = await opened(f"/tasks/{task}")
    tools = page.locator(".ev-tool_start")
    await expect(tools).to_have_count(100)
    for count in (200, 300, 304):
        await page.get_by_role("link", name="Earlier events").click()
        await expect(tools).to_have_count(count)
    await expect(page.get_by_role("link", name="Earlier events")).to_have_count(0)
    titles = await page.locator(".ev-tool_start .tool-title").all_inner_texts()
    assert titles[-300:] == [f"echo {n}." for n in range(300)]
    assert page.url == f"{site.url}/tasks/{task}"


async def test_a_deep_link_waits_for_the_person(opened: Open, site: Site) -> None:
    before = len(site.commands.views)
    page = await opened("/new?repo=acme/till&prompt=Fix%20it")
    await expect(page.get_by_label("What should be done?")).to_have_value("Fix it")
    await expect(page.get_by_label("Project", exact=True)).to_have_value("till")
    assert len(site.commands.views) == before
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator("#task-T-6")).to_contain_text("Fix it")


async def test_signing_in_takes_one_press_and_signing_out_ends_it(opened: Open, site: Site) -> None:
    page = await opened("/sign-in?token=once", signed_in=False)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page).to_have_url(f"{site.url}/")
    await page.locator(".me summary").click()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page).to_have_url(f"{site.url}/sign-in")
    await page.goto(f"{site.url}/tasks/T-1")
    await expect(page).to_have_url(f"{site.url}/sign-in")


@pytest.mark.parametrize("size", [PHONE, DESK])
async def test_without_scripts_people_see_and_send(
    size: tuple[int, int], opened: Open, site: Site
) -> None:
    page = await opened("/", size, java_script_enabled=False)
    await page.get_by_label("Project", exact=True).select_option("web")
    await page.get_by_label("What should be done?").fill("Without scripts")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator("#task-T-6")).to_contain_text("Without scripts")
    await page.goto(f"{site.url}/tasks/T-3")
    await page.get_by_role("button", name="A switch").click()
    await expect(page.locator("#card-head .pill")).to_have_text("working")
    await page.get_by_label("Reply").fill("And mind the printer")
    await page.get_by_role("button", name="Send").click()
    await expect(page.locator(".line.theirs").last).to_contain_text("And mind the printer")
    await page.goto(f"{site.url}/tasks/T-1")
    await expect(page.locator(".outcome.bad").first).to_contain_text("2 failed")
    await page.goto(f"{site.url}/tasks/T-4")
    await page.locator(".stop summary").click()
    await page.get_by_role("button", name="Yes, stop it").click()
    await expect(page.locator("#card-head .pill")).to_have_text("stopped")


PATHS = ["/", "/tasks/T-1", "/tasks/T-2", "/tasks/T-3", "/tasks/T-4", "/tasks/T-5", "/runs/T-1.1"]
PATHS += ["/nodes", "/workspaces", "/workspaces/k3v9x203", "/sign-in?token=x", "/new?repo=nope"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK])
async def test_every_page_fits_its_screen_and_can_be_read(
    size: tuple[int, int], scheme: str, opened: Open, site: Site
) -> None:
    page = await opened("/", size, color_scheme=scheme)
    for path in PATHS:
        await page.goto(site.url + path)
        assert await page.evaluate(WIDE) == [], path
        faint = await page.evaluate(CONTRAST)
        assert faint == [], path


async def test_c10_hostile_words_stay_inside_their_place(opened: Open, site: Site) -> None:
    task = TaskId("T-4")
    evil = "<script>document.title='owned'</script><img src=/x onerror=document.title='owned'>"
    for text in (evil, "w" * 100_000, "\u202egpj.exe", "|a|b|\n|-|-|\n" + "|x" * 400):
        site.commands.speak(task, "message.text", message="m7", text=text)
        tool(site.commands, task, text[:5000], text, summary=text, diff=f"+{text}")
        site.commands.line(task, text[:3000], text)
        site.commands.step(task, "Agent", "doing", text[:5000], took_s=1.0)
        site.commands.change(task, title=text)
    for size in (PHONE, DESK):
        page = await opened(f"/tasks/{task}", size)
        site.commands.speak(task, "message.text", message="m8", text=f"live {evil}")
        await expect(page.locator("#stream")).to_contain_text("live <script>")
        assert await page.title() != "owned"
        assert await page.evaluate(WIDE) == []
        await page.goto(f"{site.url}/")
        assert await page.evaluate(WIDE) == []


CONTRAST = """() => {
  const part = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const parse = (text) => {
    const n = text.match(/[\\d.]+/g).map(Number);
    const scale = text.startsWith("color(srgb") ? 1 : 255;
    return [n[0] / scale, n[1] / scale, n[2] / scale, n[3] ?? 1];
  };
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = parse(getComputedStyle(e).backgroundColor);
      if (c[3] > 0.5) return c;
    }
    return [1, 1, 1, 1];
  };
  const faint = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility() || e.closest(".hidden, .skip")) continue;
    const a = light(parse(getComputedStyle(e).color));
    const b = light(ground(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const words = e.textContent.trim().slice(0, 30);
    if (ratio < 4.4) faint.push(`${e.className} ${words} ${ratio.toFixed(2)}`);
  }
  return faint;
}"""
"""What is too faint to read by WCAG 2 (4.5:1), with a little room for rounding."""

WIDE = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  const cuts = (e) => getComputedStyle(e).overflowX !== "visible";
  const scrolls = (e) => e && (cuts(e) || scrolls(e.parentElement));
  return [...document.querySelectorAll("body *")]
    .filter((e) => e.getBoundingClientRect().right > width + 1 && !scrolls(e.parentElement))
    .map((e) => `${e.tagName}.${e.className}`)
    .slice(0, 12);
}"""
"""What makes a page wider than its screen."""
