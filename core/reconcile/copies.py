"""Rescue copies whose time is over: out of the file store, but for what is still needed."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from core.clocks import Clock, Clocks
from core.plan.step import told
from core.ports.files import Files
from core.ports.store import Change, Store, Update
from core.ports.work import Claim
from core.rescue import THERE, CopyState, RescueCopy
from core.workspace import Workspace, WorkspaceState


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyReconciler:
    """Removes what expired. The intent is written before a file goes.

    While a copy is being made no file goes: the new one may have the same content.
    """

    store: Store
    files: Files
    clock: Clock
    clocks: Clocks

    async def __call__(self, claim: Claim) -> float | None:
        """Look at all copies, and forget transfers that nobody finished."""
        now = self.clock.now()
        for copy in await self.store.find(RescueCopy, state=THERE):
            if copy.expires_at is not None and now >= copy.expires_at:
                await self._expire(copy, claim, now)
        if not await self.store.find(RescueCopy, state=CopyState.WANTED, limit=1):
            for copy in await self.store.find(RescueCopy, state=CopyState.EXPIRED):
                await self._remove(copy, claim, now)
        await self.files.forget(before=now - timedelta(seconds=self.clocks.node_age_s))
        return None

    async def _expire(self, copy: RescueCopy, claim: Claim, now: datetime) -> None:
        workspace = await self.store.get(Workspace, copy.workspace_id)
        is_needed = copy.state is CopyState.KEPT and workspace.state is not WorkspaceState.GONE
        if is_needed:  # All of its work is in there; it goes first.
            return
        fact = told(
            "copy.expired",
            f"workspace:{copy.workspace_id}",
            at=now,
            task_id=copy.task_id or None,
            copy=copy.id,
        )
        changes: list[Change] = [Update(copy.moved(CopyState.EXPIRED, at=now)), fact]
        await self.store.commit(*changes, claim=claim)

    async def _remove(self, copy: RescueCopy, claim: Claim, now: datetime) -> None:
        """Remove the file, unless another copy has the same content."""
        if not await self.store.find(RescueCopy, sha256=copy.sha256, state=THERE):
            await self.files.delete(copy.sha256)
        await self.store.commit(Update(copy.moved(CopyState.GONE, at=now)), claim=claim)
