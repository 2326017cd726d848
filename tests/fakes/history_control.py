"""The control plane of a history: real store, engine, reconcilers and link in a process.

The code host, the supplier of machines and the chat are the history's world, called over a socket.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import structlog
import uvicorn
import uvloop

from adapters.store.store import open_store
from bot.commands import BotCommands
from bot.config import Config, LocalConfig, ModelConfig, WorkspaceConfig
from bot.service import _Server, _work
from bot.setup import Outfit
from bot.wiring import Parts, wire
from core.access import Person
from core.clocks import Clocks
from core.errors import ConflictError, UserError
from core.ids import DecisionId, NodeId, TaskId, ThreadId, WorkspaceId
from core.limits import Limits
from core.ports.chat import Outgoing
from core.ports.commands import Words
from core.ports.compute import Server
from core.ports.forge import Forge, GitAccess, Pull, PullDraft
from core.project import RepoRef, Size
from core.secret import Secret
from tests.fakes.history_wire import Peer, dialled

SURFACE = "chat"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a control plane of a history is told."""

    name: str
    database: str
    world: str
    socket: str
    log: str
    clocks: Clocks
    limits: Limits
    projects: tuple[Any, ...]
    watches_sessions: bool = False


class FarForge:
    """`core.ports.forge.Forge` in the world."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def access(self, repo: RepoRef, *, scope: str, ttl_s: float) -> GitAccess:
        return cast("GitAccess", await self._peer.call("access", repo, scope, ttl_s))

    async def default_branch(self, repo: RepoRef) -> str:
        return cast("str", await self._peer.call("default_branch", repo))

    async def open_pull(self, repo: RepoRef, draft: PullDraft) -> Pull:
        return cast("Pull", await self._peer.call("open_pull", repo, draft))


class FarCompute:
    """`core.ports.compute.Compute` in the world."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def create(self, node_id: NodeId, *, size: Size, enrolment: Secret) -> Server:
        return cast("Server", await self._peer.call("create_server", node_id, enrolment.reveal()))

    async def destroy(self, ref: str) -> None:
        await self._peer.call("destroy_server", ref)

    async def servers(self) -> Sequence[Server]:
        return cast("Sequence[Server]", await self._peer.call("servers"))


class FarChat:
    """`core.ports.chat.Chat` in the world."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def post(self, thread: ThreadId, outgoing: Outgoing, *, key: str) -> str:
        return cast("str", await self._peer.call("post", thread, key, outgoing.text))

    async def find(self, thread: ThreadId, *, key: str) -> str | None:
        return cast("str | None", await self._peer.call("find_post", thread, key))

    async def edit(self, thread: ThreadId, remote: str, outgoing: Outgoing) -> None:
        await self._peer.call("edit", thread, remote, outgoing.text)


class Ears:
    """Does what people of the world ask for."""

    def __init__(self) -> None:
        self.commands: BotCommands | None = None
        self.actor: Person | None = None

    async def __call__(self, name: str, values: tuple[object, ...]) -> object:
        commands, actor = self.commands, self.actor
        if commands is None or actor is None:
            raise RuntimeError("not up yet")
        try:
            match name:
                case "say":
                    return await commands.say(actor, cast("Words", values[0]))
                case "stop":
                    await commands.stop(actor, TaskId(str(values[0])))
                    return "stopped"
                case "new_chat":
                    workspace, text, key = map(str, values)
                    opened = await commands.new_chat(
                        actor, WorkspaceId(workspace), text, surface=SURFACE, key=key
                    )
                    return opened.id
                case "close_chat":
                    await commands.close_chat(actor, TaskId(str(values[0])))
                    return "closed"
                case "answer":
                    decision, surface, answers = values
                    await commands.answer(
                        actor,
                        DecisionId(str(decision)),
                        surface=str(surface),
                        answers=cast("Mapping[str, str]", answers),
                    )
                    return "won"
        except (UserError, ConflictError) as error:
            return f"{type(error).__name__}: {error}"
        raise RuntimeError(f"nobody can {name}")


def _config(settings: Settings) -> Config:
    return Config(
        state=Path(settings.socket).parent,
        local=LocalConfig(enabled=False),
        workspace=WorkspaceConfig(image="base"),
        model=ModelConfig(key_variable="NONE"),  # Without a key nobody asks a model.
        limits=settings.limits,
        clocks=settings.clocks,
        projects=settings.projects,
    )


async def live(settings: Settings) -> None:
    """Be a control plane until SIGTERM."""
    config, ears = _config(settings), Ears()
    peer = await dialled(settings.world, ears)
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    async with asyncio.TaskGroup() as group:
        talking = group.create_task(_until_gone(peer))
        async with _wired(settings, config, peer) as parts:
            ears.actor, ears.commands = await parts.people.local("ana"), parts.commands
            server = _server(parts, settings.socket)
            working = group.create_task(_work(parts, config))
            serving = group.create_task(server.serve())
            while not server.started:
                await asyncio.sleep(0.005)
            await peer.call("up", settings.name, settings.socket)
            await stopping.wait()
            parts.app.end_streams()
            server.should_exit = True
            await asyncio.wait([serving], timeout=10)
            working.cancel()
            await asyncio.wait([working])
        talking.cancel()


@asynccontextmanager
async def _wired(settings: Settings, config: Config, peer: Peer) -> AsyncGenerator[Parts]:
    """Build the program with the world as its code host, its supplier and its chat."""
    async with (
        open_store(settings.database, watches_sessions=settings.watches_sessions) as store,
        wire(
            config,
            Outfit(parts={}),
            store=store,
            forge=cast("Forge", FarForge(peer)),
            computes={"local": FarCompute(peer)},
            chats={SURFACE: FarChat(peer)},
            replica=await peer.call("hello", "control", settings.name, os.getpid()),
        ) as parts,
    ):
        yield parts


def _server(parts: Parts, socket: str) -> _Server:
    return _Server(
        uvicorn.Config(
            parts.app,
            uds=socket,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="websockets-sansio",
            ws_per_message_deflate=False,
            ws_max_size=1 << 24,
            timeout_graceful_shutdown=2,
        )
    )


async def _until_gone(peer: Peer) -> None:
    """A history that is over takes its processes with it."""
    await peer.run()
    os._exit(3)


def log_to(path: str) -> None:
    """Send all that this process writes to a file."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s", force=True)
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stdout))


def main(settings: Settings) -> None:
    """Run in the process of its own."""
    log_to(settings.log)
    uvloop.run(live(settings))
