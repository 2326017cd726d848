"""Live pages: one reader for all, no gap, no duplicate, no queue per viewer."""

import asyncio
import json
import random
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing

import aiohttp
import pytest
from yarl import URL

from adapters.web import live as live_module
from adapters.web import window as window_module
from core.errors import UnavailableError
from core.ids import TaskId
from tests.fakes import story
from tests.fakes.serving import until as wait_until
from tests.fakes.sse import Sent, events, until
from tests.fakes.web import Setup, Site, a_site, a_socket


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with a_site() as running:
        yield running


@pytest.fixture
async def http(site: Site) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(cookies=site.cookies, connector=connector) as session:
        yield session


async def begun(site: Site, text: str = "Fix it") -> TaskId:
    task = await story.ask(site.commands, site.person, text)
    site.commands.begin(task)
    return task


async def test_the_card_changes_while_people_look(site: Site, http: aiohttp.ClientSession) -> None:
    task = await begun(site)
    stream = events(http, f"{site.url}/tasks/{task}/live")
    async with aclosing(stream):
        await until(stream, "card-steps")
        site.commands.step(task, "Machine", "doing", "this computer", took_s=1.0)
        seen = await until(stream, "this computer")
        assert [sent for sent in seen if "card-questions" in sent.data] == [], "only what changed"


async def test_the_list_of_tasks_shows_a_new_one(site: Site, http: aiohttp.ClientSession) -> None:
    first = await begun(site)
    stream = events(http, f"{site.url}/live")
    async with aclosing(stream):
        await until(stream, f"task-{first}")
        second = await story.ask(site.commands, site.person, "Something else")
        await until(stream, f"task-{second}")
        elsewhere = await story.ask(site.commands, site.person, "In the till", "till")
        await until(stream, f"task-{elsewhere}")


async def test_text_comes_as_it_is_written_and_ends_in_the_stored_message(
    site: Site, http: aiohttp.ClientSession
) -> None:
    task = await begun(site)
    session = site.commands.session(task)
    stream = events(http, f"{site.url}/tasks/{task}/live")
    async with aclosing(stream):
        await until(stream, "card-steps")
        await wait_until(lambda: site.commands.listening(session))
        site.commands.write(task, "m1", "Hel")
        first = (await until(stream, '"m1"'))[-1]
        assert json.loads(first.data) == {"message": "m1", "at": 0, "text": "Hel"}
        site.commands.write(task, "m1", "lo")
        more = (await until(stream, '"m1"'))[-1]
        assert json.loads(more.data) == {"message": "m1", "at": 3, "text": "lo"}
        late = events(http, f"{site.url}/tasks/{task}/live")
        async with aclosing(late):
            drafts = [s for s in await until(late, '"lo"') if s.kind == "draft"]
            text = "".join(json.loads(sent.data)["text"] for sent in drafts)
            assert text == "Hello", "who comes late sees the whole draft"
        site.commands.speak(task, "message.text", message="m1", text="Hello.")
        await until(stream, "Hello.")
    again = events(http, f"{site.url}/tasks/{task}/live")
    async with aclosing(again):
        assert not [sent for sent in await until(again, "Hello.") if sent.kind == "draft"]
    await wait_until(lambda: not site.commands.listening(session))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("path", ["/tasks/T-1/live", "/api/v1/sessions/{session}/events"])
async def test_p6_a_viewer_who_breaks_off_again_and_again_sees_every_event_once(
    path: str, seed: int, site: Site, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_module, "FRAMES_MAX", 20)
    rng = random.Random(seed)
    task = await begun(site)
    session = site.commands.session(task)
    total, seen, last = 150, list[str](), ""
    url = site.url + path.format(session=session)

    async def speak() -> None:
        for number in range(total):
            site.commands.speak(task, "notice", level="info", code="", text=f"<{number}>")
            await asyncio.sleep(rng.random() * 0.02)

    async with asyncio.TaskGroup() as group:
        group.create_task(speak())
        watcher = events(http, url)
        group.create_task(watcher.asend(None))  # Somebody else looks too: the window is shared.
        while len(seen) < total:
            stream = events(http, url, last=last)
            patience = rng.randint(1, 40)
            async with aclosing(stream), asyncio.timeout(60):
                async for sent in stream:
                    number = re.search(r"(?:&lt;|<)(\d+)(?:&gt;|>)", sent.data)
                    if not sent.id or number is None:
                        continue
                    seen.append(number[1])
                    last = sent.id
                    patience -= 1
                    if not patience or len(seen) == total:
                        break
    await watcher.aclose()
    assert seen == [str(number) for number in range(total)]


async def test_a_new_run_goes_on_in_the_same_stream(
    site: Site, http: aiohttp.ClientSession
) -> None:
    task = await begun(site)
    site.commands.speak(task, "message.text", message="m1", text="first run")
    stream = events(http, f"{site.url}/tasks/{task}/live")
    async with aclosing(stream):
        await until(stream, "first run")
        site.commands.speak(task, "session.state", state="ended", reason="bye")
        site.commands.begin(task)
        site.commands.speak(task, "message.text", message="m1", text="second run")
        seen = await until(stream, "second run")
        assert any("bye" in sent.data for sent in seen)
        last = seen[-1].id
    site.commands.speak(task, "message.text", message="m2", text="third")
    again = events(http, f"{site.url}/tasks/{task}/live", last=last)
    async with aclosing(again):
        texts = [sent.data for sent in await until(again, "third")]
        assert not [text for text in texts if "second run" in text]


async def test_the_number_of_readings_does_not_grow_with_the_number_of_viewers(
    site: Site, http: aiohttp.ClientSession
) -> None:
    task = await begun(site)
    streams = [events(http, f"{site.url}/tasks/{task}/live") for _ in range(50)]

    async def reads_of(events_count: int) -> tuple[int, float]:
        """Return how often they were read, and how many ticks there were time for."""
        before, began = site.commands.reads, asyncio.get_running_loop().time()
        for number in range(events_count):
            site.commands.speak(task, "notice", level="info", code="", text=f"tick {number}")
            await asyncio.sleep(0.05)
        took_s = asyncio.get_running_loop().time() - began
        return site.commands.reads - before, took_s / live_module.TICK_S

    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(until(stream, "tick 19")) for stream in streams]
        reads, ticks = await reads_of(20)
    assert all(len(reader.result()) >= 20 for reader in readers)
    assert reads < 3 * ticks + 30, f"{reads} readings of one task in {ticks} ticks"
    for stream in streams:
        await stream.aclose()


async def test_nobody_looks_and_nothing_is_read(site: Site, http: aiohttp.ClientSession) -> None:
    task = await begun(site)
    stream = events(http, f"{site.url}/tasks/{task}/live")
    async with aclosing(stream):
        await until(stream, "card-steps")
    await wait_until(lambda: not site.commands.listening(site.commands.session(task)))

    async def is_quiet() -> bool:
        before = site.commands.reads
        await asyncio.sleep(3 * live_module.TICK_S)
        return site.commands.reads == before

    await wait_until(is_quiet)


async def test_an_outage_of_the_records_ends_no_stream(
    site: Site, http: aiohttp.ClientSession
) -> None:
    task = await begun(site)
    stream = events(http, f"{site.url}/tasks/{task}/live")
    async with aclosing(stream):
        await until(stream, "card-steps")
        down = UnavailableError("PostgreSQL", "no answer")
        site.commands.fail_next.update(events=down, task=down, session_events=down)
        site.commands.speak(task, "message.text", message="m1", text="still here")
        await until(stream, "still here")


async def test_a_server_that_stops_ends_its_streams_at_once() -> None:
    setup, running = Setup(patience_s=60), AsyncExitStack()
    await story.tell(setup.commands, setup.person)

    async def rest(stream: AsyncGenerator[Sent, None]) -> int:
        return len([sent async for sent in stream])

    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        site = await running.enter_async_context(a_site(setup))
        http.cookie_jar.update_cookies(site.cookies, URL(site.url))
        streams = [events(http, f"{site.url}{path}") for path in ("/live", "/tasks/T-4/live")]
        await until(streams[0], "task-T-1")
        await until(streams[1], "card-foot")
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            for stream in streams:
                group.create_task(rest(stream))
            await running.aclose()


async def test_a_stranger_gets_no_stream_and_a_missing_task_is_missing(site: Site) -> None:
    async with aiohttp.ClientSession() as stranger:
        async with stranger.get(f"{site.url}/live") as answer:
            assert answer.status == 401
        async with stranger.get(f"{site.url}/tasks/T-9/live", cookies=site.cookies) as answer:
            assert answer.status == 404


async def test_facts_of_a_task_resume_by_their_number(
    site: Site, http: aiohttp.ClientSession
) -> None:
    task = await begun(site)
    url = f"{site.url}/api/v1/tasks/{task}/events"
    async with http.get(url) as answer:
        known = (await answer.json())["events"]
    stream = events(http, url, last=str(known[0]["seq"]))
    async with aclosing(stream):
        site.commands.fact("task.moved", task, to="done")
        seen = await until(stream, "task.moved")
    assert [json.loads(sent.data)["seq"] for sent in seen] == [
        *(fact["seq"] for fact in known[1:]),
        known[-1]["seq"] + 1,
    ]
    async with http.get(url, headers={"Accept": "text/event-stream", "Last-Event-ID": "x'"}) as bad:
        assert bad.status == 400


async def test_the_socket_streams_too(tmp_path) -> None:  # type: ignore[no-untyped-def]
    setup = Setup()
    task = await story.ask(setup.commands, setup.person, "Fix it")
    setup.commands.begin(task)
    async with a_socket(tmp_path, setup.commands, setup.person) as path:
        connector = aiohttp.UnixConnector(str(path))
        async with aiohttp.ClientSession("http://samovar", connector=connector) as http:
            session = setup.commands.session(task)
            stream = events(http, f"/api/v1/sessions/{session}/events")
            async with aclosing(stream):
                setup.commands.speak(task, "notice", level="info", code="", text="over the socket")
                await until(stream, "over the socket")
