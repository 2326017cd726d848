"""A terminal through all that is wired: records, engine, link, and a node that dialled in."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from adapters.memory.forge import MemoryForge
from adapters.store.links import fingerprint
from agent.dial import dial
from agent.spool import Spool
from bot.config import Config, LocalConfig, ModelConfig, WorkspaceConfig
from bot.setup import Outfit
from bot.wiring import Parts, migrated, wire
from core.access import Person
from core.ids import PersonId, RecordingId, ReplicaId, WorkspaceId
from core.ports.commands import TerminalView
from core.ports.store import Insert
from core.viewing import View
from core.wire import (
    CloseTerminal,
    OpenStream,
    OpenTerminal,
    OrderAnswer,
    TerminalExited,
    ViewTerminal,
)
from tests.fakes.clock import FakeClock
from tests.fakes.node_link import NODE, attached
from tests.fakes.nouns import NOW, a_node, a_project, a_workspace
from tests.fakes.serving import serving, until

WORKSPACE = WorkspaceId("wabcdefg")
ANA = Person(id=PersonId("ana"), name="Ana", role="member", created_at=NOW)


@asynccontextmanager
async def running(folder: Path, clock: FakeClock) -> AsyncIterator[tuple[Parts, str]]:
    """Run a control plane with one workspace on one node; give the address of its link too."""
    config = Config(
        state=folder,
        model=ModelConfig(key_variable="NONE"),
        local=LocalConfig(enabled=False),
        workspace=WorkspaceConfig(image="base"),
    )
    await migrated(config)
    async with wire(
        config, Outfit(parts={}), forge=MemoryForge(now=clock.now), replica=ReplicaId("r-1")
    ) as parts:
        node = a_node(id=NODE, supplier="joined", token_hash=fingerprint("token"))
        workspace = a_workspace(node_id=NODE, run_id=None, container="c1")
        await parts.store.commit(*(Insert(one) for one in (a_project(), node, workspace, ANA)))
        async with serving(parts.link.app) as url, asyncio.TaskGroup() as group:
            tasks = [group.create_task(part.run()) for part in (parts.engine, parts.link)]
            yield parts, url
            for task in tasks:
                task.cancel()


async def do_orders(spool: Spool, done: list[str]) -> None:
    """Be a node's host: open and close, and say that what is closed has exited."""
    while True:
        spool.orders_added.clear()
        for _, order in await spool.unanswered(after=0):
            body = order.read()
            assert isinstance(body, OpenTerminal | CloseTerminal)
            done.append(order.kind)
            await spool.answer(OrderAnswer(order=order.id, ok=True))
        await spool.orders_added.wait()


async def shown(asked: ViewTerminal, view: View) -> None:
    while True:
        await view.send(f"{asked.viewer}:".encode() + await view.receive())


async def recorded(url: str, wanted: OpenStream) -> None:
    """Be a node's streams: send a recording."""
    assert wanted.what == "recording"
    async with (
        aiohttp.ClientSession() as client,
        dial(client, f"{url}/node/v1/stream/{wanted.ticket}", "token") as socket,
    ):
        await socket.send_bytes(f"film of {wanted.name}\n".encode())
        await socket.close(code=aiohttp.WSCloseCode.OK)


async def test_a_terminal_is_opened_viewed_and_ended_by_its_node(
    tmp_path: Path, clock: FakeClock
) -> None:
    done: list[str] = []
    async with running(tmp_path, clock) as (parts, url):
        made = await parts.commands.open_terminal(ANA, WORKSPACE)

        async def tab() -> TerminalView:
            (found,) = await parts.commands.terminals(ANA, WORKSPACE)
            return found

        async def has_exited() -> bool:
            return (await tab()).state == "exited"

        async with (
            attached(
                url,
                "token",
                tmp_path / "node",
                shown=shown,
                serve=lambda wanted: recorded(url, wanted),
            ) as agent,
            asyncio.TaskGroup() as group,
        ):
            doing = group.create_task(do_orders(agent.spool, done))
            async with parts.commands.view_terminal(ANA, made.id) as view:
                assert (await tab()).state == "open"
                await view.send(b"hello")
                assert await view.receive() == b"Ana:hello"
            exited = TerminalExited(workspace=WORKSPACE, terminal=made.id, code=7)
            await agent.spool.put(exited)
            await until(has_exited)
            assert (await tab()).exit_code == 7
            await parts.commands.close_terminal(ANA, made.id)
            await until(lambda: done == ["open_terminal", "close_terminal"])
            doing.cancel()
        recording = RecordingId(made.id)
        assert (await parts.commands.recording(ANA, recording)).state == "kept"
        film = [chunk async for chunk in parts.commands.film(ANA, recording)]
        assert b"".join(film) == f"film of {WORKSPACE}/{made.id}\n".encode()
        assert (tmp_path / "vault.keys").stat().st_mode & 0o077 == 0
        kinds = [event.kind for event in await parts.commands.events(ANA, after=0)]
    assert [kind for kind in kinds if kind.startswith("terminal.")] == [
        *("terminal.opening", "terminal.open", "terminal.exited", "terminal.changed"),
    ]
