"""The three orders of a publication: collect, check, push."""

import hashlib
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

from agent import files
from agent.builder import Builder, checkout_of
from agent.checkout import Checkout
from agent.checks import Bench, Checks
from agent.collect import Collector, Taken
from agent.devcontainer import Devcontainer
from agent.docker import Engine
from agent.errors import NodeError
from agent.git import Login
from agent.mirror import Mirror
from agent.publish import Publication, heads_of
from agent.record import Record
from agent.rescue import Rescue
from core.wire import Checked, Collect, Collected, Push, Pushed, RunChecks

LoginOf = Callable[[Record, Literal["read", "write"]], Awaitable[Login]]


class Publisher:
    """Publishes what workspaces hold."""

    def __init__(
        self,
        *,
        layout: files.Layout,
        rescue: Rescue,
        engine: Engine,
        cli: Devcontainer,
        builder: Builder,
        login: LoginOf,
    ) -> None:
        self._layout = layout
        self._rescue = rescue
        self._engine = engine
        self._cli = cli
        self._builder = builder
        self._login = login

    async def collect(self, order: Collect, record: Record) -> Collected:
        """Take the work out; see `Workspaces.collect`."""
        stem = f"{files.plain(record.id)}-{_file_name(order.run)}"
        part = self._layout.scratch / f"{stem}.bundle"
        taken = await self._take(order, record, part, stem)
        publication = self._publication(record)
        kept = None
        if taken.has_bundle:
            kept = await self._keep(part, f"{stem}-{taken.head[:12]}.bundle", record)
        await publication.take_in(kept, head=taken.head, seen=taken.seen)
        return await publication.compare(
            await self._login(record, "read"),
            left=taken.left,
            bundle=kept.name if kept else "",
        )

    async def _take(self, order: Collect, record: Record, part: Path, stem: str) -> Taken:
        collector = Collector(self._engine, record, self._layout.workspace(record.id))
        self._layout.scratch.mkdir(parents=True, exist_ok=True)
        try:
            taken = await collector.take(order, part)
        except NodeError as error:
            if error.code != "workspace_git_broken":
                raise
            name = f"{stem}.tar"
            await self._archive(collector, name, (".",))
            raise NodeError(
                error.code,
                "The workspace's git repository is damaged, so nothing can be published; all "
                f"files were kept on the node as {name}.",
            ) from error
        if taken.kept:
            await self._archive(collector, f"{stem}-left.tar", taken.kept)
        return taken

    async def _archive(self, collector: Collector, name: str, paths: tuple[str, ...]) -> None:
        part = self._layout.scratch / name
        await collector.archive(part, paths)
        self._rescue.take(part, name)

    async def _keep(self, part: Path, name: str, record: Record) -> Path:
        heads = await heads_of(part, self._mirror(record).path)
        self._rescue.note(name, record.order, sorted({commit for commit, _ in heads}))
        return self._rescue.take(part, name)

    async def check(self, order: RunChecks, record: Record) -> Checked:
        """Run the project's checks; see `Workspaces.check`."""
        if not re.fullmatch(r"[0-9a-f]{40,64}", order.commit):
            raise NodeError("check_failed", "Checks run at a commit; collect the work first.")
        mirror = self._mirror(record)
        home = self._layout.workspace(record.id)
        bench = Bench(
            record=record,
            checkout=Checkout(
                home=home / "checks" / _file_name(order.run),
                name=checkout_of(home, record.order).name,
            ),
            lenders=(self._publication(record).path, mirror.path),
            trees=self._builder.trees(record.order),
            target=self._builder.target(record),
            has_overlay=await self._builder.can_overlay(),
            owner=self._layout.owner,
        )
        results = await Checks(self._engine, self._cli, bench).run(order)
        return Checked(commit=order.commit, results=results)

    async def push(self, order: Push, record: Record) -> Pushed:
        """Push a collected commit; see `Workspaces.push`."""
        publication = self._publication(record)
        token = self._builder.token(record.id)
        pushed = await publication.push(order, await self._login(record, "write"), token=token)
        for copy in self._rescue.copies():
            is_ours = copy.workspace == record.id and not copy.remote_at
            if is_ours and await publication.are_behind(copy.tips, pushed.commit):
                self._rescue.note_remote(copy, at=time.time())
        return pushed

    def _mirror(self, record: Record) -> Mirror:
        return Mirror(self._layout, record.order.repository, record.order.url)

    def _publication(self, record: Record) -> Publication:
        return Publication(self._layout, record, self._mirror(record))


def _file_name(run: str) -> str:
    """Return a run's id as a part of a file name; another run is another name."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,40}", run):
        return run
    return hashlib.sha256(run.encode()).hexdigest()[:16]
