"""What people can ask for of whole workspaces: made, stopped, put back, made anew, deleted."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from bot import replies
from bot.deciding import check, existing, write
from bot.lifecycle import NEEDS, What, asked, changes
from bot.workspaces import WorkspaceCommands, copy_view
from core.access import Person
from core.branch import is_branch_name
from core.errors import NotFoundError, UserError
from core.ids import CopyId, NodeId, ProjectId, RunId, TaskId, WorkspaceId
from core.plan.names import workspace_name
from core.plan.step import told
from core.ports.commands import CopyView, WorkspaceView
from core.ports.store import Change, Insert, Wake
from core.project import SIZES, Project, Size
from core.rescue import THERE, CopyState, RescueCopy
from core.workspace import LIVE as LIVE_WORKSPACES
from core.workspace import Workspace, WorkspaceState


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepingCommands(WorkspaceCommands):
    """The part of `core.ports.commands.Commands` that is about whole workspaces."""

    async def new_workspace(
        self,
        actor: Person,
        project: ProjectId,
        *,
        size: str = "",
        branch: str = "",
        key: str = "",
    ) -> WorkspaceView:
        """See `Commands.new_workspace`."""
        check(actor, "start")
        known = await self.project(project)
        new_id = _name(actor, key)
        await self._check_branch(known, branch)
        new = self._new(
            new_id,
            known.id,
            size=_size(size or known.size),
            branch=branch or f"samovar/ws-{new_id}",
        )
        return await self._made(actor, new)

    async def restore(self, actor: Person, copy: CopyId, *, key: str = "") -> WorkspaceView:
        """See `Commands.restore`."""
        check(actor, "start")
        found = await self.store.find(RescueCopy, id=copy, state=THERE)
        if not found:
            raise NotFoundError(replies.not_restorable(copy), code="no_copy")
        known, now = found[0], self.clock.now()
        was = await self.store.get(Workspace, known.workspace_id)
        new_id = _name(actor, key)
        again = replace(
            known,
            id=CopyId(f"{new_id}-1"),
            workspace_id=new_id,
            why="stopped",
            state=CopyState.KEPT,
            state_since=now,
            created_at=now,
            expires_at=now + timedelta(seconds=self.clocks.copy_s),
            version=0,
        )
        task_id = await self._free_task(known.task_id)
        new = self._new(new_id, known.project, size=was.size, branch=was.branch, task_id=task_id)
        return await self._made(actor, new, Insert(again, once=True))

    async def _free_task(self, task_id: TaskId) -> TaskId:
        """Return the task if the restored workspace becomes its own: if it has no other one."""
        live = await self.store.find(Workspace, task_id=task_id, state=LIVE_WORKSPACES)
        return TaskId("") if live else task_id

    def _new(
        self,
        new_id: WorkspaceId,
        project: ProjectId,
        *,
        size: Size,
        branch: str,
        task_id: TaskId = TaskId(""),  # noqa: B008  an id is a string
    ) -> Workspace:
        now = self.clock.now()
        return Workspace(
            id=new_id,
            project=project,
            task_id=task_id,
            node_id=NodeId(""),
            size=size,
            branch=branch,
            state=WorkspaceState.REQUESTED,
            state_since=now,
            created_at=now,
            deadline_at=now + timedelta(seconds=self.clocks.node_ready_s),
            active_at=now,
        )

    async def _made(self, actor: Person, new: Workspace, *more: Change) -> WorkspaceView:
        about = f"workspace:{new.id}"
        facts = [
            told("workspace.requested", about, at=new.created_at, task_id=new.task_id or None),
            told(
                "workspace.asked",
                about,
                at=new.created_at,
                task_id=new.task_id or None,
                what="new",
                by=actor.id,
            ),
        ]

        async def decided() -> Sequence[Change]:
            if await self.store.find(Workspace, id=new.id):
                return []
            return [Insert(new), *more, *facts, Wake("workspace", new.id)]

        await write(self.store, decided)
        return await self.workspace(actor, new.id)

    async def _check_branch(self, project: Project, branch: str) -> None:
        """Refuse what is no branch, and the branch that pull requests go to."""
        if not branch:
            return
        if not is_branch_name(branch):
            raise UserError(replies.no_branch_name(branch), code="branch")
        base = project.branch or await self._known_base(project)
        if branch == base:
            raise UserError(replies.base_branch(branch), code="branch")

    async def _known_base(self, project: Project) -> str:
        """Return where the project's work starts, as its last workspaces found it."""
        made = await self.store.find(Workspace, project=project.id, limit=20, newest_first=True)
        return next((one.base for one in made if one.base), "")

    async def stop_workspace(self, actor: Person, workspace: WorkspaceId) -> None:
        """See `Commands.stop_workspace`."""
        await self._ask(actor, "stop", workspace)

    async def restart_workspace(self, actor: Person, workspace: WorkspaceId) -> None:
        """See `Commands.restart_workspace`."""
        await self._ask(actor, "restart", workspace)

    async def rebuild_workspace(self, actor: Person, workspace: WorkspaceId) -> None:
        """See `Commands.rebuild_workspace`."""
        await self._ask(actor, "rebuild", workspace)

    async def delete_workspace(
        self, actor: Person, workspace: WorkspaceId, *, without_copy: bool = False
    ) -> None:
        """See `Commands.delete_workspace`."""
        await self._ask(actor, "discard" if without_copy else "delete", workspace)

    async def _ask(self, actor: Person, what: What, workspace: WorkspaceId) -> None:
        check(actor, NEEDS[what])

        async def decided() -> Sequence[Change]:
            found = await existing(self.store, Workspace, workspace, "workspace")
            wish = await asked(
                self.store, found, by=actor.id, at=self.clock.now(), clocks=self.clocks
            )
            return changes(what, wish)

        await write(self.store, decided)

    async def copies(self, actor: Person) -> Sequence[CopyView]:
        """See `Commands.copies`."""
        check(actor, "look")
        found = await self.store.find(RescueCopy, state=THERE, newest_first=True)
        return [copy_view(one) for one in found]


def _name(actor: Person, key: str) -> WorkspaceId:
    """Return the name of a workspace that is made by hand: the same for the same key."""
    what = f"hand:{actor.id}:{key or secrets.token_hex(16)}"
    return WorkspaceId(workspace_name(RunId(what), ""))


def _size(size: str) -> Size:
    for known in SIZES:
        if known == size:
            return known
    raise UserError(replies.no_such_size(size, list(SIZES)), code="size")
