"""Port `nodes`: node agents that play a script, straight on our records."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from core.errors import NotFoundError, UnavailableError
from core.ids import NodeId, ReplicaId, TerminalId, WorkspaceId
from core.ports.nodes import AgentInfo, LinkStore
from core.viewing import View, ViewClosedError
from core.wire import Hello, Order, OrderAnswer, Pipe, Report, SessionDelta, ViewTerminal

DELTAS_MAX = 1000
T = TypeVar("T")

Play = Callable[[NodeId, Order], Awaitable[Sequence[Report]]]
"""What a node reports about an order, its answer among it."""


@dataclass(slots=True)
class _Agent:
    hello: Hello
    viewers: asyncio.TaskGroup
    heard: int = 0
    said: int = 0
    answers: dict[str, OrderAnswer] = field(default_factory=dict)


Shown = Callable[[ViewTerminal | Pipe, View], Awaitable[None]]
"""What a node does with a viewer or a pipe, at its end. It is over when this returns."""


class _End:
    """One end of a view: at most one message is on its way to each side."""

    def __init__(self) -> None:
        self.other: _End = self
        self.heard: asyncio.Queue[bytes] = asyncio.Queue(1)
        self.is_over = asyncio.Event()
        self.why = ViewClosedError(1006)

    async def send(self, message: bytes) -> None:
        """See `View.send`."""
        if self.is_over.is_set():
            raise ViewClosedError(self.why.code, self.why.reason)
        await self._unless_over(self.other.heard.put(message))

    async def receive(self) -> bytes:
        """See `View.receive`. What was sent before the end is received before it."""
        if not self.heard.empty():
            return self.heard.get_nowait()
        return await self._unless_over(self.heard.get())

    async def close(self, code: int, reason: str) -> None:
        """See `View.close`."""
        for end in (self, self.other):
            if not end.is_over.is_set():
                end.why = ViewClosedError(code, reason)
                end.is_over.set()

    async def _unless_over(self, work: Coroutine[None, None, T]) -> T:
        async with asyncio.TaskGroup() as group:
            working = group.create_task(work)
            over = group.create_task(self.is_over.wait())
            await asyncio.wait((working, over), return_when=asyncio.FIRST_COMPLETED)
            is_done = working.done()
            working.cancel()
            over.cancel()
        if not is_done:
            raise ViewClosedError(self.why.code, self.why.reason)
        return working.result()


def a_view() -> tuple[View, View]:
    """Return both ends of a view: whoever looks, and what is looked at."""
    one, other = _End(), _End()
    one.other, other.other = other, one
    return one, other


class MemoryNodes:
    """Nodes without a network. `live` is one life of a node; `files` is what streams give."""

    def __init__(
        self, store: LinkStore, play: Play, *, replica: ReplicaId, shown: Shown | None = None
    ) -> None:
        self.files: dict[tuple[NodeId, str, str], bytes] = {}
        self._shown = shown
        self._store = store
        self._play = play
        self._replica = replica
        self._agents: dict[NodeId, _Agent] = {}
        self._listeners: set[asyncio.Queue[SessionDelta]] = set()

    def connected(self) -> Mapping[NodeId, AgentInfo]:
        """See `Nodes.connected`."""
        return {
            node: AgentInfo(
                version=agent.hello.version,
                cpus=agent.hello.cpus,
                memory_mb=agent.hello.memory_mb,
            )
            for node, agent in self._agents.items()
        }

    async def stream(
        self, node: NodeId, what: str, name: str, *, offset_bytes: int = 0
    ) -> AsyncGenerator[bytes]:
        """See `Nodes.stream`."""
        if node not in self._agents:
            raise UnavailableError("Node", f"{node} is not connected")
        if (node, what, name) not in self.files:
            raise NotFoundError(f"no {what} {name}")
        yield self.files[node, what, name][offset_bytes:]

    @asynccontextmanager
    async def view(
        self,
        node: NodeId,
        workspace: WorkspaceId,
        terminal: TerminalId,
        *,
        viewer: str,
        writes: bool,
    ) -> AsyncGenerator[View]:
        """See `Nodes.view`."""
        asked = ViewTerminal(
            ticket="", workspace=workspace, terminal=terminal, viewer=viewer, writes=writes
        )
        async with self._asked(node, asked) as view:
            yield view

    def pipe(self, node: NodeId, wanted: Pipe) -> AbstractAsyncContextManager[View]:
        """See `Nodes.pipe`."""
        return self._asked(node, wanted)

    @asynccontextmanager
    async def _asked(self, node: NodeId, asked: ViewTerminal | Pipe) -> AsyncGenerator[View]:
        agent = self._agents.get(node)
        if agent is None or self._shown is None:
            raise UnavailableError("Node", f"{node} is not connected")
        viewing, showing = a_view()
        agent.viewers.create_task(_show(self._shown, asked, showing))
        try:
            yield viewing
        finally:
            await viewing.close(1000, "")

    async def deltas(self) -> AsyncGenerator[SessionDelta]:
        """See `Nodes.deltas`."""
        queue: asyncio.Queue[SessionDelta] = asyncio.Queue(DELTAS_MAX)
        self._listeners.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.discard(queue)

    def say(self, delta: SessionDelta) -> None:
        """Let a coding agent write."""
        for queue in self._listeners:
            if not queue.full():
                queue.put_nowait(delta)

    async def live(self, hello: Hello) -> None:
        """Be a node until cancelled."""
        heard = await self._store.connected(hello.node, hello, replica=self._replica)
        try:
            async with asyncio.TaskGroup() as viewers:
                agent = _Agent(hello, viewers, heard=hello.received, said=heard)
                self._agents[hello.node] = agent
                await self._work(agent)
        finally:
            del self._agents[hello.node]
            await self._store.disconnected(hello.node, replica=self._replica)

    async def _work(self, agent: _Agent) -> None:
        node = agent.hello.node
        while True:
            orders = await self._store.pending(node, after=agent.heard)
            for seq, order in orders:
                agent.heard = seq
                await self._store.delivered(node, up_to=seq)
                await self._do(agent, order)
            if not orders:
                await self._store.wait(node)

    async def _do(self, agent: _Agent, order: Order) -> None:
        known = agent.answers.get(order.id)
        reports = [known] if known else await self._play(agent.hello.node, order)
        for report in reports:
            agent.said += 1
            await self._store.received(agent.hello.node, agent.said, report)
            if isinstance(report, OrderAnswer):
                agent.answers[order.id] = report


async def _show(shown: Shown, asked: ViewTerminal | Pipe, showing: View) -> None:
    code = 1006
    try:
        with suppress(ViewClosedError):
            await shown(asked, showing)
        code = 1000
    finally:
        await showing.close(code, "")
