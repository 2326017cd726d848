"""Terminals from a viewer's WebSocket to a PTY: every real part, on loopback, in two processes.

One process is the control plane (web server, node link), the other a node (link, streams, logs,
holders). What is left out is who may look and, if the plan says so, containers.
"""

import asyncio
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import aiohttp
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute
from starlette.websockets import WebSocket

from adapters.nodelink.server import NodeLink
from adapters.web.viewing import show
from agent.dial import dial_link, dialling
from agent.link import Link
from agent.spool import Spool
from agent.streams import Views
from agent.terminal import watcher
from bot.drawn import Drawn
from core.ids import ReplicaId, TerminalId
from core.viewing import (
    BEAT_S,
    FRAME_BYTES_MAX,
    Beat,
    Exited,
    Input,
    Look,
    Output,
    Paint,
    Size,
    View,
    ViewClosedError,
    decode,
    encode,
)
from core.wire import PROTOCOL, Hello, NodeStatus, OpenStream, ViewTerminal
from tests.fakes.link_store import SqlLinkStore
from tests.fakes.local_lines import LocalLines
from tests.fakes.node_link import NODE, ClientView
from tests.fakes.serving import until
from tests.fakes.terminal_node import WORKSPACE, Life, an_order
from tests.fakes.terminals import container_bench

HOLDER_TERMINALS = 50
"""Terminals behind one holder, which is one container's."""
NO_ACKS = 2**40


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What runs in the terminals.

    Attributes:
        programs: A shell script by the letter that a terminal's id has after `t-`.
        has_acks: Whether the node waits for what viewers have drawn.
        in_containers: Whether the programs run in containers, else on this machine.
    """

    programs: Mapping[str, str]
    has_acks: bool = True
    in_containers: bool = False


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Both processes, ready.

    Attributes:
        url: `ws://…/view/` and the id of a terminal.
    """

    url: str
    control: int
    node: int


@contextmanager
def stack(plan: Plan) -> Generator[Stack]:
    """Run both processes for the length of the block."""
    folder = Path(tempfile.mkdtemp(prefix="samovar-"))
    try:
        with (
            _process(_control) as (control, (url, token)),
            _process(_node, plan, url, token, folder) as (node, _),
        ):
            address = url.replace("http:", "ws:")
            yield Stack(url=f"{address}/view/", control=control, node=node)
    finally:
        shutil.rmtree(folder)


@contextmanager
def _process(target: object, *words: object) -> Generator[tuple[int, tuple[str, str]]]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(target, theirs, *words))
    process.start()
    try:
        assert ours.poll(60), "a process of the terminals does not start"
        assert process.pid is not None
        yield process.pid, ours.recv()
    finally:
        with suppress(BrokenPipeError):
            ours.send("end")
        process.join(30)
        process.kill()


def _run(target, pipe: Connection, *words) -> None:  # type: ignore[no-untyped-def]  # any process
    run = uvloop.run if target is _control else asyncio.run
    run(target(pipe, *words))


async def _told(pipe: Connection) -> None:
    await asyncio.to_thread(pipe.recv)


# The control plane


async def _control(pipe: Connection) -> None:
    store = SqlLinkStore()
    token = store.add_node(NODE)
    link = NodeLink(store, store, replica=ReplicaId("r1"), agent_files={}, heartbeat_s=15)

    async def view(socket: WebSocket) -> None:
        terminal = TerminalId(socket.path_params["terminal"])
        await until(lambda: NODE in link.connected())
        await show(socket, lambda: link.view(NODE, WORKSPACE, terminal, viewer="Ana", writes=True))

    app = Starlette(
        routes=[WebSocketRoute("/view/{terminal}", view), Mount("/node/v1", app=link.app)]
    )
    config = uvicorn.Config(
        app,
        port=0,
        log_level="error",
        lifespan="off",
        ws="websockets-sansio",
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(link.run()), group.create_task(server.serve())]
        await until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        pipe.send((f"http://127.0.0.1:{port}", token))
        await _told(pipe)
        server.should_exit = True
        await tasks[1]
        tasks[0].cancel()


# The node


async def _node(pipe: Connection, plan: Plan, url: str, token: str, folder: Path) -> None:
    if not plan.has_acks:
        for name in ("WINDOW_BYTES", "WINDOW_BYTES_MAX", "BEHIND_BYTES_MAX"):
            setattr(watcher, name, NO_ACKS)
    node = _Node(plan, folder)
    spool = Spool(folder / "spool.db")
    await spool.open()
    try:
        async with dialling() as client, asyncio.TaskGroup() as group:
            views = Views(client, url, lambda: token, node.look)

            async def serve(wanted: OpenStream | ViewTerminal) -> None:
                assert isinstance(wanted, ViewTerminal)
                await views.serve(wanted)

            link = Link(
                dial=lambda: dial_link(client, url, token),
                spool=spool,
                hello=lambda: Hello(
                    protocol=PROTOCOL,
                    node=NODE,
                    version="1",
                    spool=spool.name,
                    received=spool.received,
                    cpus=2.0,
                    memory_mb=4096,
                ),
                status=lambda: NodeStatus(load=0.1, memory_free_mb=1, disk_free_mb=1),
                serve=serve,
            )
            tasks = [group.create_task(link.run()), group.create_task(node.run())]
            await node.has_begun.wait()
            pipe.send(("", ""))
            await _told(pipe)
            for task in tasks:
                task.cancel()
    finally:
        await spool.close()
        await node.end()


class _Node:
    """Terminals that are opened when somebody looks, behind as many holders as it takes."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self.has_begun = asyncio.Event()
        self._lives: list[Life] = []
        self._open = AsyncExitStack()
        self._of: dict[TerminalId, Life] = {}
        self._group: asyncio.TaskGroup | None = None
        self._opening = asyncio.Lock()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            self.has_begun.set()
            await asyncio.Event().wait()

    async def look(self, asked: ViewTerminal, view: View) -> None:
        life = await self._life(asked.terminal)
        await life.view(terminal=asked.terminal)(view)

    async def _life(self, terminal: TerminalId) -> Life:
        async with self._opening:
            if terminal not in self._of:
                if len(self._of) >= HOLDER_TERMINALS * len(self._lives):
                    self._lives.append(await self._begun())
                life = self._of[terminal] = self._lives[-1]
                script = self.plan.programs[terminal.removeprefix("t-")[0]]
                await life.terminals.open(an_order("sh", "-c", script, terminal=terminal))
            return self._of[terminal]

    async def _begun(self) -> Life:
        assert self._group is not None
        folder = Path(tempfile.mkdtemp(prefix="node-", dir=self.folder))
        spool = Spool(folder / "spool.db")
        await spool.open()
        life = await self._place(folder, spool)
        self._group.create_task(life.terminals.run())
        await life.terminals.has_adopted.wait()
        return life

    async def _place(self, folder: Path, spool: Spool) -> Life:
        if not self.plan.in_containers:
            lines = LocalLines()
            self._open.callback(lines.end)
            return Life(folder, lines, spool, lines.run_dir)
        making = container_bench(folder, has_python=True)
        bench = await self._open.enter_async_context(making)
        life = Life(folder, bench.lines, spool, bench.run_dir)
        life.changes = {
            "container": bench.container,
            "user": bench.user,
            "folder": bench.home,
            "env": {"PATH": os.defpath, "HOME": bench.home},
        }
        return life

    async def end(self) -> None:
        await self._open.aclose()


# A viewer


class Viewer:
    """Looks at one terminal, draws at once or at a pace, and says what it has drawn.

    Attributes:
        at: Offset after what was drawn; None before the first picture.
        output: What came after the first picture.
    """

    def __init__(
        self, view: View, *, bytes_s: float = float("inf"), seen: int | None = None
    ) -> None:
        self.view = view
        self.drawn = Drawn(view, seen)
        self.at = seen
        self.output = bytearray()
        self.paints = 0
        self.code: int | None = None
        self.has_ended = False
        self._bytes_s = bytes_s

    async def begin(self) -> None:
        """Say what one is."""
        await self.view.send(encode(Look(Size(80, 24), self.at)))

    async def beat(self) -> None:
        """Give signs of life."""
        with suppress(ViewClosedError):
            while True:
                await asyncio.sleep(BEAT_S)
                await self.view.send(encode(Beat()))

    async def tell(self) -> None:
        """Say what was drawn."""
        with suppress(ViewClosedError):
            await self.drawn.tell()

    async def type(self, data: bytes) -> None:
        await self.view.send(encode(Input(data)))

    async def draw(self) -> bytes:
        """Wait for the next output, draw it, say so, and return it; empty for what is none."""
        frame = decode(await self.view.receive())
        match frame:
            case Paint(offset, _, data):
                self.at, self.paints = offset, self.paints + 1
                await self.drawn.up_to(offset)
                return data
            case Output(offset, data):
                assert offset == self.at, f"{offset} instead of {self.at}"
                if self._bytes_s != float("inf"):
                    await asyncio.sleep(len(data) / self._bytes_s)
                self.at = offset + len(data)
                self.output += data
                await self.drawn.up_to(self.at)
                return data
            case Exited(code):
                self.code, self.has_ended = code, True
        return b""

    async def draw_until(self, word: bytes) -> None:
        """Draw until a word was shown."""
        shown = b""
        async with asyncio.timeout(60):
            while word not in shown:
                shown = shown[-len(word) :] + await self.draw()


@asynccontextmanager
async def viewing(
    client: aiohttp.ClientSession,
    url: str,
    *,
    seen: int | None = None,
    bytes_s: float = float("inf"),
) -> AsyncGenerator[Viewer]:
    """Look at the terminal at `url` for the length of the block."""
    async with client.ws_connect(
        url, max_msg_size=FRAME_BYTES_MAX, compress=0, timeout=aiohttp.ClientWSTimeout(ws_close=2)
    ) as socket:
        viewer = Viewer(ClientView(socket), seen=seen, bytes_s=bytes_s)
        await viewer.begin()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(viewer.beat()), group.create_task(viewer.tell())]
            try:
                yield viewer
            finally:
                for task in tasks:
                    task.cancel()
