"""Pages and forms, as a browser without scripts uses them."""

import asyncio
import html
import re
from dataclasses import replace

import aiohttp
import pytest

from core.errors import QuotaError, UnavailableError, UserError
from core.ids import ProjectId, TaskId
from core.ledger import Start
from core.ports.commands import Words
from tests.fakes.commands import START, a_person
from tests.fakes.serving import until
from tests.fakes.story import tool
from tests.fakes.web import Site


async def page(http: aiohttp.ClientSession, path: str, status: int = 200) -> str:
    async with http.get(path) as answer:
        assert answer.status == status, await answer.text()
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        return html.unescape(await answer.text())


def said(site: Site) -> list[Words]:
    return [what for method, what in site.commands.calls if method == "say"]


async def test_the_chat_shows_every_task_and_a_box(site: Site, http: aiohttp.ClientSession) -> None:
    text = await page(http, "/")
    for card in await site.commands.tasks(site.person):
        assert card.title in text
    assert 'action="/tasks"' in text
    only = await page(http, "/?project=till")
    assert "nightly job" in only
    assert "Cart totals" not in only


async def test_t10_a_request_is_stored_and_a_second_click_says_nothing_twice(
    site: Site, http: aiohttp.ClientSession
) -> None:
    key = re.search(r'name="key" value="(\w+)"', await page(http, "/"))
    assert key is not None
    form = {"text": "Do this\nand that", "project": "web", "key": key[1]}
    for _ in range(2):
        async with http.post("/tasks", data=form, allow_redirects=False) as answer:
            assert answer.status == 303
            assert answer.headers["Location"] == "/?project=web&heard=T-6"
    assert len(site.commands.views) == 6
    words = said(site)[-1]
    assert (words.surface, words.text, words.project) == ("web", "Do this\nand that", "web")
    assert "T-6 will appear" in await page(http, "/?project=web&heard=T-6")


async def test_t10_a_browser_that_hangs_up_after_sending_is_heard(site: Site) -> None:
    host, port = site.url.removeprefix("http://").split(":")
    body = b"text=Hang+up&project=web&key=hung"
    head = (
        f"POST /tasks HTTP/1.1\r\nHost: {host}:{port}\r\nOrigin: {site.url}\r\n"
        f"Cookie: samovar={site.cookie}\r\nContent-Length: {len(body)}\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n\r\n"
    )
    for _ in range(5):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()
    await until(lambda: [words.text for words in said(site)].count("Hang up") == 5)
    assert len([task for task in site.commands.views.values() if task.prompt == "Hang up"]) == 1


async def test_a_deep_link_fills_the_box_and_sends_nothing(
    site: Site, http: aiohttp.ClientSession
) -> None:
    before = len(said(site))
    text = await page(http, "/new?repo=acme/till&prompt=Do%20%3C%2Ftextarea%3E%20this")
    assert "Do </textarea> this" in text
    assert re.search(r'value="till" selected', text)
    assert "There is no project for acme/nope" in await page(http, "/new?repo=acme/nope")
    assert len(said(site)) == before


async def test_a_reply_goes_to_the_thread_of_its_task(
    site: Site, http: aiohttp.ClientSession
) -> None:
    for when_idle in ("", "yes"):
        form = {"text": "Mind this", "when_idle": when_idle, "key": f"k{when_idle}"}
        async with http.post("/tasks/T-4/replies", data=form) as answer:
            assert answer.status == 200
            assert "Mind this" in await answer.text()
        assert said(site)[-1].thread == site.commands.views[TaskId("T-4")].thread
        assert said(site)[-1].when_idle is bool(when_idle)


async def test_one_click_answers_a_question_with_the_words_that_were_asked(
    site: Site, http: aiohttp.ClientSession
) -> None:
    text = await page(http, "/tasks/T-3")
    decision = re.search(r'name="decision" value="([^"]+)"', text)
    assert decision is not None
    form = {"decision": decision[1], "q0": "1", "own0": ""}
    async with http.post("/tasks/T-3/answer", data=form) as answer:
        assert "A switch" in await answer.text()
    (asked,) = [what for method, what in site.commands.calls if method == "answer"]
    assert asked == (decision[1], "web", True, {"How is it chosen?": "A switch"})
    async with http.post("/tasks/T-3/answer", data=form) as late:
        assert late.status == 400
        assert "Ana answered first: A switch" in await late.text()


async def test_a_permission_is_allowed_or_denied(site: Site, http: aiohttp.ClientSession) -> None:
    task = TaskId("T-4")
    decision = site.commands.ask(task, "permission", title="Run rm -rf build?", detail="`rm`")
    form = {"decision": decision, "allow": "no"}
    async with http.post("/tasks/T-4/answer", data=form) as answer:
        assert answer.status == 200
    (asked,) = [what for method, what in site.commands.calls if method == "answer"]
    assert asked == (decision, "web", False, None)


async def test_stop_takes_two_clicks_and_the_second_one_stops(
    site: Site, http: aiohttp.ClientSession
) -> None:
    text = await page(http, "/tasks/T-4")
    assert re.search(r"<details[^>]*>\s*<summary>Stop</summary>\s*<form[^>]*/stop", text)
    async with http.post("/tasks/T-4/stop") as answer:
        assert "Stopped by Ana" in await answer.text()


async def test_a_script_gets_the_remark_instead_of_a_redirect(
    site: Site, http: aiohttp.ClientSession
) -> None:
    script = {"Accept": "application/json"}
    async with http.post("/tasks/T-4/stop", headers=script) as answer:
        assert await answer.json() == {"said": "Stopping. What was done is kept."}
    async with http.post("/tasks/T-4/replies", data={"text": " "}, headers=script) as answer:
        assert answer.status == 400
        assert (await answer.json())["detail"] == "Say what should be done."


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UserError("Not like this."), 400),
        (QuotaError("10 tasks at once, no more."), 429),
        (UnavailableError("GitHub", "no answer", retry_after_s=7), 503),
    ],
)
async def test_people_get_a_sentence_and_a_status(
    error: Exception, status: int, site: Site, http: aiohttp.ClientSession
) -> None:
    site.commands.fail_next["task"] = error  # type: ignore[assignment]  # each is one of ours
    async with http.get("/tasks/T-1") as answer:
        assert answer.status == status
        assert str(error) in html.unescape(await answer.text())
        assert ("Retry-After" in answer.headers) == (status == 503)


async def test_a_bug_says_a_reference_and_nothing_else(
    site: Site, http: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
) -> None:
    site.commands.fail_next["task"] = RuntimeError("secret details")  # type: ignore[assignment]
    async with http.get("/tasks/T-1") as answer:
        assert answer.status == 500
        text = await answer.text()
    assert "secret" not in text
    assert re.search(r"ref [0-9a-f]{8}", text)


async def test_who_is_not_signed_in_is_sent_to_the_page_that_says_how(site: Site) -> None:
    async with (
        aiohttp.ClientSession(site.url, headers={"Accept": "text/html"}) as stranger,
        stranger.get("/tasks/T-1") as answer,
    ):
        assert answer.url.path == "/sign-in"
        assert "samovar sign-in" in await answer.text()


async def test_machines_and_workspaces_are_there_with_what_is_known(
    site: Site, http: aiohttp.ClientSession
) -> None:
    nodes = await page(http, "/nodes")
    assert "node-77aa01fe" in nodes
    assert "lost" in nodes
    assert "k3v9x203" in await page(http, "/workspaces")
    site.commands.logs[next(iter(site.commands.spaces))] = "\x1b[32mStep 1\x1b[0m\n<b>done"
    first = next(iter(site.commands.spaces))
    shown = await page(http, f"/workspaces/{first}")
    assert "Step 1\n<b>done" in shown
    site.commands.fail_next["build_log"] = UserError("The machine does not answer.")
    assert "does not answer" in await page(http, f"/workspaces/{first}")
    assert "is gone" in await page(http, "/workspaces/nope", 404)


async def test_a_workspace_shows_beside_its_phases_what_is_usual_and_what_comes_then(
    site: Site, http: aiohttp.ClientSession
) -> None:
    first = next(iter(site.commands.spaces))
    told = {"step": "build", "state": "started", "at": START.isoformat(), "text": ""}
    limit = {"limit_s": "900", "then": "the default image is used"}
    site.commands.spaces[first] = replace(
        site.commands.spaces[first], state="building", steps=({**told, **limit},)
    )
    shown = await page(http, f"/workspaces/{first}")
    assert "building the devcontainer" in shown
    assert "15 m 00 s" in shown
    assert "the default image is used" in shown
    for number in range(20):
        took = {"build": 31.0 + number, "start": 0.3}
        site.commands.started.append(
            Start(workspace=first, task=TaskId("T-1"), at=START, took_s=took, is_recovered=False)
        )
    shown = await page(http, f"/workspaces/{first}")
    assert "40 s" in shown
    assert "49 s" in shown
    plots = await page(http, "/projects/web/starts")
    assert plots.count("<circle") == 3 * 20
    assert "usually 40 s, rarely over 49 s" in plots


async def test_a_project_whose_workspaces_never_started_says_so(
    http: aiohttp.ClientSession,
) -> None:
    assert "has started yet" in await page(http, "/projects/web/starts")


async def test_an_administrator_makes_a_token_and_removes_what_is_there(
    site: Site, http: aiohttp.ClientSession
) -> None:
    async with http.post("/nodes/enrolments") as answer:
        assert "enrol-0123456789abcdef" in await answer.text()
        assert answer.headers["Cache-Control"] == "no-store"
    async with http.post("/nodes/node-77aa01fe/delete") as answer:
        assert "node-77aa01fe" not in await answer.text()
    async with http.post("/workspaces/k3v9x201/delete") as answer:
        assert answer.url.path == "/workspaces"
        assert "k3v9x201" not in await answer.text()


async def test_c8_a_viewer_sees_no_buttons_and_is_refused_behind_them(site: Site) -> None:
    cookie = site.sign_in.signed_in(a_person("viewer", "Vera"))
    cookies = {"samovar": cookie}
    headers = {**site.origin, "Accept": "text/html"}
    async with aiohttp.ClientSession(site.url, cookies=cookies, headers=headers) as http:
        assert "looks-only" in await page(http, "/tasks/T-3")
        assert "one-time token" not in await page(http, "/nodes")
        for path in ("/tasks/T-3/stop", "/nodes/enrolments", "/nodes/node-77aa01fe/delete"):
            async with http.post(path) as answer:
                assert answer.status == 403
        async with http.post("/tasks", data={"text": "x", "project": "web"}) as answer:
            assert answer.status == 403


async def test_older_events_are_there_page_by_page(site: Site, http: aiohttp.ClientSession) -> None:
    task = TaskId("T-4")
    for number in range(450):
        tool(site.commands, task, "Bash", f"echo step-{number}.", summary="ok")
    path, found = f"/tasks/{task}", list[int]()
    for _ in range(10):
        text = await page(http, path)
        found = [int(n) for n in re.findall(r'tool-title">echo step-(\d+)\.', text)] + found
        earlier = re.search(r'href="([^"]+)" data-earlier', text)
        if earlier is None:
            break
        path = earlier[1]
    assert found == list(range(450))


async def test_the_last_page_knows_where_the_stream_goes_on(
    site: Site, http: aiohttp.ClientSession
) -> None:
    text = await page(http, "/tasks/T-4")
    last = site.commands.told[site.commands.session(TaskId("T-4"))][-1]
    assert f"after={last.session}%3A{last.offset}" in text


async def test_with_one_project_nobody_is_asked_which(
    site: Site, http: aiohttp.ClientSession
) -> None:
    assert "Choose a project" in await page(http, "/")
    del site.commands.known[1]
    text = await page(http, "/")
    assert "Choose a project" not in text
    site.commands.known.clear()
    assert "No project is set up yet" in await page(http, "/?project=" + ProjectId("web"))
