"""What a node does not need any more goes, once an hour. See docs/reference/node-disk.md."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path

from agent import files, overlay, record
from agent.docker import Engine
from agent.mirror import Mirror, locked
from agent.override import GOOD
from agent.record import Record
from agent.rescue import Rescue
from agent.sessions import STARTED
from agent.spool import Spool
from core.ids import SessionId, WorkspaceId

log = logging.getLogger(__name__)

EVERY_S = 3600.0
UNUSED_S = 30 * 86_400
"""After so long without a workspace a repository and its image are fetched anew."""


class Housekeeping:
    """Removes what is over. Every job may be cut at any point and is done again.

    Args:
        images: Pattern of the good images. All nodes on one Docker share them.
        now: Seconds since 1970.
    """

    def __init__(
        self,
        *,
        layout: files.Layout,
        engine: Engine,
        spool: Spool,
        images: str = f"{GOOD}/*",
        now: Callable[[], float] = time.time,
    ) -> None:
        self._layout = layout
        self._engine = engine
        self._spool = spool
        self._good = images
        self._now = now
        self._rescue = Rescue(layout)

    async def run(self) -> None:
        """Do all of it now and then, until cancelled."""
        while True:
            await self.once()
            await asyncio.sleep(EVERY_S)

    async def once(self) -> None:
        """Do all of it; one job that fails stops no other (T6)."""
        jobs: Sequence[Callable[[], Awaitable[None]]] = (
            self._copies,
            self._repositories,
            self._images,
            self._volumes,
            self._sessions,
        )
        for job in jobs:
            try:
                await job()
            except Exception as error:  # noqa: BLE001  the next hour tries again
                log.warning("housekeeping.failed", extra={"reason": str(error)[:300]})

    async def _copies(self) -> None:
        for copy in self._rescue.copies():
            mirror = Mirror(self._layout, copy.repository, copy.url)
            if not copy.remote_at and await mirror.holds(copy.tips):
                self._rescue.note_remote(copy, at=self._now())
        for name in await asyncio.to_thread(self._rescue.expire, now=self._now()):
            log.info("copy.expired", extra={"file": name})

    async def _repositories(self) -> None:
        for path in sorted(self._layout.state.glob("mirror/*.git")):
            lock = path.with_suffix(".lock")
            if not self._is_old(lock) or self._is_needed(path):
                continue
            async with locked(lock):
                if self._is_old(lock) and not self._is_needed(path):
                    await self._remove(path)

    def _is_old(self, lock: Path) -> bool:
        return lock.exists() and self._now() - lock.stat().st_mtime >= UNUSED_S

    def _is_needed(self, mirror: Path) -> bool:
        """Whether a workspace, an overlay or a kept bundle borrows from the repository."""
        homes = list(self._layout.workspaces.glob("*"))
        known: list[Record] = [one for home in homes if (one := record.load(home))]
        orders = [(one.order.repository, one.order.url) for one in known]
        orders += [(copy.repository, copy.url) for copy in self._rescue.copies()]
        trees = self._layout.state / "tree" / mirror.stem
        return (
            len(known) < len(homes)  # One is being made: nobody knows yet of what.
            or any(self._layout.mirror(*order) == mirror for order in orders)
            or any(trees in lower.parents for lower in overlay.lowers())
        )

    async def _remove(self, mirror: Path) -> None:
        for part in (
            self._layout.state / "tree" / mirror.stem,
            *self._layout.state.glob(f"uid/{mirror.stem}.*.json"),
            mirror,
        ):
            await asyncio.to_thread(files.remove, part)
        log.info("repository.forgotten", extra={"repository": mirror.stem})

    async def _images(self) -> None:
        """Forget good images that nobody started from for long, also of nodes that are gone.

        Docker's own time of the last tag counts: each start from such an image tags it again.
        """
        for name in await self._engine.images(self._good):
            seen = await self._engine.image(name) or {}
            tagged_at = _seconds(str((seen.get("Metadata") or {}).get("LastTagTime", "")))
            if tagged_at > 0 and self._now() - tagged_at >= UNUSED_S:
                await self._engine.untag(name)
                log.info("image.forgotten", extra={"image": name})
        for note in self._layout.state.glob("good/*.json"):
            known = files.read_json(note) or {}
            if await self._engine.image(str(known.get("image"))) is None:
                note.unlink(missing_ok=True)

    async def _volumes(self) -> None:
        """Remove the volumes of stopped workspaces that did not come back here."""
        for parked in self._layout.state.glob("parked/*.json"):
            workspace = WorkspaceId(parked.stem)
            if self._layout.workspace(workspace).exists():
                continue
            if self._now() - parked.stat().st_ctime >= UNUSED_S:
                await self._engine.remove_volumes(workspace)
                parked.unlink(missing_ok=True)
                log.info("volumes.forgotten", extra={"workspace": workspace})

    async def _sessions(self) -> None:
        there = self._layout.workspaces.glob("*/run/s/*")
        kept = [SessionId(folder.name) for folder in there]
        await self._spool.tidy(kept=kept, noted=STARTED)


def _seconds(moment: str) -> float:
    """Read Docker's time with nanoseconds; negative for one that was never set."""
    try:
        return datetime.fromisoformat(f"{moment[:19]}+00:00").timestamp()
    except (ValueError, OverflowError):
        return -1.0
