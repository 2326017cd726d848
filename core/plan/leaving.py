"""How a workspace lets go of its machine, from any state, so that no work is lost. Pure."""

from dataclasses import replace
from datetime import datetime, timedelta

from core.clocks import Clocks
from core.ids import CopyId, NodeId, PersonId
from core.plan.workspace_step import current
from core.ports.store import Change, Insert, Update
from core.rescue import CopyState, RescueCopy, Why
from core.workspace import Workspace, WorkspaceState

NO_COPY = "It was deleted without a copy."
_UNMADE = {WorkspaceState.REQUESTED, WorkspaceState.STOPPED}


def leave(
    workspace: Workspace,
    copies: tuple[RescueCopy, ...],
    why: Why,
    *,
    at: datetime,
    clocks: Clocks,
) -> tuple[Workspace, tuple[Change, ...]]:
    """Return the workspace on its way out, and what is to be written beside it.

    Where a copy holds all of its work already, that one counts; work that is on its machine alone
    is saved first; without any there is nothing to save.
    """
    copy = current(copies)
    if copy is not None and copy.state is CopyState.KEPT:
        return _with_its_copy(workspace, copy, why, at=at, clocks=clocks)
    if workspace.state in _UNMADE or not workspace.base_commit:
        return _down(workspace, WorkspaceState.DELETING, at=at, within_s=clocks.publish_s), ()
    wanted = RescueCopy(
        id=CopyId(f"{workspace.id}-{len(copies) + 1}"),
        workspace_id=workspace.id,
        project=workspace.project,
        task_id=workspace.task_id,
        why=why,
        state=CopyState.WANTED,
        state_since=at,
        created_at=at,
        branch=workspace.branch,
    )
    saving = _down(workspace, WorkspaceState.STOPPING, at=at, within_s=clocks.save_s)
    return saving, (Insert(wanted),)


def _with_its_copy(
    workspace: Workspace, copy: RescueCopy, why: Why, *, at: datetime, clocks: Clocks
) -> tuple[Workspace, tuple[Change, ...]]:
    """Leave what is, or would have been, put back from a copy: the copy stays."""
    if why == "deleted":
        gone = _down(workspace, WorkspaceState.DELETING, at=at, within_s=clocks.publish_s)
        return gone, (Update(discarded(copy, at=at, clocks=clocks)),)
    if workspace.state is WorkspaceState.REQUESTED:
        rests, kept = rested(workspace, copy, at=at, clocks=clocks)
        return rests, (kept,)
    return _down(workspace, WorkspaceState.STOPPING, at=at, within_s=None), ()


def thrown_away(
    workspace: Workspace,
    copies: tuple[RescueCopy, ...],
    by: PersonId,
    *,
    at: datetime,
    clocks: Clocks,
) -> tuple[Workspace, tuple[Change, ...]]:
    """Return the workspace on its way out without a copy, because a person said so.

    A copy that holds all of its work already costs its machine nothing: it stays for its time.
    """
    copy = current(copies)
    if copy is not None and copy.state is CopyState.KEPT:
        return _with_its_copy(workspace, copy, "deleted", at=at, clocks=clocks)
    gone = _down(workspace, WorkspaceState.DELETING, at=at, within_s=clocks.publish_s)
    unmade = () if copy is None else (Update(copy.moved(CopyState.FAILED, at=at, error=NO_COPY)),)
    return replace(gone, discarded_by=by), unmade


def rested(
    workspace: Workspace, copy: RescueCopy, *, at: datetime, clocks: Clocks
) -> tuple[Workspace, Change]:
    """Return a workspace that is on no machine any more; all of its work is in the copy.

    Both are kept for their whole time from now on, however old the copy is.
    """
    kept = renewed(copy, at=at, clocks=clocks)
    rests = workspace.moved(
        WorkspaceState.STOPPED,
        at=at,
        deadline_at=None,
        node_id=NodeId(""),
        run_id=None,
        container="",
        token_hash="",
        keep_until=kept.expires_at,
    )
    return rests, Update(kept)


def renewed(copy: RescueCopy, *, at: datetime, clocks: Clocks) -> RescueCopy:
    """Return the copy, kept for its time from now on."""
    return replace(copy, expires_at=at + timedelta(seconds=clocks.copy_s))


def restarted(workspace: Workspace, *, at: datetime) -> Workspace:
    """Return a stopped workspace that wants a machine; one that wants it already stays as it is."""
    if workspace.state is not WorkspaceState.STOPPED:
        return workspace
    return workspace.moved(
        WorkspaceState.REQUESTED,
        at=at,
        attempt=workspace.attempt + 1,
        steps=(),
        keep_until=None,
        code="",
        error="",
    )


def discarded(copy: RescueCopy, *, at: datetime, clocks: Clocks) -> RescueCopy:
    """Return the copy of a workspace that a person deleted: it is kept for its time from now on."""
    return replace(renewed(copy, at=at, clocks=clocks), why="deleted")


def _down(
    workspace: Workspace, to: WorkspaceState, *, at: datetime, within_s: float | None
) -> Workspace:
    deadline_at = None if within_s is None else at + timedelta(seconds=within_s)
    return workspace.moved(to, at=at, deadline_at=deadline_at)
