"""Recordings on the pages and in the JSON API: who gets them, and that they are data."""

import aiohttp
import pytest

from core.ids import RecordingId, TaskId, WorkspaceId
from core.ports.commands import RecordingView
from tests.fakes.asciicast import read
from tests.fakes.commands import START
from tests.fakes.web import Site

HOSTILE = "<script>alert(1)</script>\"'"


def task_of(site: Site) -> TaskId:
    return next(task for task, view in site.commands.views.items() if view.card.state == "done")


def a_terminal(site: Site, state: str = "kept", **values: object) -> RecordingId:
    made = RecordingId("t-0000aaaa")
    site.commands.recorded[made] = RecordingView(
        id=made,
        kind="terminal",
        title=HOSTILE,
        state=state,
        task_id=task_of(site),
        workspace_id=WorkspaceId("k3v9x2"),
        began_at=START,
        **values,  # type: ignore[arg-type]
    )
    return made


async def test_a_tool_call_leads_to_its_second(site: Site, http: aiohttp.ClientSession) -> None:
    task = task_of(site)
    session = site.commands.session(task)
    call = [event for event in site.commands.told[session] if event.kind == "tool.start"][1]
    link = f"/recordings/{session}?event={call.offset}"
    async with http.get(f"/tasks/{task}") as answer:
        assert link in await answer.text()
    async with http.get(link, allow_redirects=False) as answer:
        assert answer.status == 303
        at = float(answer.headers["Location"].partition("?at=")[2])
    async with http.get(f"/api/v1/recordings/{session}/cast") as answer:
        assert answer.content_type == "application/x-asciicast"
        assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
        assert answer.headers["Content-Disposition"].startswith("attachment")
        seen = read(await answer.text())
    assert "$ pytest -q tests/test_cart.py" in seen.until(at)
    assert "$ pytest -q tests/test_cart.py" not in seen.until(at - 0.2)
    async with http.get(f"/recordings/{session}?at={at}") as answer:
        assert f'data-at="{at:g}' in await answer.text()
        policy = answer.headers["Content-Security-Policy"]
        assert "script-src 'self' 'wasm-unsafe-eval';" in policy
        assert "frame-ancestors 'none'" in policy


async def test_what_a_workspace_called_it_is_text(site: Site, http: aiohttp.ClientSession) -> None:
    recording = a_terminal(site, size_bytes=2048)
    for path in (f"/tasks/{task_of(site)}/recordings", f"/recordings/{recording}"):
        async with http.get(path) as answer:
            assert answer.status == 200
            body = await answer.text()
            assert "<script>alert" not in body
            assert "alert(1)" in body


async def test_a_recording_that_is_lost_says_why(site: Site, http: aiohttp.ClientSession) -> None:
    recording = a_terminal(site, "lost", error="Node: it sleeps")
    async with http.get(f"/recordings/{recording}") as answer:
        assert "it sleeps" in await answer.text()
    async with http.get(f"/api/v1/recordings/{recording}/cast") as answer:
        assert answer.status == 404
    async with http.get(f"/api/v1/tasks/{task_of(site)}/recordings") as answer:
        found = (await answer.json())["recordings"]
    assert [one["state"] for one in found] == ["live", "lost"]


@pytest.mark.parametrize("path", ["/recordings/x", "/tasks/T-1/recordings"])
async def test_c8_a_stranger_gets_nothing(site: Site, path: str) -> None:
    async with aiohttp.ClientSession(site.url) as stranger:
        for one in (path, f"/api/v1{path}", f"/api/v1{path}/cast"):
            async with stranger.get(one, headers={"Accept": "application/json"}) as answer:
                assert answer.status in {401, 404}, one


@pytest.mark.parametrize("query", ["at=-1", "at=nan", "at=inf", "event=-1", "event=x"])
async def test_a_second_that_is_none_is_refused(
    site: Site, http: aiohttp.ClientSession, query: str
) -> None:
    session = site.commands.session(task_of(site))
    async with http.get(f"/recordings/{session}?{query}") as answer:
        assert answer.status in {400, 422}
