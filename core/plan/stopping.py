"""A workspace that stops: saved, brought in, removed, in this order. Pure.

Nothing of it is removed before its copy is in the file store and its row is written (G4, N8).
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from core.message import Post
from core.node import NodeState
from core.order import NodeOrder
from core.plan.leaving import leave, rested
from core.plan.step import Planned, left_s, told
from core.plan.workspace_step import (
    NOT_REMOVED,
    WorkspaceView,
    failed_removals,
    freed,
    give,
    is_node_lost,
    remove,
    write,
)
from core.ports.files import Stored
from core.ports.store import Change, Insert, Update, Wake
from core.reasons import reason
from core.rescue import CopyState, RescueCopy, Why
from core.wire import DropCopy, Saved, SaveWorkspace, from_json
from core.workspace import Workspace, WorkspaceState

REMOVALS_MAX = 5
"""Removals that fail, a quarter of an hour in all, before a saved workspace rests without one."""
_UNDONE: Mapping[Why, str] = {
    "stopped": "It was not stopped, because",
    "slept": "It does not sleep, because",
    "deleted": "It was not deleted, because",
}


def stop(view: WorkspaceView) -> Planned:
    """Order the copy, wait for it; once it is kept, remove what is on the machine."""
    workspace, copy = view.workspace, view.copy
    if copy is not None and copy.state is CopyState.KEPT:
        return _remove(view, copy)
    if copy is None or _is_late(view):
        return not_saved(view, "save_timeout")
    answer = view.answer(f"save/{copy.id}")
    due_in_s = left_s(workspace.deadline_at, view.now)
    if answer is None:
        body = SaveWorkspace(workspace=workspace.id, attempt=workspace.attempt)
        return Planned(changes=(give(view, f"save/{copy.id}", body),), due_in_s=due_in_s)
    if answer.ok is False:
        return not_saved(view, answer.code or "save_failed", answer.text)
    return Planned(due_in_s=due_in_s)


def made_copy(view: WorkspaceView) -> Saved | None:
    """Return the copy that lies on the machine and is to be brought in now."""
    copy = view.copy
    if view.workspace.state is not WorkspaceState.STOPPING or copy is None or _is_late(view):
        return None
    answer = view.answer(f"save/{copy.id}")
    is_made = copy.state is CopyState.WANTED and answer is not None and answer.ok
    return from_json(Saved, answer.result) if is_made and answer is not None else None


def brought_in(view: WorkspaceView, saved: Saved, stored: Stored) -> Planned:
    """Return what to write once the copy is in the file store."""
    workspace, copy = view.workspace, view.copy
    assert copy is not None  # noqa: S101  it was `made_copy`
    kept = copy.moved(
        CopyState.KEPT,
        at=view.now,
        sha256=stored.sha256,
        size_bytes=stored.size_bytes,
        branch=saved.branch,
        head=saved.head,
        base_commit=saved.base_commit,
        made_at=view.now,
        expires_at=view.now + timedelta(seconds=view.clocks.copy_s),
        left_out=saved.left_out,
        left_out_count=saved.left_out_count,
    )
    older = [
        Update(replace(one, expires_at=view.now))
        for one in view.copies
        if one.state is CopyState.RESTORED and one.expires_at != view.now
    ]
    changes: list[Change] = [
        Update(kept),
        told(
            "copy.kept",
            f"workspace:{workspace.id}",
            at=view.now,
            task_id=workspace.task_id or None,
            copy=kept.id,
            size_bytes=kept.size_bytes,
        ),
        Update(replace(workspace, deadline_at=None)),
        *older,
    ]
    return Planned(changes=tuple(changes), due_in_s=0)


def not_saved(view: WorkspaceView, code: str, text: str = "") -> Planned:
    """Go on as before: what cannot be saved is not stopped, but made sure of again."""
    workspace, copy, text = view.workspace, view.copy, reason(code, text)
    error = f"{_UNDONE[copy.why if copy else 'stopped']} its work could not be saved: {text}"
    again = workspace.moved(
        WorkspaceState.BUILDING,
        at=view.now,
        deadline_at=view.now + timedelta(seconds=view.clocks.workspace_s),
        code=code,
        error=error,
        keep_until=view.now + timedelta(seconds=view.clocks.warm_s),
    )
    more: list[Change] = [Wake("admission", "all")]
    if copy is not None:
        failed = copy.moved(CopyState.FAILED, at=view.now, error=text)
        more += [Update(failed), _told_of_failure(view, copy, code)]
    return write(view, again, *more, due_in_s=0)


def _told_of_failure(view: WorkspaceView, copy: RescueCopy, code: str) -> Change:
    return told(
        "copy.failed",
        f"workspace:{view.workspace.id}",
        at=view.now,
        task_id=view.workspace.task_id or None,
        copy=copy.id,
        code=code,
    )


def _is_late(view: WorkspaceView) -> bool:
    deadline_at = view.workspace.deadline_at
    return deadline_at is not None and view.now >= deadline_at


def _remove(view: WorkspaceView, copy: RescueCopy) -> Planned:
    """Remove it from its machine; one that does not answer does so when it is back.

    One that answers that it cannot, again and again, keeps nobody from going on elsewhere.
    """
    if copy.why == "deleted":
        gone, more = leave(view.workspace, view.copies, "deleted", at=view.now, clocks=view.clocks)
        return write(view, gone, *more, due_in_s=0)
    failed = failed_removals(view)
    if len(failed) >= REMOVALS_MAX:
        return stopped(replace(view, workspace=_left_behind(view.workspace, failed[-1])))
    planned = remove(view, stopped)
    return stopped(view) if is_node_lost(view) and not planned.changes else planned


def _left_behind(workspace: Workspace, failed: NodeOrder) -> Workspace:
    error = (
        f"Its files are still on {failed.node_id} and cannot be removed: {failed.text} All of its "
        "work is in its copy; an administrator removes them there by hand."
    )
    return replace(workspace, code=NOT_REMOVED, error=error)


def stopped(view: WorkspaceView) -> Planned:
    """Return what to write once nothing of it is on a machine."""
    copy = view.copy
    assert copy is not None  # noqa: S101  nothing is removed before
    rests, kept = rested(view.workspace, copy, at=view.now, clocks=view.clocks)
    return write(view, rests, kept, *dropped(view), *freed(view), due_in_s=0)


def dropped(view: WorkspaceView) -> tuple[Change, ...]:
    """Let the machine that made the copy remove its own; after the workspace, which overtakes."""
    copy = view.copy
    return () if copy is None or copy.state is not CopyState.KEPT else _drop(view, copy)


def useless(view: WorkspaceView) -> tuple[Change, ...]:
    """Let the machine remove copies that it made and that never came in, also ones made too late.

    Not while the next one is made, which may be the same.
    """
    if view.copy is not None and view.copy.state is CopyState.WANTED:
        return ()
    failed = [copy for copy in view.copies if copy.state is CopyState.FAILED]
    return tuple(change for copy in failed for change in _drop(view, copy))


def _drop(view: WorkspaceView, copy: RescueCopy) -> tuple[Change, ...]:
    node, made, name = view.node, view.answer(f"save/{copy.id}"), f"drop/{copy.id}"
    if node is None or node.state is NodeState.GONE or view.answer(name) is not None:
        return ()
    if made is None or not made.ok or made.node_id != node.id:
        return ()
    return (give(view, name, DropCopy(sha256=from_json(Saved, made.result).sha256)),)


def rest(view: WorkspaceView) -> Planned:
    """Keep a stopped workspace for its time; its people hear of the end before it comes."""
    workspace, until = view.workspace, view.workspace.keep_until
    if until is None:
        return Planned()
    if view.now >= until:
        return write(view, workspace.moved(WorkspaceState.DELETING, at=view.now), due_in_s=0)
    told_at = until - timedelta(seconds=view.clocks.copy_notice_s)
    if view.now < told_at:
        return Planned(due_in_s=left_s(told_at, view.now))
    return Planned(changes=_notice(view, until), due_in_s=left_s(until, view.now))


def _notice(view: WorkspaceView, until: datetime) -> tuple[Change, ...]:
    """Tell those who asked for its task that it goes soon: once each time it rests."""
    workspace, task, thread = view.workspace, view.task, view.thread
    if task is None or thread is None:
        return ()
    post = Post(
        key=f"{thread.id}/reply/{workspace.id}/{workspace.attempt}/ends",
        lane=thread.id,
        surface=thread.surface,
        kind="reply",
        state="pending",
        created_at=view.now,
        task_id=task.id,
        text=f"The stopped workspace of this task, {workspace.id}, is removed on "
        f"{until:%d %B at %H:%M} UTC, and what was not pushed of it is lost then. To keep it, say "
        "`restart workspace`, or reply with what is to be done; else nothing is needed.",
        mention=task.asked_by,
    )
    return (Insert(post, once=True),)


def lost(view: WorkspaceView) -> tuple[Change, ...]:
    """Return what becomes of a copy that was being made as its machine went."""
    copy = view.copy
    if copy is None or copy.state is not CopyState.WANTED:
        return ()
    failed = copy.moved(CopyState.FAILED, at=view.now, error=reason("node_lost"))
    return (Update(failed), _told_of_failure(view, copy, "node_lost"))
