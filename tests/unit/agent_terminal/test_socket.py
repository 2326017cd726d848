"""Views over a real WebSocket, dialled by ticket."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from agent.streams import Views
from core.viewing import CLOSE_UNREADABLE, Input, Look, Output, Size, View, decode, encode
from core.wire import ViewTerminal
from tests.fakes.local_lines import PlayedLine, PlayedLines
from tests.fakes.serving import until
from tests.fakes.terminal_node import TERMINAL, WORKSPACE, Life, an_order, living


@asynccontextmanager
async def a_viewer(life: Life) -> AsyncGenerator[web.WebSocketResponse]:
    """Have the node dial our ticket; give our end."""
    dialled: asyncio.Future[web.WebSocketResponse] = asyncio.get_running_loop().create_future()
    is_over = asyncio.Event()

    async def stream(request: web.Request) -> web.WebSocketResponse:
        assert request.headers["Authorization"] == "Bearer token"
        assert "permessage-deflate" not in request.headers.get("Sec-WebSocket-Extensions", "")
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        dialled.set_result(socket)
        await is_over.wait()
        return socket

    app = web.Application()
    app.router.add_get("/node/v1/stream/{ticket}", stream)

    async def look(wanted: ViewTerminal, view: View) -> None:
        await life.view(wanted.viewer, writes=wanted.writes)(view)

    async with (
        TestServer(app) as server,
        aiohttp.ClientSession() as client,
        asyncio.TaskGroup() as group,
    ):
        url = str(server.make_url("")).rstrip("/")
        views = Views(client, url, lambda: "token", look)
        wanted = ViewTerminal(
            ticket="T", workspace=WORKSPACE, terminal=TERMINAL, viewer="Ada", writes=True
        )
        serving = group.create_task(views.serve(wanted))
        yield await dialled
        is_over.set()
        await asyncio.wait({serving}, timeout=20)
        assert serving.done()


async def test_frames_pass_both_ways_and_a_bad_one_ends_it_with_its_reason(tmp_path: Path) -> None:
    line = PlayedLine()
    async with living(tmp_path, PlayedLines(line), tmp_path) as life:
        await life.terminals.open(an_order())
        async with a_viewer(life) as socket:
            await socket.send_bytes(encode(Look(Size(80, 24), 0)))
            await socket.send_bytes(encode(Input(b"\x03" * 60_000)))
            await until(lambda: line.typed == b"\x03" * 60_000)
            line.say(b"out\x00put")
            while True:
                frame = decode(await socket.receive_bytes())
                if isinstance(frame, Output):
                    break
            assert frame == Output(0, b"out\x00put")
            await socket.send_str("text is no frame")
            closed = await socket.receive()
            while closed.type is aiohttp.WSMsgType.BINARY:
                closed = await socket.receive()
            assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, CLOSE_UNREADABLE)


async def test_a_viewer_that_vanishes_is_forgotten(tmp_path: Path) -> None:
    async with living(tmp_path, PlayedLines(PlayedLine()), tmp_path) as life:
        await life.terminals.open(an_order())
        async with a_viewer(life) as socket:
            await socket.send_bytes(encode(Look(Size(80, 24), 0)))
            terminal = life.terminals._kept[TERMINAL].terminal
            assert terminal is not None
            await until(lambda: terminal.watchers)
            assert socket._req is not None
            transport = socket._req.transport
            assert transport is not None
            transport.abort()
            await until(lambda: not terminal.watchers)
