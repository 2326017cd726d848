"""Both ends of a link as programs that a test may kill: `server DB PORT`, `node URL STATE COUNT`.

The node writes `COUNT` events, each as a report of its own, and answers every order.
"""

import asyncio
import sys
from pathlib import Path

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from adapters.nodelink.server import NodeLink
from agent.dial import dial_link
from agent.link import Link
from agent.spool import Spool
from core.ids import NodeId, ReplicaId, RunId, SessionId
from core.wire import PROTOCOL, Hello, NodeStatus, OpenStream, OrderAnswer, SessionEvent
from tests.fakes.link_store import SqlLinkStore

NODE = NodeId("node-0000aaaa")
SESSION = SessionId("s1")


def serve(database: str, port: str) -> None:
    store = SqlLinkStore(database)
    link = NodeLink(store, store, replica=ReplicaId("r"), agent_files={}, heartbeat_s=0.5)
    app = Starlette(routes=[Mount("/node/v1", app=link.app)])
    uvicorn.run(app, port=int(port), log_level="error", lifespan="off", ws_ping_interval=None)


async def live(url: str, state: str, count: str) -> None:
    folder = Path(state)
    spool = Spool(folder / "spool.db")
    await spool.open()
    token = (folder / "token").read_text()

    async def nothing(_: OpenStream) -> None:
        """No streams here."""

    async with aiohttp.ClientSession() as client, asyncio.TaskGroup() as group:
        link = Link(
            dial=lambda: dial_link(client, url, token),
            spool=spool,
            hello=lambda: Hello(
                protocol=PROTOCOL,
                node=NODE,
                version="1",
                spool=spool.name,
                received=spool.received,
                cpus=1.0,
                memory_mb=1,
            ),
            status=lambda: NodeStatus(load=0.0, memory_free_mb=1, disk_free_mb=1),
            serve=nothing,
        )
        group.create_task(link.run())
        group.create_task(_write(spool, int(count)))
        group.create_task(_answer(spool))


async def _write(spool: Spool, count: int) -> None:
    while (n := (await spool.cursor(SESSION))[1]) < count:
        event = SessionEvent(
            session=SESSION, run=RunId("r"), offset=n, kind="progress", at="", data={"n": n}
        )
        await spool.store(SESSION, [event], cursor=(1, n + 1))


async def _answer(spool: Spool) -> None:
    while True:
        spool.orders_added.clear()
        for seq, order in await spool.unanswered(after=0):
            await spool.answer(OrderAnswer(order=order.id, ok=True, result={"seq": seq}))
        await spool.orders_added.wait()


if __name__ == "__main__":
    if sys.argv[1] == "server":
        serve(*sys.argv[2:])
    else:
        asyncio.run(live(*sys.argv[2:]))
