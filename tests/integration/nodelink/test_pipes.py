"""Pipes over real WebSockets: how an app's connection ended, apps that stand still, lost nodes."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from agent import ports
from agent.ports import CLOSE_CUT, connect, pass_on
from agent.rooms import Wanted
from agent.streams import BUSY, Views, refuse
from core.errors import UnavailableError
from core.ids import TerminalId, WorkspaceId
from core.viewing import CLOSE_AWAY, View, ViewClosedError
from core.wire import STREAM_CHUNK_BYTES, ConnectPort, Pipe, ViewTerminal
from tests.fakes.node_link import NODE, ControlPlane, attached, control_plane
from tests.fakes.serving import until

SPACE = WorkspaceId("wabcdefg")
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def an_app(talk: Talk) -> AsyncIterator[int]:
    """Listen on a free port; each connection is closed when `talk` returns."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@dataclass
class Node:
    plane: ControlPlane
    serving: int = 0

    async def serve(self, views: Views, wanted: Wanted) -> None:
        assert isinstance(wanted, ConnectPort)
        self.serving += 1
        try:
            await views.serve(wanted)
        finally:
            self.serving -= 1

    @asynccontextmanager
    async def connected(self, port: int) -> AsyncIterator[View]:
        wanted = ConnectPort(ticket="", workspace=SPACE, port=port)
        async with self.plane.link.pipe(NODE, wanted) as pipe:
            assert await pipe.receive() == b""
            yield pipe


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A node whose workspaces are this machine."""

    async def look(wanted: ViewTerminal | Pipe, pipe: View) -> None:
        assert isinstance(wanted, ConnectPort)
        await pass_on(pipe, await connect(os.getpid(), wanted.port))

    async with control_plane() as plane, aiohttp.ClientSession() as client:
        token = plane.store.add_node(NODE)
        made = Node(plane)
        views = Views(client, plane.url, lambda: token, look)
        serve = partial(made.serve, views)
        async with attached(plane.url, token, tmp_path / "n", serve=serve):
            await until(plane.link.connected)
            yield made


async def test_a_clean_end_is_told_as_one(node: Node) -> None:
    async def say_all(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"all")

    async with an_app(say_all) as port:
        for _ in range(5):
            async with node.connected(port) as pipe:
                assert await pipe.receive() == b"all"
                assert await ended(pipe) == 1000


async def ended(pipe: View) -> int:
    """Return the code with which a pipe ends."""
    try:
        async with asyncio.timeout(60):
            while True:
                await pipe.receive()
    except ViewClosedError as closed:
        return closed.code


async def fill(pipe: View, *, wait_s_max: float = 0.5) -> None:
    """Send until nothing more is taken, or the other side is gone."""
    with suppress(ViewClosedError, TimeoutError):
        while True:
            await asyncio.wait_for(pipe.send(b"x" * STREAM_CHUNK_BYTES), wait_s_max)


@contextmanager
def standing_still() -> Iterator[int]:
    """Listen as a program that was stopped does: the kernel connects and takes what it can."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


async def test_an_app_that_takes_nothing_does_not_keep_its_node_away(node: Node) -> None:
    with standing_still() as port:
        async with node.connected(port) as pipe:
            await fill(pipe)
            assert node.serving == 1
            node.plane.link.links.stop()
            await until(lambda: node.serving == 0)
            await until(node.plane.link.connected)


async def test_an_app_that_takes_nothing_for_long_is_let_go(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "TAKE_S_MAX", 0.2)
    with standing_still() as port:
        async with node.connected(port) as pipe, asyncio.TaskGroup() as group:
            filling = group.create_task(fill(pipe, wait_s_max=60))
            assert await ended(pipe) == CLOSE_CUT
            filling.cancel()
        await until(lambda: node.serving == 0)


async def test_what_a_node_serves_ends_with_its_link(tmp_path: Path) -> None:
    async def shown(_: ViewTerminal, view: View) -> None:
        await view.send(b"first")
        await asyncio.Event().wait()  # And never a word again, as a machine that is gone.

    async with control_plane() as plane:
        token = plane.store.add_node(NODE)
        async with attached(plane.url, token, tmp_path / "n", shown=shown):
            await until(plane.link.connected)
            looking = plane.link.view(
                NODE, SPACE, TerminalId("t-0000aaaa"), viewer="A", writes=True
            )
            async with looking as view:
                assert await view.receive() == b"first"
                plane.link.links.stop()
                assert await ended(view) == CLOSE_AWAY


async def test_a_ticket_that_is_waited_for_ends_with_the_link(tmp_path: Path) -> None:
    async with control_plane() as plane:

        async def ask() -> None:
            with pytest.raises(UnavailableError, match="was lost"):
                await anext(plane.link.stream(NODE, "ports", SPACE))

        token = plane.store.add_node(NODE)
        async with attached(plane.url, token, tmp_path / "n") as agent, asyncio.timeout(60):
            await until(plane.link.connected)
            async with asyncio.TaskGroup() as group:
                group.create_task(ask())
                await until(lambda: agent.streams)
                plane.link.links.stop()


async def test_a_node_without_room_says_so_at_once(tmp_path: Path) -> None:
    async with control_plane() as plane, aiohttp.ClientSession() as client:
        token = plane.store.add_node(NODE)
        serve = partial(refuse, client, plane.url, lambda: token)
        async with attached(plane.url, token, tmp_path / "n", serve=serve):
            await until(plane.link.connected)
            with pytest.raises(UnavailableError, match=BUSY):
                await anext(plane.link.stream(NODE, "file", f"{SPACE}/a"))
            wanted = ConnectPort(ticket="", workspace=SPACE, port=80)
            async with plane.link.pipe(NODE, wanted) as pipe:
                with pytest.raises(ViewClosedError, match=BUSY):
                    await pipe.receive()
