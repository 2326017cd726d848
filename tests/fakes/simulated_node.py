"""A node in this process: the agent's own spool, link and host over stand-in parts and a pipe.

Everything between the control plane's `Links` and the parts is the real thing. A life ends when
its task is cancelled or one of its parts raises `Killed`; the next life finds the spool and the
`World` as they are.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from adapters.nodelink.links import Links
from agent.host import Host
from agent.link import Link
from agent.sessions import Sessions
from agent.spool import Spool
from core.ids import NodeId
from core.link import Channel, LinkClosedError
from core.wire import PROTOCOL, Hello, NodeStatus, OpenStream
from tests.fakes.node_parts import (
    Killed,
    PlayedDriver,
    PlayedTerminals,
    PlayedWorkspaces,
    World,
)
from tests.fakes.pipe import PipeEnd, pipe


class SimulatedNode:
    """A node that dials `links()`; None there means that the control plane is down."""

    def __init__(
        self, node: NodeId, folder: Path, world: World, links: Callable[[], Links | None]
    ) -> None:
        self.node = node
        self.world = world
        self.channel: PipeEnd | None = None
        self.lives = 0
        self._is_over = False
        self._folder = folder
        self._links = links

    async def live(self) -> None:
        """Live once: until cancelled, or killed by the world's fuse (returns then)."""
        self.lives += 1
        self._folder.mkdir(parents=True, exist_ok=True)
        spool = Spool(self._folder / "spool.db")
        try:
            await spool.open()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._link(spool).run())
                await self._host(spool).run()
        except BaseExceptionGroup as ends:
            killed, rest = ends.split(Killed)
            if rest is not None or killed is None:
                raise
        except Killed:
            return
        finally:
            await asyncio.shield(spool.close())

    async def live_on(self) -> None:
        """Live again and again, as under a supervisor, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._live_on())
            try:
                await asyncio.Event().wait()
            finally:  # A life that is killed at the same moment forgets that it was cancelled.
                self._is_over = True

    async def _live_on(self) -> None:
        while not self._is_over:
            await self.live()
            await asyncio.sleep(0)

    def _host(self, spool: Spool) -> Host:
        workspaces = PlayedWorkspaces(self.world, spool.put)
        sessions = Sessions(
            spool=spool,
            place=workspaces.place,
            make=lambda order, _: PlayedDriver(self.world, spool, order),
            crash_back_off_s=0.01,
        )
        return Host(
            spool=spool,
            workspaces=workspaces,
            sessions=sessions,
            terminals=PlayedTerminals(),
        )

    def _link(self, spool: Spool) -> Link:
        async def serve(_: OpenStream) -> None:
            """Streams are not played."""

        return Link(
            dial=self._dial,
            spool=spool,
            hello=lambda: Hello(
                protocol=PROTOCOL,
                node=self.node,
                version="simulated",
                spool=spool.name,
                received=spool.received,
                cpus=8.0,
                memory_mb=16384,
            ),
            status=lambda: NodeStatus(
                load=0.0,
                memory_free_mb=1,
                disk_free_mb=1,
                workspaces=tuple(self.world.workspaces),
                sessions=tuple(self.world.live()),
            ),
            serve=serve,
        )

    @asynccontextmanager
    async def _dial(self) -> AsyncGenerator[Channel]:
        links = self._links()
        if links is None:
            raise LinkClosedError(1006, "the control plane is down")
        ours, theirs = pipe()
        self.channel = ours
        closed: LinkClosedError | None = None
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(links.serve(theirs, self.node))
            try:
                yield ours
            except LinkClosedError as error:  # The group would wrap it.
                closed = error
            finally:
                await ours.close(1001, "gone")
                serving.cancel()
                await asyncio.wait({serving})
        if closed is not None:
            raise closed
