"""Recordings: fetched from their node before it forgets them, removed when their time is over."""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, replace

from core.clocks import Clock, Clocks
from core.errors import NotFoundError, UnavailableError
from core.plan.recording import FETCH_S_MAX, tried_until
from core.plan.step import told
from core.ports.files import Files
from core.ports.nodes import Nodes
from core.ports.store import Store, Tell, Update, Wake
from core.ports.work import Claim
from core.recording import Recording, RecordingState
from core.workspace import Workspace

RETRY_S = 5.0
"""Between two tries while the node does not answer."""
SWEPT = 100
"""How many recordings one sweep looks at, the oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingReconciler:
    """Brings recordings from their nodes into the file store."""

    store: Store
    nodes: Nodes
    files: Files
    clock: Clock
    clocks: Clocks

    async def __call__(self, claim: Claim) -> float | None:
        """Look at one recording; whoever waits for it is woken when it is settled."""
        recording = await self.store.get(Recording, claim.key)
        if recording.state is not RecordingState.WANTED:
            return None
        workspace = await self.store.get(Workspace, recording.workspace_id)
        try:
            settled = await self._fetched(recording, workspace)
        except NotFoundError as error:
            settled = recording.lost(str(error))
        except (UnavailableError, TimeoutError) as error:
            if self.clock.now() < tried_until(recording, self.clocks):
                return RETRY_S
            settled = recording.lost(str(error) or "it took too long")
        wakes = Wake("terminal", recording.id), Wake("workspace", workspace.id)
        fact = self._fact(settled, workspace)
        await self.store.commit(Update(settled), fact, *wakes, claim=claim)
        return None

    def _fact(self, settled: Recording, workspace: Workspace) -> Tell:
        subject, now, task = f"terminal:{settled.id}", self.clock.now(), workspace.task_id or None
        if settled.state is RecordingState.KEPT:
            return told("recording.kept", subject, at=now, task_id=task)
        return told("recording.lost", subject, at=now, task_id=task, error=settled.error)

    async def _fetched(self, recording: Recording, workspace: Workspace) -> Recording:
        name = f"{workspace.id}/{recording.id}"
        async with (
            asyncio.timeout(FETCH_S_MAX),
            aclosing(self.nodes.stream(workspace.node_id, "recording", name)) as chunks,
        ):
            stored = await self.files.put(chunks)
        return recording.kept(stored.sha256, stored.size_bytes, at=self.clock.now())


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingSweep:
    """Removes recordings whose time is over."""

    store: Store
    files: Files
    clock: Clock

    async def __call__(self, claim: Claim) -> float | None:
        """Look at the oldest ones."""
        kept = await self.store.find(Recording, state=RecordingState.KEPT, limit=SWEPT)
        for recording in kept:
            if recording.expires_at is not None and recording.expires_at <= self.clock.now():
                await self._remove(recording, claim)
        return None

    async def _remove(self, recording: Recording, claim: Claim) -> None:
        """Remove the file first: what is cut short is done again."""
        same = await self.store.find(
            Recording, sha256=recording.sha256, state=RecordingState.KEPT, limit=2
        )
        if len(same) == 1:
            await self.files.delete(recording.sha256)
        over = replace(recording, state=RecordingState.EXPIRED)
        await self.store.commit(Update(over), claim=claim)
