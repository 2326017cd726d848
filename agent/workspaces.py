"""The workspaces of this node: make, find again, publish, delete."""

import asyncio
import logging
import os
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeVar

from agent import disk, files, overlay, record
from agent.broker import Answers, Broker
from agent.browse import Reading, read_changes, read_file, read_folder
from agent.builder import Builder, checkout_of
from agent.checks import CHECK_LABEL
from agent.devcontainer import Devcontainer, built_images
from agent.docker import Engine
from agent.errors import NodeError
from agent.git import GitFailed, Login
from agent.keep.capture import Copy, capture
from agent.keep.restore import restore
from agent.keep.site import Site, site_of
from agent.override import INSIDE, OWNER_LABEL, WORKSPACE_LABEL
from agent.place import Place
from agent.progress import Tell
from agent.publisher import Publisher
from agent.record import Record
from agent.rescue import Rescue
from agent.settings import Settings
from core.browse import Changes, Listing
from core.ids import WorkspaceId
from core.wire import (
    Checked,
    Collect,
    Collected,
    CreateWorkspace,
    Push,
    Pushed,
    RunChecks,
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
            tell=tell,
            forward_url=forward_url,
        )
        self._rescue = Rescue(self._layout)
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
        """Make sure that the workspace is there and running.

        Raises:
            NodeError: If it cannot be.
        """
        return await self._insist(lambda: self._create(order))

    async def _create(self, order: CreateWorkspace) -> WorkspaceReady:
        async with self._locks[order.workspace]:
            home = self._layout.workspace(order.workspace)
            known = record.load(home)
            if known and known.is_ready and known.order.attempt >= order.attempt:
                made = await self._wake(order.workspace)
            else:
                made = await self._builder.build(order, known)
                await self._listen(made)
                with suppress(asyncio.QueueFull):
                    self._renewals.put_nowait(made)
            return made.answer(self._builder.token_hash(made.id))

    async def delete(self, workspace: WorkspaceId) -> None:
        """Remove containers, volumes, overlay and files; gone already is fine.

        Work that was not collected is kept in the rescue folder first.

        Raises:
            NodeError: `disk_full`, when there is no room for the copy; then nothing is lost.
        """
        await self._insist(lambda: self._delete(workspace))

    async def _delete(self, workspace: WorkspaceId) -> None:
        async with self._locks[workspace]:
            self._broker.close(workspace)
            for container in await self._engine.belonging(workspace):
                await self._engine.remove(container)
            await self._engine.remove_belongings(workspace)
            home = self._layout.workspace(workspace)
            await self._remove_images(home)
            await self._keep(home)
            for target in (*home.glob("src/*"), *home.glob("checks/*/src/*")):
                await overlay.unmount(target)
            await asyncio.to_thread(files.remove, home)
            await asyncio.to_thread(files.remove, self._layout.publish(workspace))
        self._locks.pop(workspace, None)

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

    async def capture(self, workspace: WorkspaceId) -> Copy:
        """Make a rescue copy of the workspace; whoever wants it whole stops what runs there first.

        Docker is not asked: the container may be stopped, broken or gone.

        Raises:
            NodeError: See `agent.keep.capture`; then there is no copy and all is as it was.
        """
        async with self._locks[workspace]:
            found = self._record(workspace)
            site = await self._site(found)
            return await capture(site, scratch=self._layout.scratch, target=self._layout.rescue)

    async def restore(self, workspace: WorkspaceId, sha256: str) -> Sequence[str]:
        """Make the workspace's files those of a rescue copy on this node; return what to tell.

        Nothing may run in the workspace; what is in it now is lost.

        Raises:
            NodeError: See `agent.keep.restore`.
        """
        async with self._locks[workspace]:
            found = self._record(workspace)
            copy, scratch = self._layout.copy(sha256), self._layout.scratch
            return await restore(copy, await self._site(found), sha256=sha256, scratch=scratch)

    async def _site(self, found: Record) -> Site:
        await self._builder.remount(found)
        home = self._layout.workspace(found.id)
        tree = checkout_of(home, found.order).target
        if found.lower and not await asyncio.to_thread(os.path.ismount, tree):
            raise NodeError(
                "workspace_unreadable",
                f"The files of the workspace {found.id} cannot be mounted; restart its node.",
            )
        return site_of(self._layout, found, tree, self._builder.git_settings(found.order))

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
            raise NodeError(
                "workspace_gone", f"The workspace {workspace} is not on this node; restart it."
            )
        return found
