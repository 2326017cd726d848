"""Promises of the port `nodes`: the real link with a simulated node, and the memory twin."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
)
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from adapters.memory.nodes import MemoryNodes
from agent.files import Layout
from agent.rooms import Wanted
from agent.spool import Spool
from agent.streams import Streams, Views, file_sources
from core.errors import NotFoundError, UnavailableError
from core.ids import NodeId, OrderId, ReplicaId, SessionId, TerminalId, WorkspaceId
from core.ports.nodes import Nodes
from core.viewing import CLOSE_MISSING, OUTPUT_BYTES_MAX, View, ViewClosedError
from core.wire import (
    PROTOCOL,
    STREAM_CHUNK_BYTES,
    ConnectPort,
    Hello,
    OpenStream,
    Order,
    OrderAnswer,
    Pipe,
    PutFile,
    Report,
    SessionDelta,
    ViewTerminal,
)
from tests.fakes.link_store import SqlLinkStore
from tests.fakes.node_link import Shown, attached, control_plane
from tests.fakes.serving import until

NODE = NodeId("node-0000aaaa")
WORKSPACE, TERMINAL = WorkspaceId("wabcdefg"), TerminalId("t-0000aaaa")
MESSAGES = 1000
DELTA = SessionDelta(session=SessionId("s"), message="m", text="hi")


class World:
    """The port, its store, and the levers that both kinds have.

    `shown` is what a terminal of the node does with whoever looks; an echo unless a test says so.
    """

    nodes: Nodes
    store: SqlLinkStore
    say: Callable[[], None]
    shown: Shown

    async def show(self, asked: ViewTerminal | Pipe, view: View) -> None:
        await self.shown(asked, view)

    def look(self, **values: Any) -> AbstractAsyncContextManager[View]:
        asked = {"viewer": "Ana", "writes": True, **values}
        return self.nodes.view(NODE, WORKSPACE, TERMINAL, **asked)

    @asynccontextmanager
    async def a_node(self) -> AsyncGenerator[None]:
        raise NotImplementedError
        yield


class RealWorld(World):
    def __init__(self, folder: Path, url: str, nodes: Nodes, store: SqlLinkStore) -> None:
        self.nodes, self.store = nodes, store
        self._folder, self._url = folder, url
        self._token = store.add_node(NODE)
        self.shown = echo

    @asynccontextmanager
    async def a_node(self) -> AsyncGenerator[None]:
        (self._folder / "rescue").mkdir(exist_ok=True)
        (self._folder / "rescue" / "one").write_bytes(b"content")
        async with aiohttp.ClientSession() as client:
            layout = Layout(state=self._folder)
            streams = Streams(client, self._url, lambda: self._token, file_sources(layout))

            pipes = Views(client, self._url, lambda: self._token, self.show)

            async def serve(wanted: Wanted) -> None:
                if isinstance(wanted, OpenStream):
                    await streams.serve(wanted)
                elif not isinstance(wanted, ViewTerminal):
                    await pipes.serve(wanted)

            node = attached(
                *(self._url, self._token, self._folder / "n"), serve=serve, shown=self.show
            )
            async with node as agent, asyncio.TaskGroup() as group:
                self.say = lambda: agent.link.delta(DELTA)
                answering = group.create_task(_answer(agent.spool))
                yield
                answering.cancel()


async def _answer(spool: Spool) -> None:
    while True:
        spool.orders_added.clear()
        for _, order in await spool.unanswered(after=0):
            await spool.answer(answer_of(order))
        await spool.orders_added.wait()


class MemoryWorld(World):
    def __init__(self, store: SqlLinkStore) -> None:
        self.store = store
        store.add_node(NODE)
        self.shown = echo
        memory = MemoryNodes(store, self._play, replica=ReplicaId("r"), shown=self.show)
        memory.files[NODE, "bundle", "one"] = b"content"
        self.nodes, self.say = memory, lambda: memory.say(DELTA)
        self._memory = memory

    async def _play(self, _: NodeId, order: Order) -> Sequence[Report]:
        return [answer_of(order)]

    @asynccontextmanager
    async def a_node(self) -> AsyncGenerator[None]:
        hello = Hello(
            protocol=PROTOCOL,
            node=NODE,
            version="1",
            spool="s",
            received=0,
            cpus=1.0,
            memory_mb=1,
        )
        async with asyncio.TaskGroup() as group:
            living = group.create_task(self._memory.live(hello))
            yield
            living.cancel()


async def echo(asked: ViewTerminal | Pipe, view: View) -> None:
    while True:
        await view.send(await view.receive())


def answer_of(order: Order) -> OrderAnswer:
    return OrderAnswer(order=order.id, ok=True, result={"of": order.body["n"]})


def an_order(n: int) -> Order:
    return Order(id=OrderId(f"o{n}"), object="run:1", fence=1, kind="collect", body={"n": n})


@pytest.fixture(params=["memory", "nodelink"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[World]:
    if request.param == "memory":
        yield MemoryWorld(SqlLinkStore())
    else:
        async with control_plane() as plane:
            yield RealWorld(tmp_path, plane.url, plane.link, plane.store)


async def test_1_connected_names_the_nodes_that_answer(world: World) -> None:
    assert dict(world.nodes.connected()) == {}
    async with world.a_node():
        await until(lambda: list(world.nodes.connected()) == [NODE])
    await until(lambda: not world.nodes.connected())


async def test_2_orders_reach_the_node_in_order(world: World) -> None:
    for n in range(20):
        world.store.add_order(NODE, an_order(n))
    async with world.a_node():
        world.store.add_order(NODE, an_order(20))
        await until(lambda: len(world.store.answers()) == 21)
    answered = [body["order"] for body in world.store.bodies("order_answer")]
    assert answered == [f"o{n}" for n in range(21)]


async def test_3_a_repeated_order_has_the_same_answer(world: World) -> None:
    async with world.a_node():
        world.store.add_order(NODE, an_order(1))
        await until(lambda: len(world.store.bodies("order_answer")) == 1)
        changed = Order(id=OrderId("o1"), object="run:1", fence=1, kind="collect", body={"n": 99})
        world.store.add_order(NODE, changed)
        await until(lambda: len(world.store.bodies("order_answer")) == 2)
    assert [body["result"] for body in world.store.bodies("order_answer")] == [{"of": 1}] * 2


async def test_4_a_stream_gives_the_bytes_or_says_why_not(world: World) -> None:
    with pytest.raises(UnavailableError):
        await anext(world.nodes.stream(NODE, "bundle", "one"))
    async with world.a_node():
        await until(world.nodes.connected)
        async with aclosing(world.nodes.stream(NODE, "bundle", "one")) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == b"content"
        async with aclosing(world.nodes.stream(NODE, "bundle", "one", offset_bytes=3)) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == b"tent"
        with pytest.raises(NotFoundError):
            await anext(world.nodes.stream(NODE, "bundle", "two"))


async def test_5_deltas_show_what_is_said_while_somebody_listens(world: World) -> None:
    async with (
        world.a_node(),
        aclosing(world.nodes.deltas()) as deltas,
        asyncio.TaskGroup() as group,
    ):
        await until(world.nodes.connected)
        heard = group.create_task(anext(deltas))
        await asyncio.sleep(0)
        while not heard.done():  # What is said before the node has heard of the link is lost.
            world.say()
            await asyncio.sleep(0.01)
        assert await heard == DELTA


async def test_6_a_view_passes_frames_both_ways_unchanged_and_in_order(world: World) -> None:
    asked: list[ViewTerminal | Pipe] = []

    async def shown(one: ViewTerminal | Pipe, view: View) -> None:
        asked.append(one)
        await echo(one, view)

    world.shown = shown
    frames = [bytes([n % 256]) * n for n in (1, 2, 125, 126, 65535, 65536, 1_000_000)]
    async with world.a_node():
        await until(world.nodes.connected)
        async with world.look(writes=False) as view:
            for frame in frames:
                await view.send(frame)
                assert await view.receive() == frame
    (one,) = asked
    assert isinstance(one, ViewTerminal)
    assert (one.workspace, one.terminal, one.viewer, one.writes) == (
        *(WORKSPACE, TERMINAL, "Ana"),
        False,
    )


async def test_6_a_slow_viewer_slows_the_terminal_and_misses_nothing(world: World) -> None:
    sent = 0

    async def shown(_: ViewTerminal | Pipe, view: View) -> None:
        nonlocal sent
        for n in range(MESSAGES):
            await view.send(n.to_bytes(4) * (OUTPUT_BYTES_MAX // 4))
            sent += 1
        await view.receive()

    world.shown = shown
    async with world.a_node():
        await until(world.nodes.connected)
        async with world.look() as view:
            await settled(lambda: sent)
            assert sent < MESSAGES, "what nobody reads is kept somewhere"
            for n in range(MESSAGES):
                assert (await view.receive())[:4] == n.to_bytes(4)


async def test_6_a_slow_terminal_slows_the_viewer(world: World) -> None:
    may_read = asyncio.Event()

    async def shown(_: ViewTerminal | Pipe, view: View) -> None:
        await may_read.wait()
        for n in range(MESSAGES):
            assert (await view.receive())[:4] == n.to_bytes(4)
        await view.send(b"all")

    world.shown, sent = shown, 0

    async def type_much(view: View) -> None:
        nonlocal sent
        for n in range(MESSAGES):
            await view.send(n.to_bytes(4) * (OUTPUT_BYTES_MAX // 4))
            sent += 1

    async with world.a_node():
        await until(world.nodes.connected)
        async with world.look() as view, asyncio.TaskGroup() as group:
            group.create_task(type_much(view))
            await settled(lambda: sent)
            assert sent < MESSAGES
            may_read.set()
            assert await view.receive() == b"all"


async def settled(count: Callable[[], int]) -> None:
    """Wait until something has begun and does not go on for a while."""
    await until(count)
    before, calm = -1, 0
    while calm < 20:
        calm = calm + 1 if before == count() else 0
        before = count()
        await asyncio.sleep(0.02)


async def test_6_whoever_looks_learns_why_the_terminal_ended_the_view(world: World) -> None:
    async def shown(_: ViewTerminal | Pipe, view: View) -> None:
        await view.close(CLOSE_MISSING, "no such shell: ä")

    world.shown = shown
    async with world.a_node():
        await until(world.nodes.connected)
        async with world.look() as view:
            with pytest.raises(ViewClosedError) as closed:
                await view.receive()
    assert (closed.value.code, closed.value.reason) == (CLOSE_MISSING, "no such shell: ä")


async def test_6_the_terminal_learns_why_whoever_looks_ended_the_view(world: World) -> None:
    learned: list[tuple[int, str]] = []

    async def shown(_: ViewTerminal | Pipe, view: View) -> None:
        try:
            await view.receive()
        except ViewClosedError as closed:
            learned.append((closed.code, closed.reason))

    world.shown = shown
    async with world.a_node():
        await until(world.nodes.connected)
        async with world.look() as view:
            await view.close(4408, "nothing was heard")
            with pytest.raises(ViewClosedError):
                await view.receive()
        async with world.look():
            pass
        await until(lambda: len(learned) == 2)
    assert learned[0] == (4408, "nothing was heard")
    assert learned[1][0] == 1000


async def test_6_a_node_that_cannot_be_reached_is_an_outage(world: World) -> None:
    with pytest.raises(UnavailableError):
        async with world.look():
            pass


async def test_6_the_end_of_the_node_ends_the_view(world: World) -> None:
    async with AsyncExitStack() as stack:
        async with world.a_node():
            await until(world.nodes.connected)
            view = await stack.enter_async_context(world.look())
            await view.send(b"x")
            assert await view.receive() == b"x"
        with pytest.raises(ViewClosedError):
            await view.receive()


@pytest.mark.parametrize(
    "wanted",
    [
        ConnectPort(ticket="", workspace=WORKSPACE, port=5173),
        PutFile(ticket="", workspace=WORKSPACE, path="a%20b", size_bytes=3, replaces=True),
    ],
)
async def test_7_a_pipe_passes_bytes_both_ways_and_both_learn_of_its_end(
    world: World, wanted: Pipe
) -> None:
    asked: list[ViewTerminal | Pipe] = []
    learned: list[int] = []

    async def shown(one: ViewTerminal | Pipe, view: View) -> None:
        asked.append(replace(one, ticket=""))
        for _ in range(3):
            await view.send(await view.receive())
        if len(asked) == 1:
            await view.close(CLOSE_MISSING, "disk_full")
            return
        try:
            await view.receive()
        except ViewClosedError as closed:
            learned.append(closed.code)

    world.shown = shown
    with pytest.raises(UnavailableError):
        async with world.nodes.pipe(NODE, wanted):
            pass
    async with world.a_node():
        await until(world.nodes.connected)
        async with world.nodes.pipe(NODE, wanted) as pipe:
            for message in (b"", b"x", b"y" * STREAM_CHUNK_BYTES):
                await pipe.send(message)
                assert await pipe.receive() == message
            with pytest.raises(ViewClosedError) as closed:
                await pipe.receive()
        assert (closed.value.code, closed.value.reason) == (CLOSE_MISSING, "disk_full")
        async with world.nodes.pipe(NODE, wanted) as pipe:
            for _ in range(3):
                await pipe.send(b"")
                assert await pipe.receive() == b""
        await until(lambda: learned)
    assert asked == [wanted, wanted]
    assert learned == [1000]
