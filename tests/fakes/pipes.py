"""Node agents of which ports and files are asked for, at the other end of `Nodes`."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from adapters.memory.nodes import MemoryNodes, a_view
from agent.errors import NodeError
from core.browse import Ports
from core.errors import NotFoundError, UnavailableError
from core.ids import NodeId
from core.viewing import View, ViewClosedError
from core.wire import CLOSE_MISSING, Pipe, encode_body

Served = Callable[[Pipe, View], Awaitable[None]]


async def echo(_: Pipe, pipe: View) -> None:
    """Be connected, and say what is heard."""
    await pipe.send(b"")
    while True:
        await pipe.send(await pipe.receive())


@dataclass
class PipeNodes(MemoryNodes):
    """Levers: what listens (None: its container does not run), what a pipe does, `is_up`."""

    listening: Ports | None = None
    served: Served = echo
    is_up: bool = True
    asked: list[Pipe] = field(default_factory=list)

    async def stream(
        self, node: NodeId, what: str, name: str, *, offset_bytes: int = 0
    ) -> AsyncGenerator[bytes]:
        self._check(node)
        if self.listening is None:
            raise NotFoundError("its container does not run")
        yield encode_body(self.listening).encode()

    @asynccontextmanager
    async def pipe(self, node: NodeId, wanted: Pipe) -> AsyncGenerator[View]:
        self._check(node)
        self.asked.append(wanted)
        ours, theirs = a_view()
        serving = asyncio.create_task(self._serve(wanted, theirs))
        try:
            yield ours
        finally:
            await ours.close(1000, "")
            await serving

    async def _serve(self, wanted: Pipe, pipe: View) -> None:
        with suppress(ViewClosedError):
            try:
                await self.served(wanted, pipe)
            except NodeError as error:
                await pipe.close(CLOSE_MISSING, error.code)

    def _check(self, node: NodeId) -> None:
        if not self.is_up:
            raise UnavailableError("Node", f"{node} is not connected")
