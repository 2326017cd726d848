"""The node agent of a history: real spool, link, host and sessions in a process.

Containers and coding agents are the history's world, called over a socket; they outlive it.
"""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import aiohttp

from agent import identity
from agent.dial import dial_link
from agent.driver import Journal, Program
from agent.enrol import JoinError
from agent.errors import NodeError
from agent.host import Host
from agent.link import Link
from agent.place import Place
from agent.program import joined
from agent.sessions import Sessions
from agent.spool import Spool
from agent.streams import Streams
from core.ids import TerminalId, WorkspaceId
from core.wire import (
    PROTOCOL,
    Checked,
    Collect,
    Collected,
    CreateWorkspace,
    DropCopy,
    Hello,
    NodeStatus,
    OpenStream,
    Push,
    Pushed,
    RunChecks,
    Saved,
    SaveWorkspace,
    SessionEvent,
    StartSession,
    WorkspaceReady,
    WorkspaceStep,
)
from tests.fakes.history_control import _until_gone, log_to
from tests.fakes.history_wire import Peer, dialled
from tests.fakes.node_parts import PlayedTerminals

STEPS = ("fetch", "tree", "policy", "build", "start", "hooks", "probe")
AT = "2026-01-02T03:04:05+00:00"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """What a node agent of a history is told."""

    name: str
    state: str
    world: str
    log: str


class FarWorkspaces:
    """`agent.host.WorkspaceKeeper` over the world."""

    def __init__(self, peer: Peer, spool: Spool, link: Callable[[], Link]) -> None:
        self._peer, self._spool, self._link = peer, spool, link
        self._known: set[WorkspaceId] = set()

    def ids(self) -> Sequence[WorkspaceId]:
        return sorted(self._known)

    async def create(self, order: CreateWorkspace) -> WorkspaceReady:
        await self._credential(order.workspace, "read")
        for step in STEPS[:3]:
            await self._tell(order, step)
        made = cast("WorkspaceReady", await self._peer.call("create_workspace", order))
        for step in STEPS[3:]:
            await self._tell(order, step)
        self._known.add(order.workspace)
        return made

    async def _tell(self, order: CreateWorkspace, step: str) -> None:
        states: tuple[Literal["started"], Literal["done"]] = ("started", "done")
        for state in states:
            told = WorkspaceStep(
                workspace=order.workspace, attempt=order.attempt, step=step, state=state, at=AT
            )
            await self._spool.put(told)

    async def _credential(self, workspace: WorkspaceId, scope: Literal["read", "write"]) -> None:
        given = await self._link().credential(workspace, scope)
        if given.code:
            raise NodeError(given.code, given.text)

    async def save(self, order: SaveWorkspace) -> Saved:
        return cast("Saved", await self._peer.call("save_workspace", order))

    async def drop(self, order: DropCopy) -> None:
        await self._peer.call("drop_copy", order.sha256)

    async def copy(self, wanted: OpenStream) -> AsyncGenerator[bytes]:
        """Give a rescue copy from an offset on."""
        data = cast("bytes", await self._peer.call("copy", wanted.name))
        yield data[wanted.offset_bytes :]

    async def delete(self, workspace: WorkspaceId, *, discards: bool = False) -> None:
        await self._peer.call("delete_workspace", workspace)
        self._known.discard(workspace)

    async def place(self, workspace: WorkspaceId) -> Place:
        await self._peer.call("place", workspace)
        return Place(
            container=f"c-{workspace}",
            user="dev",
            uid=1000,
            gid=1000,
            folder="/workspaces/web",
            env={},
            run_dir=Path("/nowhere"),
            config_dir="/run/samovar/claude",
            token=f"token-{workspace}",
            claude="/opt/claude",
        )

    async def collect(self, order: Collect) -> Collected:
        return cast("Collected", await self._peer.call("collect", order))

    async def check(self, order: RunChecks) -> Checked:
        return cast("Checked", await self._peer.call("check", order))

    async def push(self, order: Push) -> Pushed:
        await self._credential(order.workspace, "write")
        return cast("Pushed", await self._peer.call("push", order))

    async def run(self) -> None:
        self._known |= set(cast("Sequence[WorkspaceId]", await self._peer.call("workspaces")))
        await asyncio.Event().wait()


class FarDriver:
    """`agent.driver.AgentDriver` over the world: a coding agent that goes on by itself."""

    def __init__(self, peer: Peer, journal: Journal, order: StartSession) -> None:
        self._peer, self._journal, self._order = peer, journal, order
        self._is_up = asyncio.Event()
        self._starting = asyncio.Lock()

    async def run(self) -> None:
        session = self._order.session
        async with self._starting:
            is_stopping = self._stopping in await self._journal.notes(session)
            if not is_stopping:
                await self._peer.call("start_session", self._order)
            elif not await self._peer.call("has_session", session):
                return
        self._is_up.set()
        while True:
            _, stored = await self._journal.cursor(session)
            events, has_ended = cast(
                "tuple[Sequence[SessionEvent], bool]",
                await self._peer.call("journal", session, stored),
            )
            await self._journal.store(session, events, cursor=(1, stored + len(events)))
            if has_ended:
                return

    async def started(self) -> None:
        await self._is_up.wait()

    async def prompt(self, prompt: str, text: str) -> None:
        session, key = self._order.session, f"prompt.{prompt}"
        is_noted = key in await self._journal.notes(session)
        if is_noted and await self._peer.call("has_prompt", session, prompt):
            return
        await self._journal.note(session, key, text)
        await self._peer.call("prompt", session, prompt, text)

    async def answer(
        self, request: str, *, allow: bool, answers: Mapping[str, str], message: str
    ) -> None:
        await self._peer.call("answer_question", self._order.session, request, dict(answers))

    async def interrupt(self) -> None:
        """Nobody orders it."""

    async def hand_over(self, terminal: TerminalId) -> None:
        """Nobody orders it, nor the two that follow."""

    def program(self) -> Program:
        return Program(command=(), env={})

    async def take_back(self, terminal: TerminalId) -> None:
        """See `hand_over`."""

    async def stop(self) -> None:
        session = self._order.session
        await self._journal.note(session, self._stopping, "1")
        async with self._starting:
            if await self._peer.call("has_session", session):
                await self._peer.call("stop_session", session)

    @property
    def _stopping(self) -> str:
        return f"stopping.{self._order.run}"


async def live(settings: NodeSettings) -> None:
    """Be a node agent until SIGTERM."""
    peer = await dialled(settings.world, _nothing)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    state = Path(settings.state)
    async with asyncio.TaskGroup() as group:
        talking = group.create_task(_until_gone(peer))
        await peer.call("hello", "node", settings.name, os.getpid())
        who = await _joined(state)
        spool = Spool(state / "spool.db")
        await spool.open()
        links: list[Link] = []
        workspaces = FarWorkspaces(peer, spool, lambda: links[0])
        sessions = Sessions(
            spool=spool,
            place=workspaces.place,
            make=lambda order, _: FarDriver(peer, spool, order),
            crash_back_off_s=0.05,
        )
        host = Host(
            spool=spool,
            workspaces=workspaces,
            sessions=sessions,
            terminals=PlayedTerminals(),
        )
        async with aiohttp.ClientSession() as client:
            streams = Streams(
                client, who.url, lambda: identity.token(state), {"rescue": workspaces.copy}
            )
            links.append(
                Link(
                    dial=lambda: dial_link(client, who.url, identity.token(state)),
                    spool=spool,
                    hello=lambda: Hello(
                        protocol=PROTOCOL,
                        node=who.node,
                        version="1",
                        spool=spool.name,
                        received=spool.received,
                        cpus=who.cpus,
                        memory_mb=who.memory_mb,
                    ),
                    status=lambda: NodeStatus(
                        load=0.0,
                        memory_free_mb=1,
                        disk_free_mb=1,
                        workspaces=tuple(host.workspaces()),
                        sessions=tuple(host.sessions()),
                    ),
                    serve=streams.serve,
                )
            )
            working = [group.create_task(links[0].run()), group.create_task(host.run())]
            await stopping.wait()
            for task in working:
                task.cancel()
            await asyncio.wait(working)
        await spool.close()
        talking.cancel()


async def _joined(state: Path) -> identity.Identity:
    while True:
        try:
            return await joined(state)
        except JoinError as error:
            if "cannot be reached" not in str(error):
                raise
            await asyncio.sleep(0.05)


async def _nothing(name: str, _: tuple[object, ...]) -> object:
    raise RuntimeError(f"a node does not {name}")


def main(settings: NodeSettings) -> None:
    """Run in the process of its own."""
    log_to(settings.log)
    asyncio.run(live(settings))
