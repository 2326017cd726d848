"""The buttons and addresses that take an agent's conversation into a terminal and give it back."""

import asyncio
import html
from dataclasses import replace
from datetime import UTC, datetime

import aiohttp

from core.card import Holder
from core.ids import SessionId, TaskId, TerminalId
from tests.fakes.story import tell
from tests.fakes.web import Setup, Site, a_site

TASK = TaskId("T-1")


def at_work(site: Site) -> SessionId:
    """Let the agent of a task be at work; return its conversation."""
    session = site.commands.begin(TASK)
    view = site.commands.views[TASK]
    workspace = next(iter(site.commands.spaces))
    card = replace(view.card, session_id=session, workspace_id=workspace)
    site.commands.views[TASK] = replace(view, card=card)
    return session


def holder(*, is_waiting: bool) -> Holder:
    text = "goes to a terminal of Ana when it is idle" if is_waiting else "in the terminal, by Ana"
    since = datetime(2026, 1, 5, 12, tzinfo=UTC)
    return Holder(
        terminal_id=TerminalId("t-9"), by="Ana", since=since, is_waiting=is_waiting, text=text
    )


async def page(http: aiohttp.ClientSession) -> str:
    async with http.get(f"/tasks/{TASK}") as answer:
        assert answer.status == 200
        return html.unescape(await answer.text())


async def test_a_button_leads_to_the_terminal_that_gets_the_conversation(
    site: Site, http: aiohttp.ClientSession
) -> None:
    session = at_work(site)
    text = await page(http)
    assert f'action="/tasks/{TASK}/terminal"' in text
    assert "When it is idle" in text
    path, form = f"/tasks/{TASK}/terminal", {"when": "idle"}
    async with http.post(path, data=form, allow_redirects=False) as answer:
        assert answer.status == 303, await answer.text()
        opened = next(iter(site.commands.tabs.values()))
        assert answer.headers["Location"].endswith(f"#{opened.id}")
        assert f"ws-{opened.workspace_id}." in answer.headers["Location"]
    assert ("open_session", (session, "idle")) in site.commands.calls
    async with http.post(f"{path}/return", allow_redirects=False) as answer:
        assert answer.status == 303
    assert ("return_session", session) in site.commands.calls


async def test_the_page_says_who_has_it_and_offers_what_can_be_done(
    site: Site, http: aiohttp.ClientSession
) -> None:
    at_work(site)
    view = site.commands.views[TASK]
    for is_waiting, offered in ((True, ("Interrupt it now", "Do not open it")),
                                (False, ("Show it", "Give it back"))):  # fmt: skip
        card = replace(view.card, holder=holder(is_waiting=is_waiting))
        site.commands.views[TASK] = replace(view, card=card)
        text = await page(http)
        assert card.holder is not None
        assert f"The agent is {card.holder.text}." in text
        assert all("<button" in text and words in text for words in offered)
        assert "When it is idle" not in text


async def test_without_addresses_of_workspaces_nothing_is_taken_away_and_nothing_offered() -> None:
    setup = Setup(domain="")
    await tell(setup.commands, setup.person)
    headers = {"Accept": "text/html"}
    async with (
        a_site(setup) as site,
        aiohttp.ClientSession(site.url, cookies=site.cookies, headers=headers) as http,
    ):
        at_work(site)
        assert "Open in terminal" not in await page(http)
        async with http.get(f"/tasks/{TASK}/live") as stream:
            await until_sent(stream, "row links")
        asked = {**site.origin, "Accept": "application/json"}
        form = {"when": "now"}
        async with http.post(f"/tasks/{TASK}/terminal", data=form, headers=asked) as answer:
            assert (await answer.json())["title"] == "no_domain"
        assert not any(name == "open_session" for name, _ in site.commands.calls)


async def until_sent(stream: aiohttp.ClientResponse, wanted: str) -> None:
    """Read a live page up to some words; no conversation is offered in it."""
    async with asyncio.timeout(30):
        async for line in stream.content:
            assert b"Open in terminal" not in line
            if wanted.encode() in line:
                return
    raise AssertionError(wanted)


async def test_a_task_without_an_agent_has_nothing_to_open(
    site: Site, http: aiohttp.ClientSession
) -> None:
    view = site.commands.views[TASK]
    site.commands.views[TASK] = replace(view, runs=())
    headers = {"Accept": "application/json"}
    async with http.post(f"/tasks/{TASK}/terminal", headers=headers) as answer:
        assert (answer.status, (await answer.json())["title"]) == (400, "no_session")


async def test_the_same_by_the_json_api(site: Site, http: aiohttp.ClientSession) -> None:
    session = at_work(site)
    path = f"/api/v1/sessions/{session}/terminal"
    async with http.post(path, json={}) as answer:
        assert (answer.status, (await answer.json())["title"]) == (400, "agent_busy")
    async with http.post(path, json={"when": "later"}) as answer:
        assert answer.status == 422
    async with http.post(path, json={"when": "idle"}) as answer:
        made = await answer.json()
        assert (answer.status, made["state"], made["session_id"]) == (201, "waiting", session)
    for _ in range(2):
        async with http.delete(path) as answer:
            assert answer.status == 204
    assert site.commands.tabs == {}
