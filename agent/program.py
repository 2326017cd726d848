"""The node agent put together: settings, parts, life and end."""

import asyncio
import fcntl
import hashlib
import importlib.metadata
import logging
import os
import shutil
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

import aiohttp

from agent import browse, disk, enrol, files, identity, pipes
from agent.claude.driver import ClaudeDriver
from agent.dial import dial_link, dialling
from agent.docker import Engine
from agent.driver import AgentDriver, SessionSpec
from agent.errors import NodeError
from agent.fetch import fetched
from agent.forward import Forward
from agent.host import Host
from agent.housekeeping import Housekeeping
from agent.identity import Identity
from agent.launcher import ContainerLauncher
from agent.link import Link
from agent.place import Place
from agent.rooms import Rooms, Wanted
from agent.sessions import Sessions
from agent.settings import Settings
from agent.spool import Spool
from agent.streams import Source, Streams, Views, file_sources, refuse
from agent.terminal.lines import ContainerLines
from agent.terminal.recording import recording
from agent.terminal.terminals import Terminals
from agent.workspaces import Workspaces
from core.ids import WorkspaceId
from core.viewing import CLOSE_AWAY, View
from core.wire import PROTOCOL, Hello, NodeStatus, OpenStream, Pipe, StartSession, ViewTerminal

log = logging.getLogger(__name__)

DOCKER_WAIT_S = 5.0


class TakenError(Exception):
    """Another node agent works with this state folder."""


@contextmanager
def alone(state: Path) -> Generator[None]:
    """Hold the state folder; the lock ends with the process, however it ends.

    Raises:
        TakenError: Somebody else holds it.
    """
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TakenError(f"another node agent works with {state}") from None
        yield


def settings_of(state: Path) -> Settings:
    """Read `settings.json` of the state folder, then the environment, then what is usual."""
    kept = files.read_json(state / "settings.json") or {}

    def named(key: str, variable: str, usual: str = "") -> str:
        return str(kept.get(key) or os.environ.get(variable) or usual)

    musl = named("claude_musl", "SAMOVAR_CLAUDE_MUSL")
    return Settings(
        state=state,
        docker_host=named("docker_host", "DOCKER_HOST", "unix:///var/run/docker.sock"),
        node_js=named("node_js", "SAMOVAR_NODE", shutil.which("node") or "node"),
        devcontainer_js=named("devcontainer_js", "SAMOVAR_DEVCONTAINER_JS"),
        claude=Path(named("claude", "SAMOVAR_CLAUDE", "/opt/samovar/claude")),
        claude_musl=Path(musl) if musl else None,
        bridge=named("bridge", "SAMOVAR_BRIDGE") or None,
    )


async def joined(state: Path) -> Identity:
    """Return who we are; join first if the state folder holds `join.json` instead.

    Raises:
        JoinError: There is neither, or the token in it is not good.
    """
    kept = files.read_json(state / "settings.json") or {}
    known = identity.load(state)
    if known is not None:
        (state / "join.json").unlink(missing_ok=True)
        url = str(kept.get("url") or known.url)
        return Identity(url=url, node=known.node, cpus=known.cpus, memory_mb=known.memory_mb)
    wish = files.read_json(state / "join.json")
    if wish is None:
        raise enrol.JoinError("this machine is no node yet: run `samovar-agent join` first")
    cpus, memory_mb = identity.machine()
    cpus = float(kept.get("cpus") or cpus)
    memory_mb = int(kept.get("memory_mb") or memory_mb)
    made = await enrol.join(wish["url"], wish["token"], state, cpus=cpus, memory_mb=memory_mb)
    (state / "join.json").unlink()
    log.info("node.joined", extra={"node_id": made.node})
    return made


class Program:
    """One life of the node agent. What it drives outlives it."""

    def __init__(self, state: Path, who: Identity) -> None:
        self._state = state
        self._who = who
        self._spool = Spool(state / "spool.db")
        self._settings = settings_of(state)
        self._engine = Engine(self._settings.docker_host)
        self._host: Host | None = None
        self._sources: dict[str, Source] = {**file_sources(files.Layout(state=state))}
        self._terminals: Terminals | None = None
        self._workspaces: Workspaces | None = None
        self._version = _version()

    async def run(self) -> None:
        """Be a node until cancelled."""
        await self._spool.open()
        try:
            async with dialling() as client, asyncio.TaskGroup() as group:
                link = self._link(client)
                group.create_task(link.run())
                group.create_task(enrol.keep_token_fresh(client, self._who.url, self._state))
                await self._work(link, client)
        finally:
            await self._engine.close()
            await self._spool.close()

    def _link(self, client: aiohttp.ClientSession) -> Link:
        def token() -> str:
            return identity.token(self._state)

        streams = Streams(client, self._who.url, token, self._sources)
        views = Views(client, self._who.url, token, self._look)

        async def serve(wanted: Wanted) -> None:
            if isinstance(wanted, OpenStream):
                await streams.serve(wanted)
            else:
                await views.serve(wanted)

        return Link(
            dial=lambda: dial_link(client, self._who.url, token()),
            spool=self._spool,
            hello=self._hello,
            status=self._status,
            serve=Rooms(serve, partial(refuse, client, self._who.url, token)).serve,
        )

    async def _look(self, wanted: ViewTerminal | Pipe, view: View) -> None:
        if self._terminals is None or self._workspaces is None:
            await view.close(CLOSE_AWAY, "The node is just starting.")
            return
        if not isinstance(wanted, ViewTerminal):
            await pipes.serve(self._workspaces, wanted, view)
            return
        await self._terminals.view(
            view,
            workspace=wanted.workspace,
            terminal=wanted.terminal,
            viewer=wanted.viewer,
            writes=wanted.writes,
        )

    async def _work(self, link: Link, client: aiohttp.ClientSession) -> None:
        """Take orders as soon as Docker answers; until then they wait in the spool."""
        address = self._settings.bridge or await self._bridge()
        settings = replace(self._settings, bridge=address)
        forward = Forward(upstream=self._who.url, address=address, state=self._state)
        workspaces = Workspaces(
            settings,
            credentials=partial(_credentials, link),
            copies=partial(
                fetched,
                client,
                self._who.url,
                lambda: identity.token(self._state),
                files.Layout(state=self._state),
            ),
            tell=self._spool.put,
            forward_url=lambda: forward.url,
        )
        self._sources |= browse.sources(workspaces)
        self._workspaces = workspaces
        sessions = Sessions(
            spool=self._spool,
            place=workspaces.place,
            make=partial(self._driver, forward, link, workspaces),
        )
        self._terminals = Terminals(
            layout=files.Layout(state=self._state),
            lines=ContainerLines(self._engine),
            place=workspaces.place,
            wake=workspaces.wake,
            reports=self._spool,
        )
        self._sources["recording"] = partial(recording, self._terminals, workspaces.known)
        self._host = Host(
            spool=self._spool,
            workspaces=workspaces,
            sessions=sessions,
            terminals=self._terminals,
        )
        keeping = Housekeeping(
            layout=files.Layout(state=self._state), engine=self._engine, spool=self._spool
        )
        async with forward.serving(), asyncio.TaskGroup() as group:
            group.create_task(keeping.run())
            await self._host.run()

    async def _bridge(self) -> str:
        is_told = False
        while True:
            try:
                return await self._engine.bridge()
            except NodeError as error:
                if not is_told:
                    log.error("docker.away", extra={"reason": str(error)})  # noqa: TRY400
                is_told = True
                await asyncio.sleep(DOCKER_WAIT_S)

    def _driver(
        self,
        forward: Forward,
        link: Link,
        workspaces: Workspaces,
        order: StartSession,
        place: Place,
    ) -> AgentDriver:
        spec = SessionSpec(
            session=order.session,
            run=order.run,
            model=order.model,
            frame=order.frame,
            mode=order.mode,
            folder=place.folder,
            run_dir=place.run_dir,
            env={
                **place.env,
                "ANTHROPIC_BASE_URL": f"{forward.url}/llm",
                "ANTHROPIC_AUTH_TOKEN": place.token,
            },
            claude=place.claude,
            uid=place.uid,
            gid=place.gid,
            continues=order.continues,
            is_chat=order.is_chat,
        )
        return ClaudeDriver(
            spec,
            launcher=ContainerLauncher(
                self._engine.client,
                place.container,
                user=place.user,
                wake=partial(workspaces.wake, order.workspace),
            ),
            journal=self._spool,
            publish=link.delta,
            now=_now,
        )

    def _hello(self) -> Hello:
        return Hello(
            protocol=PROTOCOL,
            node=self._who.node,
            version=self._version,
            spool=self._spool.name,
            received=self._spool.received,
            cpus=self._who.cpus,
            memory_mb=self._who.memory_mb,
        )

    def _status(self) -> NodeStatus:
        return NodeStatus(
            load=os.getloadavg()[0],
            memory_free_mb=_memory_free_mb(),
            disk_free_mb=disk.free_mb(self._state),
            workspaces=tuple(self._host.workspaces() if self._host else ()),
            sessions=tuple(self._host.sessions() if self._host else ()),
        )


async def _credentials(
    link: Link, workspace: WorkspaceId, scope: Literal["read", "write"]
) -> tuple[str, str]:
    given = await link.credential(workspace, scope)
    if given.code:
        raise NodeError(given.code, given.text)
    return given.username, given.password


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), tz=UTC)


def _memory_free_mb() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    return 0


def _version() -> str:
    """Return the installed version, or the file's own hash where there is only the file."""
    try:
        return importlib.metadata.version("samovar")
    except importlib.metadata.PackageNotFoundError:
        return hashlib.sha256(Path(sys.argv[0]).read_bytes()).hexdigest()[:12]
