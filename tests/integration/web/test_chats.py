"""Conversations on a workspace's own origin: who gets in, what streams, what is refused."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from urllib.parse import urlencode

import aiohttp
import pytest

from core.ids import TaskId
from tests.fakes.commands import a_person
from tests.fakes.serving import until as wait_until
from tests.fakes.sse import events, until
from tests.fakes.story import ask
from tests.fakes.web import Site
from tests.integration.web.test_own import OTHER, SPACE, let_in, own

Http = aiohttp.ClientSession
HOSTILE = "<img src=x onerror=alert(1)> [here](javascript:alert(1)) \u202egnp"


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield session


@pytest.fixture
async def chat(site: Site) -> TaskId:
    made = await site.commands.new_chat(site.person, SPACE, "Why?", surface="web", key="k1")
    return made.id


async def post(site: Site, http: Http, path: str, cookie: str, **fields: str) -> tuple[int, str]:
    """Send a form as the page's script does."""
    headers = own(site, cookie=cookie)
    async with http.post(f"{site.url}{path}", headers=headers, data=fields) as answer:
        return answer.status, await answer.text()


def routes(chat: TaskId) -> list[tuple[str, str]]:
    at = f"/chats/{chat}"
    return [
        ("GET", "/chats"),
        ("GET", "/chats/new"),
        ("POST", "/chats"),
        ("GET", at),
        ("GET", f"{at}/live"),
        ("POST", f"{at}/messages"),
        ("POST", f"{at}/stop"),
        ("POST", f"{at}/answer"),
        ("PATCH", at),
        ("DELETE", at),
    ]


async def test_c1_chats_open_to_the_cookie_of_their_workspace_alone(
    site: Site, http: Http, chat: TaskId
) -> None:
    site.commands.calls.clear()
    strangers = ["", "forged", let_in(site, workspace=OTHER), site.cookie]
    for method, path in routes(chat):
        for cookie in strangers:
            headers = own(site, cookie=cookie)
            headers["Cookie"] = f"{headers.get('Cookie', '')}; samovar={site.cookie}"
            url = f"{site.url}{path}"
            async with http.request(method, url, headers=headers, data="text=x") as answer:
                assert answer.status == 401, (method, path, cookie)
    assert {call for call, _ in site.commands.calls} <= {"workspace"}


async def test_c9_the_cookie_of_a_workspace_reaches_no_chat_of_another(
    site: Site, http: Http, chat: TaskId
) -> None:
    theirs = await site.commands.new_chat(site.person, OTHER, "Theirs", surface="web", key="k2")
    elsewhere = await ask(site.commands, site.person, "A task with a workspace of its own")
    cookie = let_in(site)
    before = len(site.commands.calls)
    for foreign in (theirs.id, elsewhere):
        for method, path in routes(foreign)[3:]:
            headers = {**own(site, cookie=cookie), "Content-Type": "application/json"}
            form = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
            is_json = method == "PATCH"
            body = json.dumps({"title": "x"}) if is_json else urlencode({"text": "x"})
            url, sent = f"{site.url}{path}", headers if is_json else form
            async with http.request(method, url, headers=sent, data=body) as answer:
                assert answer.status == 404, (method, path)
    done = {call for call, _ in site.commands.calls[before:]}
    assert done <= {"workspace", "chats"}


async def test_changes_are_taken_from_the_workspaces_origin_alone(
    site: Site, http: Http, chat: TaskId
) -> None:
    cookie = let_in(site)
    for method, path in routes(chat):
        if method == "GET":
            continue
        for origin in (site.url, "https://evil.example", "null"):
            headers = {**own(site, cookie=cookie), "Origin": origin}
            url = f"{site.url}{path}"
            async with http.request(method, url, headers=headers, data="text=x") as answer:
                assert answer.status == 403, (method, path, origin)


async def test_a_chat_is_opened_talked_to_stopped_and_closed(site: Site, http: Http) -> None:
    cookie = let_in(site)
    status, told = await post(site, http, "/chats", cookie, text="Why is it slow?", key="k9")
    assert status == 200
    at = json.loads(told)["to"]
    assert json.loads((await post(site, http, "/chats", cookie, text="x", key="k9"))[1])["to"] == at
    assert (await post(site, http, f"{at}/messages", cookie, text="And?"))[0] == 200
    assert (await post(site, http, f"{at}/stop", cookie))[0] == 200
    chat = TaskId(at.rpartition("/")[2])
    assert [line.text for line in site.commands.views[chat].lines] == ["Why is it slow?", "And?"]
    headers = own(site, cookie=cookie)
    async with http.patch(f"{site.url}{at}", headers=headers, json={"title": "Speed"}) as answer:
        assert answer.status == 204
    async with http.get(f"{site.url}/chats", headers=headers) as answer:
        assert [tab["title"] for tab in await answer.json()] == ["Speed"]
    async with http.delete(f"{site.url}{at}", headers=headers) as answer:
        assert answer.status == 204
    async with http.get(f"{site.url}{at}", headers=headers) as answer:
        assert answer.status == 404


async def test_a_form_works_without_scripts(site: Site, http: Http) -> None:
    headers = {**own(site, cookie=let_in(site)), "Accept": "text/html"}
    url = f"{site.url}/chats"
    sent = {"headers": headers, "data": {"text": "Why?"}, "allow_redirects": False}
    async with http.post(url, **sent) as answer:
        assert answer.status == 303
        to = answer.headers["Location"]
    async with http.get(f"{site.url}{to}", headers=headers) as answer:
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert "form-action 'self';" in answer.headers["Content-Security-Policy"]
        assert "Why?" in await answer.text()


async def test_an_empty_message_and_a_missing_question_get_a_sentence(
    site: Site, http: Http, chat: TaskId
) -> None:
    cookie = let_in(site)
    for path, status in (("/chats", 400), (f"/chats/{chat}/messages", 400)):
        found, told = await post(site, http, path, cookie, text="  ")
        assert found == status
        assert json.loads(told)["detail"]
    status, told = await post(site, http, f"/chats/{chat}/answer", cookie, decision="x")
    assert (status, json.loads(told)["detail"]) == (404, "That question is not there any more.")


async def test_a_question_is_answered_by_its_buttons(site: Site, http: Http, chat: TaskId) -> None:
    options = [{"label": "red", "description": ""}, {"label": "blue", "description": ""}]
    question = {"text": "Which colour?", "header": "Colour", "options": options}
    decision = site.commands.ask(chat, questions=(question,), title="Which colour?")
    cookie = let_in(site)
    async with http.get(f"{site.url}/chats/{chat}", headers=own(site, cookie=cookie)) as answer:
        html = await answer.text()
    assert f'action="/chats/{chat}/answer"' in html
    await post(site, http, f"/chats/{chat}/answer", cookie, decision=decision, q0="1")
    assert site.commands.calls[-1][0] == "answer"
    assert site.commands.calls[-1][1][3] == {"Which colour?": "blue"}


async def test_what_an_agent_says_is_data_and_its_links_lead_to_the_pages(
    site: Site, http: Http, chat: TaskId
) -> None:
    site.commands.speak(chat, "message.text", message="m", text=HOSTILE)
    given = {"file_path": "/workspaces/web/cart.py"}
    site.commands.speak(chat, "tool.start", tool="t1", name="Read", title="cart.py", input=given)
    url, headers = f"{site.url}/chats/{chat}", own(site, cookie=let_in(site))
    async with http.get(url, headers=headers) as answer:
        html = await answer.text()
    stream = events(http, f"{url}/live", headers=headers)
    async with aclosing(stream):
        streamed = "".join(sent.data for sent in await until(stream, "cart.py"))
    for shown in (html, streamed):
        assert "<img" not in shown.replace("/static/", "")
        assert 'href="javascript' not in shown
        assert "\u202e" not in shown
        assert f'href="{site.url}/sessions/' in shown
        assert f'href="{site.url}/api/v1/sessions/' in shown
        assert 'href="/sessions' not in shown


async def test_each_chat_streams_its_own_and_a_second_device_sees_the_same(
    site: Site, http: Http, chat: TaskId
) -> None:
    other = await site.commands.new_chat(site.person, SPACE, "Other", surface="web", key="k3")
    headers = own(site, cookie=let_in(site))
    first = events(http, f"{site.url}/chats/{chat}/live", headers=headers)
    second = events(http, f"{site.url}/chats/{chat}/live", headers=headers)
    async with aclosing(first), aclosing(second):
        await until(first, "Why?")
        await until(second, "Why?")
        session = site.commands.session(chat)
        await wait_until(lambda: site.commands.listening(session))
        site.commands.speak(other.id, "message.text", message="o", text="Of the other.")
        site.commands.write(chat, "m1", "Because")
        for stream in (first, second):
            drafts = await until(stream, '"Because"')
            assert "Of the other." not in "".join(sent.data for sent in drafts)
        site.commands.speak(chat, "session.state", state="busy", reason="")
        site.commands.speak(chat, "message.text", message="m1", text="Because of **tea**.")
        seen = await until(first, "<strong>tea</strong>")
        assert any("is-busy" in sent.data for sent in seen)
        last = seen[-1].id
    again = events(http, f"{site.url}/chats/{chat}/live", headers=headers, last=last)
    async with aclosing(again):
        site.commands.speak(chat, "message.text", message="m2", text="More.")
        seen = await until(again, "More.")
        assert "tea" not in "".join(sent.data for sent in seen if sent.id), "P6: nothing twice"


async def test_the_tasks_own_conversation_is_there_and_whoever_may_only_look_reads(
    site: Site, http: Http, chat: TaskId
) -> None:
    site.commands.talk(TaskId("T-4"), SPACE, is_own=True)
    viewer = let_in(site, a_person("viewer", "Vera"))
    headers = own(site, cookie=viewer)
    async with http.get(f"{site.url}/chats", headers=headers) as answer:
        found = [(tab["id"], tab["is_own"]) for tab in await answer.json()]
    assert found == [("T-4", True), (chat, False)]
    async with http.get(f"{site.url}/chats/T-4", headers=headers) as answer:
        assert "looks-only" in await answer.text()
    for path in ("/chats", f"/chats/{chat}/messages", f"/chats/{chat}/stop"):
        assert (await post(site, http, path, viewer, text="x"))[0] == 403, path
