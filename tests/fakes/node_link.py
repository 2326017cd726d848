"""A served node link and a node's half of it, over a real WebSocket on loopback."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from adapters.nodelink.files import NodeFiles
from adapters.nodelink.server import HEARTBEAT_S, NodeLink
from agent.dial import dial, dial_link
from agent.link import Link
from agent.rooms import Serve, Wanted
from agent.spool import Spool
from core.ids import NodeId, ReplicaId
from core.link import Channel
from core.viewing import View, ViewClosedError
from core.wire import (
    PROTOCOL,
    Frame,
    Hello,
    NodeStatus,
    OpenStream,
    Order,
    Pipe,
    ViewTerminal,
    from_json,
)
from tests.fakes.link_store import SqlLinkStore
from tests.fakes.serving import serving

NODE = NodeId("node-0000aaaa")
Shown = Callable[[ViewTerminal | Pipe, View], Awaitable[None]]
"""What a node does at its end of a view."""


def an_order(n: int, *, about: str = "run:T-1.1", fence: int = 1) -> Order:
    body = {"session": "s", "prompt": f"p{n}", "text": "go"}
    return Order(id=f"{about}/prompt/{n}", object=about, fence=fence, kind="send_prompt", body=body)


@dataclass
class ControlPlane:
    store: SqlLinkStore
    link: NodeLink
    url: str


@asynccontextmanager
async def control_plane(
    heartbeat_s: float = HEARTBEAT_S, files: NodeFiles | None = None
) -> AsyncGenerator[ControlPlane]:
    """Serve a node link over a store in memory."""
    store = SqlLinkStore()
    link = NodeLink(
        store,
        store,
        replica=ReplicaId("r1"),
        agent_files={"ab" * 32: b"zip"},
        files=files,
        heartbeat_s=heartbeat_s,
    )
    async with serving(link.app) as url, asyncio.TaskGroup() as group:
        running = group.create_task(link.run())
        yield ControlPlane(store, link, url)
        running.cancel()


@asynccontextmanager
async def dialled(
    plane: ControlPlane, token: str, path: str = "link"
) -> AsyncGenerator[aiohttp.ClientWebSocketResponse]:
    """Open a bare WebSocket below `/node/v1`."""
    async with (
        aiohttp.ClientSession() as client,
        dial(client, f"{plane.url}/node/v1/{path}", token) as socket,
    ):
        yield socket


@dataclass
class Agent:
    spool: Spool
    link: Link
    streams: list[OpenStream] = field(default_factory=list)


@asynccontextmanager
async def attached(
    url: str,
    token: str,
    folder: Path,
    *,
    node: NodeId = NODE,
    protocol: int = PROTOCOL,
    serve: Serve | None = None,
    shown: Shown | None = None,
    look: Callable[[ViewTerminal], None] | None = None,
) -> AsyncGenerator[Agent]:
    """Run a node's link with a spool in `folder`.

    `shown` is what viewers of terminals get; `look` is called instead of dialling for them.
    """
    folder.mkdir(exist_ok=True)
    spool = Spool(folder / "spool.db")
    await spool.open()
    asked: list[OpenStream] = []

    async def note(wanted: Wanted) -> None:
        assert isinstance(wanted, OpenStream)
        asked.append(wanted)

    async with aiohttp.ClientSession() as client, asyncio.TaskGroup() as looking:

        def dial_back(asked: ViewTerminal) -> None:
            assert shown is not None
            looks.append(looking.create_task(show(client, url, token, asked, shown)))

        looks: list[asyncio.Task[None]] = []
        link = Link(
            dial=lambda: watched(dial_link(client, url, token), look or dial_back),
            spool=spool,
            hello=lambda: Hello(
                protocol=protocol,
                node=node,
                version="1",
                spool=spool.name,
                received=spool.received,
                cpus=2.0,
                memory_mb=4096,
            ),
            status=lambda: NodeStatus(load=0.1, memory_free_mb=1, disk_free_mb=1),
            serve=serve or note,
            refused_back_off_s=0.2,
        )
        async with asyncio.TaskGroup() as group:
            running = group.create_task(link.run())
            yield Agent(spool, link, asked)
            running.cancel()
        for one in looks:
            one.cancel()
    await spool.close()


@asynccontextmanager
async def watched(
    dialling: AbstractAsyncContextManager[Channel], look: Callable[[ViewTerminal], None]
) -> AsyncGenerator[Channel]:
    async with dialling as channel:
        yield Watched(channel, look)


@dataclass
class Watched:
    """A link's channel that takes out who wants to look at a terminal."""

    inner: Channel
    look: Callable[[ViewTerminal], None]

    async def send(self, text: str) -> None:
        await self.inner.send(text)

    async def close(self, code: int, reason: str) -> None:
        await self.inner.close(code, reason)

    async def receive(self) -> str:
        while True:
            text = await self.inner.receive()
            heard = Frame.decode(text)
            if heard.type != ViewTerminal.TYPE:
                return text
            self.look(from_json(ViewTerminal, heard.body))


async def show(
    client: aiohttp.ClientSession, url: str, token: str, asked: ViewTerminal, shown: Shown
) -> None:
    """Dial the ticket of a viewer and play the terminal."""
    async with dial(client, f"{url}/node/v1/stream/{asked.ticket}", token) as socket:
        with suppress(ViewClosedError):
            await shown(asked, ClientView(socket))


@dataclass
class ClientView:
    """A `View` over a WebSocket that was dialled here."""

    socket: aiohttp.ClientWebSocketResponse

    async def send(self, message: bytes) -> None:
        try:
            await self.socket.send_bytes(message)
        except (aiohttp.ClientError, OSError) as error:
            raise ViewClosedError(self.socket.close_code or 1006) from error

    async def receive(self) -> bytes:
        message = await self.socket.receive()
        if message.type is not aiohttp.WSMsgType.BINARY:
            raise ViewClosedError(self.socket.close_code or 1006, str(message.extra or ""))
        return bytes(message.data)

    async def close(self, code: int, reason: str) -> None:
        await self.socket.close(code=code, message=reason.encode())
