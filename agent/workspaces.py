"""The workspaces of this node: make, find again, publish, delete."""

import asyncio
import logging
import socket
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from agent import disk, files, overlay, ports, record
from agent.broker import Answers, Broker
from agent.browse import Reading, read_changes, read_file, read_folder
from agent.builder import Builder, Copies, checkout_of
from agent.checks import CHECK_LABEL
from agent.devcontainer import Devcontainer, built_images
from agent.docker import Engine
from agent.errors import NodeError
from agent.git import GitFailed, Login
from agent.override import INSIDE, OWNER_LABEL, WORKSPACE_LABEL
from agent.place import Place
from agent.progress import Tell
from agent.publisher import Publisher
from agent.record import Record
from agent.rescue import Rescue
from agent.saver import Saver
from agent.settings import Settings
from agent.upload import put_file
from core.browse import Changes, Listing, Ports
from core.ids import WorkspaceId
from core.viewing import View
from core.wire import (
    Checked,
    Collect,
    Collected,
    CreateWorkspace,
    DropCopy,
    Push,
    Pushed,
    PutFile,
    RunChecks,
    Saved,
    SaveWorkspace,
    WorkspaceReady,
)

log = logging.getLogger(__name__)

AWAY_S_MAX = 600.0
"""How long an order waits for Docker to come back; the control plane's own limits are longer."""
AWAY_LOOK_S = 0.5
T = TypeVar("T")
Scope = Literal["read", "write"]
Credentials = Callable[[WorkspaceId, Scope], Awaitable[tuple[str, str]]]


class Workspaces:
    """All workspaces of one state folder. One order at a time per workspace."""

    def __init__(
        self,
        settings: Settings,
        *,
        credentials: Credentials,
        copies: Copies,
        tell: Tell,
        forward_url: Callable[[], str],
    ) -> None:
        self._layout = files.Layout(state=settings.state.absolute())
        self._credentials = credentials
        self._born_at = time.time()
        self._renewals: asyncio.Queue[Record] = asyncio.Queue(maxsize=100)
        self._engine = Engine(settings.docker_host)
        self._broker = Broker()
        self._locks: defaultdict[WorkspaceId, asyncio.Lock] = defaultdict(asyncio.Lock)
        cli = Devcontainer(settings, self._layout.scratch, self._engine)
        self._builder = Builder(
            settings=settings,
            layout=self._layout,
            engine=self._engine,
            cli=cli,
            credentials=credentials,
            copies=copies,
            tell=tell,
            forward_url=forward_url,
        )
        self._rescue = Rescue(self._layout)
        self._saver = Saver(
            layout=self._layout,
            rescue=self._rescue,
            engine=self._engine,
            builder=self._builder,
        )
        self._publisher = Publisher(
            layout=self._layout,
            rescue=self._rescue,
            engine=self._engine,
            cli=cli,
            builder=self._builder,
            login=self._login,
        )

    def ids(self) -> Sequence[WorkspaceId]:
        """Return the workspaces that were made and not deleted."""
        return [found.id for found in self._records() if found.is_ready]

    async def create(self, order: CreateWorkspace) -> WorkspaceReady:
        """Make sure that the workspace is there and running, with what a named copy holds.

        Files that are there stay, unless they have nothing to do with that copy: then they are set
        aside in one of their own. A higher attempt makes image and container anew.

        Raises:
            NodeError: If it cannot be.
        """
        return await self._insist(lambda: self._create(order))

    async def _create(self, order: CreateWorkspace) -> WorkspaceReady:
        async with self._locks[order.workspace]:
            home = self._layout.workspace(order.workspace)
            known = record.load(home)
            aside: tuple[str, ...] = ()
            if known and order.restore not in {"", known.copy}:
                aside = (await self._set_aside(known),)
                known = None
            if known and known.is_ready and known.order.attempt >= order.attempt:
                made = await self._wake(order.workspace)
            else:
                made = await self._build(order, known)
                made = replace(made, restored=(*made.restored, *aside))
                record.save(home, made)
                await self._listen(made)
                with suppress(asyncio.QueueFull):
                    self._renewals.put_nowait(made)
            return made.answer(self._builder.token_hash(made.id))

    async def _build(self, order: CreateWorkspace, known: Record | None) -> Record:
        if known and known.is_ready:
            return await self._builder.build_again(order, known)
        return await self._builder.build(order, known)

    async def _set_aside(self, known: Record) -> str:
        """Remove what lies in a workspace that went on elsewhere, and say where it is kept."""
        saved = await self._saver.save(known)
        log.warning("workspace.set_aside", extra={"workspace": known.id, "copy": saved.sha256})
        await self._remove(known.id)
        return (
            "Other work that lay in this workspace on its node is kept there, as the rescue copy "
            f"{saved.sha256}."
        )

    async def delete(self, workspace: WorkspaceId, *, discards: bool = False) -> None:
        """Remove containers, volumes, overlay and files; gone already is fine.

        Work that was not collected is kept in the rescue folder first, but for what a person
        `discards`.

        Raises:
            NodeError: `disk_full`, when there is no room for the copy; then nothing is lost.
        """
        await self._insist(lambda: self._delete(workspace, discards=discards))

    async def _delete(self, workspace: WorkspaceId, *, discards: bool) -> None:
        async with self._locks[workspace]:
            if discards:
                self._rescue.is_over(self._layout.workspace(workspace))
            await self._remove(workspace)
        self._locks.pop(workspace, None)

    async def _remove(self, workspace: WorkspaceId) -> None:
        self._broker.close(workspace)
        for container in await self._engine.belonging(workspace):
            await self._engine.remove(container)
        await self._engine.remove_belongings(workspace)
        home = self._layout.workspace(workspace)
        await self._remove_images(home)
        await self._keep(home)
        record.forget(home)  # A kill from here on leaves files that are nobody's work.
        for target in (*home.glob("src/*"), *home.glob("checks/*/src/*")):
            await overlay.unmount(target)
        await asyncio.to_thread(files.remove, home)
        await asyncio.to_thread(files.remove, self._layout.publish(workspace))

    async def _remove_images(self, home: Path) -> None:
        """Remove the images that were built for one workspace; a good one has a second name."""
        known = record.load(home)
        names = [f"samovar-{home.name}-*", f"samovar-{home.name}_*"]  # Of Compose 2 and 1.
        if known is not None:
            names.append(built_images(checkout_of(home, known.order).target))
        for pattern in names:
            for image in await self._engine.images(pattern):
                await self._engine.untag(image)

    async def _keep(self, home: Path) -> None:
        try:
            kept = await asyncio.to_thread(self._rescue.keep, home)
        except OSError as error:
            raise NodeError(
                "disk_full",
                f"The work in {home.name} could not be kept ({error.strerror}), so it was not "
                f"removed. The disk of the node has {disk.free_mb(home)} MB free; free some room "
                "there.",
            ) from error
        if kept is not None:
            log.warning("workspace.work_kept", extra={"workspace": home.name, "file": kept.name})

    async def place(self, workspace: WorkspaceId) -> Place:
        """Return where processes of the workspace run.

        Raises:
            NodeError: `workspace_gone`.
        """
        found = self._record(workspace)
        home = self._layout.workspace(workspace)
        self._rescue.began(home)
        return Place(
            container=found.container,
            user=found.user,
            uid=found.uid,
            gid=found.gid,
            folder=found.folder,
            env=found.env,
            run_dir=home / "run",
            config_dir=f"{INSIDE}/claude",
            token=self._builder.token(workspace),
            claude=found.claude,
        )

    async def wake(self, workspace: WorkspaceId) -> None:
        """Make sure that the workspace's container runs.

        Raises:
            NodeError: If it cannot.
        """
        if not await self._runs(self._record(workspace)):  # Else nobody waits behind a long order.
            async with self._locks[workspace]:
                await self._wake(workspace)

    async def _runs(self, known: Record) -> bool:
        seen = await self._engine.inspect(known.container)
        return bool(seen and seen["State"]["Running"])

    async def folder(self, workspace: WorkspaceId, path: str) -> Listing:
        """Return what is in a folder of a workspace; see `core.browse` for paths.

        Raises:
            NodeError: `workspace_gone` or `no_such_file`.
        """
        return await asyncio.to_thread(read_folder, self._checkout(workspace), path)

    def file(self, workspace: WorkspaceId, path: str) -> Reading:
        """Read a file of a workspace; iterating raises as `folder` does."""
        return read_file(self._checkout(workspace), path)

    async def changes(self, workspace: WorkspaceId) -> Changes:
        """Return what has changed in a workspace; its container is started if it does not run.

        Raises:
            NodeError: `workspace_gone`, `workspace_git_broken`, or what Docker says.
        """
        known = self._record(workspace)
        if not await self._runs(known):
            async with self._locks[workspace]:
                known = await self._wake(workspace)
        return await read_changes(self._engine, known)

    async def ports(self, workspace: WorkspaceId) -> Ports:
        """Return what listens in a workspace.

        Raises:
            NodeError: `workspace_gone`, `workspace_stopped`, or what Docker says.
        """
        seen = await self._running(workspace)
        listeners = await asyncio.to_thread(ports.listening, _first_process(seen))
        return ports.named(listeners, seen["Config"].get("Labels") or {})

    async def connect(self, workspace: WorkspaceId, port: int) -> socket.socket:
        """Return a connection to a port of a workspace.

        Raises:
            NodeError: As `ports` does; `nothing_listens`, `ports_not_reached`.
        """
        return await ports.connect(_first_process(await self._running(workspace)), port)

    async def put(self, wanted: PutFile, pipe: View) -> None:
        """Write a file of a workspace; see `agent.upload`."""
        known = self._record(wanted.workspace)
        self._rescue.began(self._layout.workspace(wanted.workspace))
        root = self._checkout(wanted.workspace)
        await put_file(root, wanted, pipe, uid=known.uid, gid=known.gid)

    async def _running(self, workspace: WorkspaceId) -> dict[str, Any]:
        """Return what Docker says of a workspace's container, which runs."""
        seen = await self._engine.inspect(self._record(workspace).container)
        if seen is None:
            raise NodeError("workspace_gone", f"The container of {workspace} is gone; restart it.")
        if not seen["State"]["Running"]:
            raise NodeError("workspace_stopped", f"The container of {workspace} does not run.")
        return seen

    def _checkout(self, workspace: WorkspaceId) -> Path:
        known = self._record(workspace)
        return checkout_of(self._layout.workspace(workspace), known.order).target

    async def collect(self, order: Collect) -> Collected:
        """Commit what is left, take the commits out of the workspace, compare.

        A stopped container is started again, a lost one is made again.

        Raises:
            NodeError: Such as `workspace_git_broken`; then the files were kept.
        """
        return await self._insist(lambda: self._collect(order))

    async def _collect(self, order: Collect) -> Collected:
        async with self._locks[order.workspace]:
            awake = await self._wake(order.workspace)
            collected = await self._publisher.collect(order, awake)
            self._rescue.is_over(self._layout.workspace(order.workspace))
            return collected

    async def save(self, order: SaveWorkspace) -> Saved:
        """Make a rescue copy of the workspace on this node, and stop its containers for that.

        They may be stopped, broken or gone. The workspace stays, and the next wake starts it.

        Raises:
            NodeError: `workspace_gone`, or see `agent.keep.capture`; then there is no copy.
        """
        async with self._locks[order.workspace]:
            found = record.load(self._layout.workspace(order.workspace))
            if found is None:
                raise _gone(order.workspace)
            return await self._saver.save(found)

    async def drop(self, order: DropCopy) -> None:
        """Remove a rescue copy that the control plane has; gone already is fine."""
        self._rescue.drop(order.sha256)

    async def check(self, order: RunChecks) -> Checked:
        """Run commands in a fresh container of the workspace's image at a collected commit."""
        found = self._record(order.workspace)
        return await self._insist(lambda: self._publisher.check(order, found))

    async def push(self, order: Push) -> Pushed:
        """Push a collected commit to the workspace's branch and make sure that it is there."""
        async with self._locks[order.workspace]:
            return await self._publisher.push(order, self._record(order.workspace))

    async def _insist(self, do: Callable[[], Awaitable[T]]) -> T:
        """Return what `do` returns; do it again if Docker ended meanwhile, whatever came of it.

        Docker is a service: it comes back. All that is done here makes sure of a state.
        """
        until = time.monotonic() + AWAY_S_MAX
        while True:
            try:
                async with self._engine.steady():
                    return await do()
            except NodeError as error:
                if error.code != "docker_unreachable" or time.monotonic() >= until:
                    raise
            log.warning("docker.away")
            await asyncio.sleep(AWAY_LOOK_S)

    async def _wake(self, workspace: WorkspaceId) -> Record:
        awake = await self._builder.wake(self._record(workspace))
        await self._listen(awake)
        return awake

    async def _login(self, record: Record, scope: Scope) -> Login:
        username, password = await self._credentials(record.id, scope)
        return Login(url=record.order.url, username=username, password=password)

    async def run(self) -> None:
        """Find again what is running, then keep ready trees fresh, until cancelled."""
        try:
            await self._adopt()
            while True:
                await self._renew(await self._renewals.get())
        finally:
            await self.close()

    async def close(self) -> None:
        """Stop listening; workspaces go on running."""
        self._broker.close_all()
        await self._engine.close()

    async def _adopt(self) -> None:
        await self._sweep()
        for found in self._records():
            if found.is_ready:
                try:
                    await self._adopt_one(found.id)
                except NodeError as error:
                    log.warning(
                        "workspace.not_adopted", extra={"workspace": found.id, "reason": error.text}
                    )

    async def _adopt_one(self, workspace: WorkspaceId) -> None:
        async with self._locks[workspace]:
            found = record.load(self._layout.workspace(workspace))
            if found is None:
                return
            await self._builder.remount(found)
            seen = await self._engine.inspect(found.container)
            if seen and seen["State"]["Running"]:
                found = await self._builder.repoint(found)
            await self._listen(found)

    async def _sweep(self) -> None:
        """Remove what an earlier life left and nobody can be waiting for."""
        for part in (*self._layout.scratch.glob("*"), *self._layout.state.glob("tree/.part/*")):
            if part.lstat().st_mtime < self._born_at:
                await asyncio.to_thread(files.remove, part)
        mine = {OWNER_LABEL: self._layout.owner}
        for container in await self._engine.find(mine):
            seen = await self._engine.inspect(container)
            labels = (seen or {}).get("Config", {}).get("Labels") or {}
            home = self._layout.workspaces / str(labels.get(WORKSPACE_LABEL))
            if CHECK_LABEL in labels or not home.exists():
                await self._engine.remove(container)

    async def _renew(self, made: Record) -> None:
        used = {Path(one.lower) for one in self._records() if one.lower}
        try:
            await self._builder.renew(made, used)
        except (NodeError, GitFailed, OSError) as error:
            log.warning(
                "tree.not_renewed",
                extra={"repository": made.order.repository, "reason": str(error)[:300]},
            )

    async def _listen(self, made: Record) -> None:
        async def login() -> tuple[str, str]:
            return await self._credentials(made.id, "read")

        answers = Answers(
            url=made.order.url,
            push_url=made.push_url,
            token=self._builder.token(made.id),
            login=login,
        )
        run_dir = self._layout.workspace(made.id) / "run"
        await self._broker.open(made.id, run_dir, answers, uid=made.uid)

    def _records(self) -> Sequence[Record]:
        found = (record.load(home) for home in sorted(self._layout.workspaces.glob("*")))
        return [one for one in found if one]

    def _record(self, workspace: WorkspaceId) -> Record:
        found = record.load(self._layout.workspace(workspace))
        if found is None or not found.is_ready:
            raise _gone(workspace)
        return found


def _first_process(seen: dict[str, Any]) -> int:
    """Return the process by which a container's network is known: nobody's, if it is this host's.

    What listens on the host itself is not the workspace's, also where its project allows
    `--network=host`.
    """
    is_hosts = seen["HostConfig"].get("NetworkMode") == "host"
    return 0 if is_hosts else int(seen["State"]["Pid"])


def _gone(workspace: WorkspaceId) -> NodeError:
    return NodeError(
        "workspace_gone", f"The workspace {workspace} is not on this node; restart it."
    )
