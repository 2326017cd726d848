"""B12: a preview against the same app reached directly, and against nginx in front of it.

The whole way: a browser's connection, the control plane, the pipe that the node dialled, a socket
in a network namespace, the app. Each side has a process of its own. `page` is one request after
another for 16 KiB that the app needs a few milliseconds for; `bare` one that it needs none for;
`bulk` is 50 MB that the app writes as fast as they are taken.
"""

import asyncio
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import aiohttp
import uvloop
from aiohttp import web

from adapters.web.app import web_app
from agent.ports import connect, pass_on
from agent.rooms import Wanted
from agent.streams import Views
from core.ids import NodeId, WorkspaceId
from core.viewing import View
from core.wire import ConnectPort, Pipe, ViewTerminal
from tests.bench import peers
from tests.bench.row import ROUNDS, Row
from tests.fakes.commands import FakeCommands, FakeSignIn, a_person
from tests.fakes.node_link import attached, control_plane
from tests.fakes.previews import FakePreviews
from tests.fakes.serving import free_port, until
from tests.fakes.web import serving

PAGES, BARE, BULK_BYTES, WORK_S = 40, 200, 50_000_000, 0.005
NODE, SPACE = NodeId("node-0000aaaa"), WorkspaceId("wbench00")
PAGE, PIECE = b"x" * 16384, b"0123456789abcdef" * 4096
Told = Connection
Part = Callable[[Told], Coroutine[None, None, None]]


async def _app(tell: Told) -> None:
    async def page(request: web.Request) -> web.Response:
        await asyncio.sleep(float(request.query.get("s", 0)))
        return web.Response(body=PAGE)

    async def bulk(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for _ in range(BULK_BYTES // len(PIECE)):
            await answer.write(PIECE)
        return answer

    app = web.Application()
    app.router.add_get("/page", page)
    app.router.add_get("/bulk", bulk)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    tell.send(runner.addresses[0][1])
    await asyncio.Event().wait()


async def _plane(tell: Told) -> None:
    """Be the control plane: the node link, and the previews over it."""
    async with control_plane() as plane:

        class Linked(FakePreviews):
            @asynccontextmanager
            async def connect(self, workspace: WorkspaceId, port: int) -> AsyncIterator[View]:
                wanted = ConnectPort(ticket="", workspace=workspace, port=port)
                async with plane.link.pipe(NODE, wanted) as view:
                    await view.receive()
                    yield view

        previews, commands, port = Linked(), FakeCommands(), free_port()
        app = web_app(
            commands=commands,
            sign_in=FakeSignIn(),
            doors=commands.doors,
            previews=previews,
            deltas=None,
            public_url=f"http://127.0.0.1:{port}",
            domain="localhost",
            xterm=None,
            player=None,
            mounts={},
        )
        async with serving(app, host="127.0.0.1", port=port):
            token = plane.store.add_node(NODE)
            app_port = await asyncio.to_thread(_told_port, tell)
            cookie = previews.let_in(SPACE, app_port, a_person())
            tell.send((port, plane.url, token, cookie))
            await until(plane.link.connected, within_s=60)
            tell.send("up")
            await asyncio.Event().wait()


def _told_port(tell: Told) -> int:
    port: int = tell.recv()
    return port


async def _node(tell: Told) -> None:
    url, token, folder = await asyncio.to_thread(tell.recv)

    async def look(wanted: ViewTerminal | Pipe, pipe: View) -> None:
        assert isinstance(wanted, ConnectPort)
        await pass_on(pipe, await connect(os.getpid(), wanted.port))

    async with aiohttp.ClientSession() as client:
        views = Views(client, url, lambda: token, look)

        async def serve(wanted: Wanted) -> None:
            assert isinstance(wanted, ConnectPort)
            await views.serve(wanted)

        async with attached(url, token, Path(folder), node=NODE, serve=serve):
            await asyncio.Event().wait()


def _run(what: Part, tell: Told) -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    run = asyncio.run if what is _node else uvloop.run
    run(what(tell))


@contextmanager
def _process(what: Part) -> Iterator[Connection]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_run, args=(what, theirs))
    process.start()
    theirs.close()  # Whoever waits for a process that died is told.
    try:
        yield ours
    finally:
        process.terminate()
        process.join()


@dataclass(frozen=True, slots=True)
class Side:
    """Where requests go, with which headers."""

    port: int
    headers: dict[str, str]


async def _measured(side: Side) -> tuple[float, float, float]:
    """Return milliseconds of a page, of a bare request, and of the bulk."""
    url = f"http://127.0.0.1:{side.port}"
    async with aiohttp.ClientSession(headers=side.headers) as http:

        async def ask(path: str, count: int) -> float:
            began = time.perf_counter()
            for _ in range(count):
                async with http.get(f"{url}{path}") as answer:
                    assert answer.status == 200, await answer.text()
                    async for _piece in answer.content.iter_any():
                        pass
            return (time.perf_counter() - began) * 1000 / count

        await ask("/page", 3)
        page = await ask(f"/page?s={WORK_S}", PAGES)
        return page, await ask("/page", BARE), await ask("/bulk", 1)


def main() -> Sequence[Row]:
    """Return the rows."""
    folder = Path(tempfile.mkdtemp())
    try:
        with _process(_app) as app, _process(_plane) as plane, _process(_node) as node:
            app_port = app.recv()
            plane.send(app_port)
            port, link, token, cookie = plane.recv()
            (folder / "n").mkdir()
            node.send((link, token, str(folder / "n")))
            assert plane.recv() == "up"
            host = f"ws-{SPACE}--{app_port}.localhost:{port}"
            ours = Side(port, {"Host": host, "Cookie": f"samovar-preview={cookie}"})
            with peers.nginx(app_port) as nginx:
                sides = (ours, Side(app_port, {}), Side(nginx, {}))
                rounds = [[asyncio.run(_measured(side)) for side in sides] for _ in range(ROUNDS)]
    finally:
        shutil.rmtree(folder)
    return _rows(rounds)


def _rows(rounds: Sequence[Sequence[tuple[float, float, float]]]) -> Sequence[Row]:
    def of(side: int, what: int) -> list[float]:
        return [one[side][what] for one in rounds]

    return [
        Row(name="preview: page ÷ direct", ours=of(0, 0), peer=of(1, 0), goal=1.8),
        Row(name="preview: page ÷ nginx", ours=of(0, 0), peer=of(2, 0), goal=1.4),
        Row(name="preview: bare request ÷ direct", ours=of(0, 1), peer=of(1, 1)),
        Row(name="preview: bare request ÷ nginx", ours=of(0, 1), peer=of(2, 1)),
        Row(name="preview: 50 MB ÷ direct", ours=of(0, 2), peer=of(1, 2)),
        Row(name="preview: 50 MB ÷ nginx", ours=of(0, 2), peer=of(2, 2)),
    ]
