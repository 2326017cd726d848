"""Terminals over the JSON API: on TCP with cookie and origin, on the unix socket without."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from adapters.memory.nodes import a_view
from adapters.web.viewing import MESSAGE_BYTES_MAX, splice
from bot.client import Client
from core.errors import NotFoundError, UserError
from core.ids import WorkspaceId
from core.viewing import (
    CLOSE_AWAY,
    CLOSE_MISSING,
    CLOSE_UNREADABLE,
    Exited,
    Input,
    Look,
    Output,
    Paint,
    Size,
    View,
    ViewClosedError,
    Viewers,
    decode,
    encode,
)
from tests.fakes.commands import a_person
from tests.fakes.node_link import ClientView
from tests.fakes.serving import serving, until
from tests.fakes.story import tell
from tests.fakes.web import Setup, Site, a_site, a_socket

WORKSPACE = WorkspaceId("k3v9x204")
MESSAGES = 1000


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    setup = Setup()
    await tell(setup.commands, setup.person)
    async with a_site(setup) as running:
        yield running
    await setup.commands.end_terminals()


@pytest.fixture
async def http(site: Site) -> AsyncIterator[aiohttp.ClientSession]:
    jar = aiohttp.DummyCookieJar()
    headers = {**site.origin, "Cookie": f"samovar={site.cookie}"}
    async with aiohttp.ClientSession(f"{site.url}/api/v1/", cookie_jar=jar, headers=headers) as one:
        yield one


async def until_exit(view: View) -> tuple[bytes, int | None]:
    """Return what the terminal says until its end, and its exit code."""
    said = b""
    while True:
        match decode(await view.receive()):
            case Paint(_, _, data) | Output(_, data):
                said += data
            case Exited(code):
                return said, code
            case _:
                pass


async def test_tabs_are_opened_changed_listed_and_closed(
    site: Site, http: aiohttp.ClientSession
) -> None:
    made = []
    for title in ("Tests", ""):
        path = f"workspaces/{WORKSPACE}/terminals"
        async with http.post(path, json={"title": title}) as answer:
            assert answer.status == 201
            made.append(await answer.json())
    assert made[0] == {
        "id": f"{WORKSPACE}.t1",
        "workspace_id": WORKSPACE,
        "title": "Tests",
        "position": 0,
        "state": "open",
        "session_id": None,
        "exit_code": None,
        "error": "",
    }
    change = {"title": "Logs", "position": 1}
    async with http.patch(f"terminals/{made[0]['id']}", json=change) as answer:
        assert answer.status == 204
    async with http.get(f"workspaces/{WORKSPACE}/terminals") as answer:
        assert [tab["title"] for tab in (await answer.json())["terminals"]] == ["Shell 2", "Logs"]
    async with http.delete(f"terminals/{made[0]['id']}") as answer:
        assert answer.status == 204
    asked = [method for method, _ in site.commands.calls if "_terminal" in method]
    assert asked == ["open_terminal", "open_terminal", "change_terminal", "close_terminal"]


async def test_a_workspace_that_is_gone_is_shown_and_a_link_leads_into_one_that_is_not(
    site: Site, http: aiohttp.ClientSession
) -> None:
    async with http.post(f"workspaces/{WORKSPACE}/links") as answer:
        link = await answer.json()
    assert answer.status == 201
    assert link["path"].startswith("/enter?link=")
    assert link["url"] == site.url + link["path"]
    site.commands.lose_workspace(WORKSPACE)
    async with http.get(f"workspaces/{WORKSPACE}") as answer:
        assert (await answer.json())["workspace"]["state"] == "gone"


async def test_openapi_names_what_can_be_asked_for(http: aiohttp.ClientSession) -> None:
    async with http.get("openapi.json") as answer:
        paths = json.loads(await answer.text())["paths"]
    assert set(paths["/workspaces/{workspace_id}/terminals"]) == {"get", "post"}
    assert set(paths["/terminals/{terminal_id}"]) == {"patch", "delete"}
    assert set(paths["/workspaces/{workspace_id}/links"]) == {"post"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": ""}, 403),
        ({"Cookie": ""}, 401),
        ({"Cookie": "samovar=forged"}, 401),
    ],
)
async def test_c1_a_view_opens_to_its_cookie_from_its_origin_alone(
    site: Site, http: aiohttp.ClientSession, headers: dict[str, str], status: int
) -> None:
    tab = await site.commands.open_terminal(site.person, WORKSPACE)
    site.commands.calls.clear()
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await http.ws_connect(f"terminals/{tab.id}/view", headers=headers)
    assert refused.value.status == status
    assert site.commands.calls == []


async def test_a_browser_looks_and_types(site: Site, http: aiohttp.ClientSession) -> None:
    tab = await site.commands.open_terminal(site.person, WORKSPACE)
    async with http.ws_connect(f"terminals/{tab.id}/view") as socket:
        view = ClientView(socket)
        await view.send(encode(Look(Size(90, 20))))
        await view.send(encode(Input(b"echo $((40 + 2)); exit 3\r")))
        said, code = await until_exit(view)
    assert b"42" in said
    assert code == 3


async def test_who_wants_to_read_only_is_taken_for_a_viewer(
    site: Site, http: aiohttp.ClientSession
) -> None:
    tab = await site.commands.open_terminal(site.person, WORKSPACE)
    async with http.ws_connect(f"terminals/{tab.id}/view?read_only=true") as socket:
        view = ClientView(socket)
        await view.send(encode(Look(Size(90, 20))))
        viewers: Viewers | None = None
        while viewers is None:
            frame = decode(await view.receive())
            viewers = frame if isinstance(frame, Viewers) else None
    assert [(one.name, one.writes) for one in viewers.viewers] == [(site.person.name, False)]


async def closed(socket: aiohttp.ClientWebSocketResponse) -> ViewClosedError:
    """Return how it ends, whatever is said before."""
    while True:
        try:
            await ClientView(socket).receive()
        except ViewClosedError as error:
            return error


async def test_why_there_is_nothing_to_see_is_the_reason_of_the_close(
    site: Site, http: aiohttp.ClientSession
) -> None:
    async with http.ws_connect("terminals/t-unknown/view") as socket:
        missing = await closed(socket)
    assert (missing.code, missing.reason) == (CLOSE_MISSING, "That terminal is not here any more.")
    site.commands.opens = False
    tab = await site.commands.open_terminal(site.person, WORKSPACE)
    async with http.ws_connect(f"terminals/{tab.id}/view") as socket:
        assert (await closed(socket)).code == CLOSE_AWAY
    site.commands.fail_next["view_terminal"] = UserError("ä" * 200)
    async with http.ws_connect(f"terminals/{tab.id}/view") as socket:
        long = await closed(socket)
    assert (long.code, long.reason) == (CLOSE_MISSING, "ä" * 61)


async def test_on_the_unix_socket_it_is_the_local_administrator(site: Site, tmp_path: Path) -> None:
    del site
    setup = Setup()
    await tell(setup.commands, setup.person)
    async with a_socket(tmp_path, setup.commands, a_person()), Client(tmp_path / "api.sock") as one:
        made = await one.post("workspaces", WORKSPACE, "terminals", body={})
        async with one.view(made["id"]) as view:
            await view.send(encode(Look(Size(90, 20))))
            await view.send(encode(Input(b"exit 4\r")))
            assert (await until_exit(view))[1] == 4
        with pytest.raises(NotFoundError):
            await one.get("workspaces", "unknown0")
        await setup.commands.end_terminals()


# Both ends of a splice


class Pair:
    """A browser's end and a terminal's end of one splice, and when it was over."""

    def __init__(self) -> None:
        self.viewing, self.terminal = a_view()
        self.is_over = asyncio.Event()

    async def serve(self, socket: WebSocket) -> None:
        await socket.accept()
        await splice(socket, self.viewing)
        self.is_over.set()


@asynccontextmanager
async def a_splice() -> AsyncIterator[tuple[Pair, aiohttp.ClientWebSocketResponse]]:
    pair = Pair()
    app = Starlette(routes=[WebSocketRoute("/", pair.serve)])
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(app, at=""))
        client = await stack.enter_async_context(aiohttp.ClientSession())
        socket = await stack.enter_async_context(client.ws_connect(f"{url}/"))
        yield pair, socket


async def test_the_terminals_end_reaches_the_viewer_with_its_reason() -> None:
    async with a_splice() as (pair, socket):
        await pair.terminal.send(b"B")
        await pair.terminal.close(CLOSE_MISSING, "The shell was closed.")
        assert await ClientView(socket).receive() == b"B", "what was said before is heard before"
        error = await closed(socket)
        assert (error.code, error.reason) == (CLOSE_MISSING, "The shell was closed.")
        await pair.is_over.wait()


async def test_a_terminal_that_is_lost_without_a_word_can_be_dialled_again() -> None:
    async with a_splice() as (pair, socket):
        await pair.terminal.close(1006, "")
        assert (await closed(socket)).code == CLOSE_AWAY


async def test_the_viewers_end_reaches_the_terminal_with_its_reason() -> None:
    async with a_splice() as (pair, socket):
        await socket.close(code=4408, message=b"nothing was heard")
        with pytest.raises(ViewClosedError) as error:
            await pair.terminal.receive()
        assert (error.value.code, error.value.reason) == (4408, "nothing was heard")
        await pair.is_over.wait()


@pytest.mark.parametrize("what", ["text", "large"])
async def test_what_is_no_frame_ends_both_sides(what: str) -> None:
    async with a_splice() as (pair, socket):
        if what == "text":
            await socket.send_str("hello")
        else:
            await socket.send_bytes(b"I" * (MESSAGE_BYTES_MAX + 1))
        assert (await closed(socket)).code == CLOSE_UNREADABLE
        with pytest.raises(ViewClosedError) as error:
            await pair.terminal.receive()
        assert error.value.code == CLOSE_UNREADABLE


async def test_w9_a_viewer_that_reads_nothing_slows_the_terminal_and_misses_nothing() -> None:
    async with a_splice() as (pair, socket), asyncio.TaskGroup() as group:
        sent = 0

        async def write_much() -> None:
            nonlocal sent
            for n in range(MESSAGES):
                await pair.terminal.send(n.to_bytes(4) * 16384)
                sent += 1

        writing = group.create_task(write_much())
        before, calm = -1, 0
        await until(lambda: sent)
        while calm < 20:
            calm = calm + 1 if before == sent else 0
            before = sent
            await asyncio.sleep(0.02)
        assert sent < MESSAGES, "what nobody reads is kept somewhere"
        for n in range(MESSAGES):
            assert (await socket.receive_bytes())[:4] == n.to_bytes(4)
        await writing
