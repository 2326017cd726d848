"""The node's end of the link, over a connection that is made up."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from agent.link import Link
from agent.spool import Spool
from core.ids import NodeId
from core.link import Channel, LinkClosedError
from core.wire import PROTOCOL, Hello, NodeStatus, OpenStream


class LostWhenCancelled:
    """A `core.link.Channel` that breaks at the moment at which its user is cancelled."""

    def __init__(self) -> None:
        self.is_waited_for = asyncio.Event()

    async def send(self, text: str) -> None:
        """It goes out."""

    async def receive(self) -> str:
        self.is_waited_for.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise LinkClosedError(1006, "lost") from None
        raise AssertionError

    async def close(self, code: int, reason: str) -> None:
        """It is closed."""


async def test_a_link_that_is_lost_while_it_is_cancelled_ends(tmp_path: Path) -> None:
    spool, channel = Spool(tmp_path / "spool.db"), LostWhenCancelled()
    await spool.open()

    @asynccontextmanager
    async def dial() -> AsyncGenerator[Channel]:
        yield channel

    async def serve(_: OpenStream) -> None:
        """Nothing is asked for."""

    link = Link(
        dial=dial,
        spool=spool,
        hello=lambda: Hello(
            protocol=PROTOCOL,
            node=NodeId("node-0000aaaa"),
            version="1",
            spool=spool.name,
            received=0,
            cpus=1.0,
            memory_mb=1,
        ),
        status=lambda: NodeStatus(load=0.0, memory_free_mb=1, disk_free_mb=1),
        serve=serve,
    )
    running = asyncio.ensure_future(link.run())
    await channel.is_waited_for.wait()
    running.cancel()
    done, _ = await asyncio.wait({running}, timeout=30)
    assert done == {running}
    await spool.close()
