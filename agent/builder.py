"""Make a workspace: fetch, tree, container, lifecycle commands, environment."""

import asyncio
import hashlib
import os
import re
import secrets
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

from agent import broker, compose, configuration, files, overlay, record, shim
from agent.bringup import KILLS_MAX, Bringup, Running
from agent.checkout import HELPER, Checkout, choose, give, repository_settings
from agent.devcontainer import Devcontainer, Target, UpFailed
from agent.docker import Engine
from agent.errors import NodeError
from agent.git import Login, origin
from agent.keep.restore import restore
from agent.keep.site import Site, site_of
from agent.mirror import Mirror
from agent.override import PROFILE, Ours, labels
from agent.process import Identity
from agent.progress import Progress, Tell
from agent.record import Record
from agent.settings import Settings
from agent.trees import Trees
from core.ids import WorkspaceId
from core.wire import CreateWorkspace

Credentials = Callable[[WorkspaceId, Literal["read", "write"]], Awaitable[tuple[str, str]]]
Copies = Callable[[str], AbstractAsyncContextManager[Path]]
"""Gives the rescue copy with a SHA-256 for the length of a `with` block; see `agent/fetch.py`."""
REPOINT = 'git config remote.origin.pushurl "$1"; git config "$2" "$3"; git config "$4" true'
UID_GUESS = 1000
"""The first user that people add to an image; measured again when the container is up."""


class Builder:
    """Makes workspaces and wakes them."""

    def __init__(
        self,
        *,
        settings: Settings,
        layout: files.Layout,
        engine: Engine,
        cli: Devcontainer,
        credentials: Credentials,
        copies: Copies,
        tell: Tell,
        forward_url: Callable[[], str],
    ) -> None:
        self._settings = settings
        self._layout = layout
        self._engine = engine
        self._cli = cli
        self._credentials = credentials
        self._copies = copies
        self._tell = tell
        self._forward_url = forward_url
        self._has_overlay: bool | None = None
        self._trees: dict[Path, Trees] = {}

    async def build(self, order: CreateWorkspace, known: Record | None) -> Record:
        """Make the workspace; files that are there already are kept.

        Raises:
            NodeError: If it cannot be made.
        """
        home = self._layout.workspace(order.workspace)
        progress = Progress(self._tell, order.workspace, order.attempt)
        self._prepare(home)
        made = await self._check_out(order, known, home, progress)
        checkout = checkout_of(home, order)
        bringup = Bringup(
            order=order,
            home=home,
            ours=self._ours(order, checkout),
            good=self._layout.good(order.repository, order.url),
            engine=self._engine,
            cli=self._cli,
            progress=progress,
        )
        is_rebuild = known is not None and (
            known.is_broken or (known.order.attempt < order.attempt and not order.restore)
        )
        has_work = bool(made.container or made.copy)
        record.save(home, replace(made, is_broken=True))
        for _ in range(KILLS_MAX):
            await bringup.sweep()  # Nothing runs that could change the files while they are judged.
            found = configuration.find(checkout.target, order.devcontainer)
            running = await bringup.run(found, is_rebuild=is_rebuild, has_work=has_work)
            done = await self._finish(made, running, checkout, progress)
            if not await bringup.was_killed(running.up.container):
                break
        return done

    async def _check_out(
        self, order: CreateWorkspace, known: Record | None, home: Path, progress: Progress
    ) -> Record:
        if known and known.base_commit:
            restored = () if known.is_ready else known.restored
            made = replace(known, order=order, is_ready=False, restored=restored)
            await self.remount(made)
            return made
        try:
            made = await self._lay_out(order, home, progress)
        except NodeError:
            await checkout_of(home, order).remove()
            await asyncio.to_thread(files.remove, home)
            raise
        record.save(home, made)
        return made

    async def _lay_out(self, order: CreateWorkspace, home: Path, progress: Progress) -> Record:
        """Make a fresh checkout, and put the order's copy into it.

        Nothing remembers it before it is whole: after a kill it is made again from the beginning.
        """
        login = Login(url=order.url, **await self._login(order.workspace))
        mirror = Mirror(self._layout, order.repository, order.url)
        async with AsyncExitStack() as held:
            async with progress.step("fetch"):
                await mirror.refresh(login, watch=_percent(progress))
                base = order.base or await mirror.default_branch(login)
                copy = None
                if order.restore:
                    copy = await held.enter_async_context(self._copies(order.restore))
            async with progress.step("tree"):
                made = await self._make_tree(order, mirror, base, home)
                if copy:
                    await progress.more("tree", "putting the rescue copy back")
                    made = await self._put_back(copy, made)
                return made

    async def _make_tree(
        self, order: CreateWorkspace, mirror: Mirror, base: str, home: Path
    ) -> Record:
        heads = await mirror.heads()
        start = await choose(mirror, heads, base=base, branch=order.branch)
        owner = self._guess(order)
        lower = await checkout_of(home, order).make(
            self.trees(order),
            start,
            owner,
            heads=heads,
            lenders=(mirror.path,),
            settings=self.git_settings(order),
            has_overlay=await self.can_overlay(),
        )
        return Record(
            order=order,
            base=start.base,
            base_commit=start.base_commit,
            lower=str(lower or ""),
            uid=owner.uid,
            gid=owner.gid,
            push_url=self.push_url(order),
        )

    async def _put_back(self, copy: Path, made: Record) -> Record:
        sha256, site = made.order.restore, await self.site(made)
        back = await restore(copy, site, sha256=sha256, scratch=self._layout.scratch)
        return replace(
            made,
            copy=sha256,
            base_commit=back.base_commit or made.base_commit,
            restored=back.sentences,
        )

    async def site(self, known: Record) -> Site:
        """Return where a workspace lies, with its files in place.

        Raises:
            NodeError: `workspace_unreadable`, if they cannot be mounted.
        """
        await self.remount(known)
        tree = checkout_of(self._layout.workspace(known.id), known.order).target
        if known.lower and not await asyncio.to_thread(os.path.ismount, tree):
            raise NodeError(
                "workspace_unreadable",
                f"The files of the workspace {known.id} cannot be mounted; restart its node.",
            )
        return site_of(self._layout, known, tree, self.git_settings(known.order))

    async def _finish(
        self,
        made: Record,
        running: Running,
        checkout: Checkout,
        progress: Progress,
    ) -> Record:
        home = checkout.home
        if (made.uid, made.gid) != (running.owner.uid, running.owner.gid):
            await checkout.give_to(running.owner)
            await self._give_run(home, running.owner)
        self._hand_over(home, running.owner, made.order)
        trouble = await self._hooks(running.target, progress)
        env, unread = await self._environment(running.target, progress)
        done = replace(
            made,
            container=running.up.container,
            user=running.up.user,
            uid=running.owner.uid,
            gid=running.owner.gid,
            root=running.root,
            folder=running.up.folder,
            claude=running.claude,
            config=str(running.target.config or ""),
            recovered=running.recovered or trouble,
            notes=(*running.notes, unread) if unread else running.notes,
            env=env,
            is_ready=True,
            is_broken=bool(running.recovered),
        )
        record.save(home, done)
        return done

    async def _give_run(self, home: Path, owner: Identity) -> None:
        """Give what coding agents wrote to another remote user than they ran as."""
        for name in ("claude", "s"):
            with suppress(FileNotFoundError, NotADirectoryError):
                await asyncio.to_thread(give, home / "run" / name, owner)

    async def _hooks(self, target: Target, progress: Progress) -> str:
        """Run the lifecycle commands; return what went wrong, as a sentence."""

        async def line(_: str, text: str) -> None:
            if text:
                await progress.more("hooks", text.splitlines()[-1][:200])

        try:
            async with progress.step("hooks"):
                await self._cli.run_hooks(target, line=line)
        except UpFailed as error:
            return f"A lifecycle command failed, so the later ones did not run: {error}"
        return ""

    async def _environment(self, target: Target, progress: Progress) -> tuple[dict[str, str], str]:
        """Return the environment of a terminal, or why only the container's own is there."""
        try:
            async with progress.step("probe"):
                return await self._cli.probe(target), ""
        except UpFailed as error:
            return {}, f"What the user's shell sets could not be read: {error}"

    async def wake(self, known: Record) -> Record:
        """Make sure that a workspace that was ready runs; build it again if it is gone."""
        seen = await self._engine.inspect(known.container)
        if seen is None:
            return await self.build_again(known.order, known)
        await self.remount(known)
        if not seen["State"]["Running"]:
            for container in await self._engine.belonging(known.id):
                await self._engine.start(container)
            progress = Progress(self._tell, known.id, known.order.attempt)
            await self._hooks(self.target(known), progress)
        return await self.repoint(known)

    async def build_again(self, order: CreateWorkspace, known: Record) -> Record:
        """Build what was ready; cut short, it is known as it was, and the next wake builds."""
        try:
            return await self.build(order, known)
        except BaseException:
            record.save(self._layout.workspace(known.id), known)
            raise

    def target(self, known: Record) -> Target:
        """Return what the CLI works on for a workspace that was made."""
        home = self._layout.workspace(known.id)
        return Target(
            checkout=checkout_of(home, known.order).target,
            config=Path(known.config) if known.config else None,
            override=home / f"override-{known.order.attempt}.json",
            labels=labels(self._layout.owner, known.order),
            log=home / "logs" / f"build-{known.order.attempt}.log",
            project=compose.project(known.id),
        )

    async def remount(self, known: Record) -> None:
        """Mount the overlay again if a reboot took it away."""
        if known.lower:
            home = self._layout.workspace(known.id)
            await checkout_of(home, known.order).mount(Path(known.lower))

    def push_url(self, order: CreateWorkspace) -> str:
        """Return the repository's address at the push gate."""
        return f"{self._forward_url()}/git/{order.repository}.git"

    def token(self, workspace: WorkspaceId) -> str:
        """Return the workspace token."""
        return (self._layout.workspace(workspace) / "token").read_text()

    def token_hash(self, workspace: WorkspaceId) -> str:
        """Return the SHA-256 of the workspace token, in hex."""
        return hashlib.sha256(self.token(workspace).encode()).hexdigest()

    def _prepare(self, home: Path) -> None:
        """Make the folders and the token of a workspace, unless they are there."""
        parked = self._layout.parked(WorkspaceId(home.name)).parent
        for folder in (home / "run", home / "logs", self._layout.scratch, parked):
            folder.mkdir(parents=True, exist_ok=True)
        if not (home / "token").exists():
            files.write(home / "token", f"wst_{secrets.token_urlsafe(32)}")
        tools = self._layout.state / "tools"
        if not (tools / "git-credential-samovar").exists():
            files.write(tools / "git-credential-samovar", broker.HELPER, mode=0o755)
        for name, text in (("bin/claude", shim.SHIM), (PROFILE, shim.PROFILE)):
            if not (tools / name).exists() or (tools / name).read_text() != text:
                files.write(tools / name, text, mode=0o755)

    def _hand_over(self, home: Path, owner: Identity, order: CreateWorkspace) -> None:
        """Give the run directory's folders to the remote user."""
        for name in ("s", "claude", "t"):
            files.give_folder(home / "run" / name, uid=owner.uid, gid=owner.gid)
        files.write_json(self._uid_file(order), {"uid": owner.uid, "gid": owner.gid})

    def _guess(self, order: CreateWorkspace) -> Identity:
        known = files.read_json(self._uid_file(order)) or {}
        if os.geteuid() != 0:
            return Identity(uid=os.geteuid(), gid=os.getegid())
        return Identity(
            uid=int(known.get("uid", UID_GUESS)),
            gid=int(known.get("gid", UID_GUESS)),
            is_reader=True,
        )

    def _uid_file(self, order: CreateWorkspace) -> Path:
        name = re.sub(r"[^A-Za-z0-9]+", "-", order.devcontainer)
        stem = self._layout.good(order.repository, order.url).stem
        return self._layout.state / "uid" / f"{stem}.{name}.json"

    def _ours(self, order: CreateWorkspace, checkout: Checkout) -> Ours:
        return Ours(
            checkout=checkout.target,
            mirror=self._layout.mirror(order.repository, order.url) / "objects",
            run_dir=checkout.home / "run",
            tools=self._layout.state / "tools",
            claude=self._settings.claude,
            claude_musl=self._settings.claude_musl,
            owner=self._layout.owner,
            cpus=order.cpus,
            memory_mb=order.memory_mb,
        )

    def git_settings(self, order: CreateWorkspace) -> dict[str, str]:
        """Return the git settings of a workspace as they are on this node now."""
        return dict(repository_settings(url=order.url, push_url=self.push_url(order)))

    async def _login(self, workspace: WorkspaceId) -> dict[str, str]:
        username, password = await self._credentials(workspace, "read")
        return {"username": username, "password": password}

    def trees(self, order: CreateWorkspace) -> Trees:
        """Return the ready trees of the order's repository, one object for each."""
        mirror = Mirror(self._layout, order.repository, order.url)
        return self._trees.setdefault(mirror.path, Trees(self._layout, mirror))

    async def renew(self, known: Record, used: Collection[Path]) -> None:
        """Make a ready tree of the newest base for the next workspace; delete unused ones."""
        if not known.lower:
            return
        mirror = Mirror(self._layout, known.order.repository, known.order.url)
        commit = (await mirror.heads()).commits.get(known.base)
        trees = self.trees(known.order)
        if commit:
            await trees.make(commit, Identity(uid=known.uid, gid=known.gid, is_reader=True))
        await trees.collect(used)

    async def repoint(self, known: Record) -> Record:
        """Tell git in a running workspace where the push gate is now, if that changed."""
        url = self.push_url(known.order)
        if url == known.push_url:
            return known
        section = f"credential.{origin(url)}"
        await self._engine.run(
            known.container,
            ["sh", "-c", REPOINT, "sh", url, f"{section}.helper", HELPER, f"{section}.useHttpPath"],
            user=known.user,
            folder=known.root,
            environment=known.env,
        )
        moved = replace(known, push_url=url)
        record.save(self._layout.workspace(known.id), moved)
        return moved

    async def can_overlay(self) -> bool:
        """Say whether this host can mount overlays in the state folder."""
        if self._has_overlay is None:
            self._has_overlay = await overlay.works(self._layout.scratch)
        return self._has_overlay


def checkout_of(home: Path, order: CreateWorkspace) -> Checkout:
    """Return where the working tree of a workspace is."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", order.repository.rsplit("/", 1)[-1]).strip(".-")
    return Checkout(home=home, name=name or "repository")


def _percent(progress: Progress) -> Callable[[bytes], Awaitable[None]]:
    async def watch(chunk: bytes) -> None:
        lines = re.split(rb"[\r\n]", chunk.strip())
        if lines[-1]:
            await progress.more("fetch", lines[-1].decode(errors="replace")[:200])

    return watch
