"""Tasks that wait for a run, and the wake-up of all that waits for room."""

from collections.abc import Sequence
from dataclasses import dataclass

from core.chat import Chat
from core.clocks import Clock, Clocks
from core.errors import QuotaError
from core.limits import Limits
from core.plan.task import plan_task
from core.ports.store import Change, Reader, Store, Touch, Wake
from core.ports.work import Claim
from core.project import Project
from core.run import Run, RunState
from core.task import Task, TaskState
from core.workspace import Workspace, WorkspaceState


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReconciler:
    """Starts the runs of queued tasks."""

    store: Store
    clock: Clock
    clocks: Clocks
    limits: Limits

    async def __call__(self, claim: Claim) -> float | None:
        """Look at one task."""
        task = await self.store.get(Task, claim.key)
        project = await self.store.get(Project, task.project)
        chats = await self.store.find(Chat, id=task.id)
        planned = plan_task(
            task,
            project,
            now=self.clock.now(),
            clocks=self.clocks,
            limits=self.limits,
            chat_in=chats[0].workspace_id if chats else None,
        )
        if planned.changes:
            try:
                await self.store.commit(*planned.changes, claim=claim)
            except QuotaError:
                return self.clocks.stale_s
        return planned.due_in_s


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionReconciler:
    """Wakes what waits for room, oldest first, when some became free."""

    store: Store

    async def __call__(self, claim: Claim) -> float | None:
        """Wake queued tasks, and the runs and workspaces that want a machine."""

        async def look(
            reader: Reader,
        ) -> tuple[Sequence[Task], Sequence[Run], Sequence[Workspace]]:
            queued = await reader.find(Task, state=TaskState.QUEUED)
            placing = await reader.find(Run, state=RunState.PLACING)
            wanted = await reader.find(Workspace, state=WorkspaceState.REQUESTED, node_id="")
            return queued, placing, wanted

        queued, placing, wanted = await self.store.snapshot(look)
        wakes: list[Change] = [Wake("run", run.id) for run in placing]
        wakes += [Wake("workspace", workspace.id) for workspace in wanted]
        for task in queued:
            wakes += [Wake("task", task.id), Touch(task.id)]
        if wakes:
            await self.store.commit(*wakes, claim=claim)
        return None
