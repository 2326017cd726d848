"""A workspace that stops: saved, brought in, removed, in this order. Pure.

Nothing of it is removed before its copy is in the file store and its row is written (G4, N8).
"""

from dataclasses import replace
from datetime import timedelta

from core.node import NodeState
from core.place import is_lost
from core.plan.leaving import leave, rested
from core.plan.step import Planned, left_s, told
from core.plan.workspace_step import WorkspaceView, freed, give, remove, write
from core.ports.files import Stored
from core.ports.store import Change, Update, Wake
from core.reasons import reason
from core.rescue import CopyState, RescueCopy
from core.wire import DropCopy, Saved, SaveWorkspace, from_json
from core.workspace import WorkspaceState


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
    error = f"It was not stopped, because its work could not be saved: {text}"
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
    """Remove it from its machine; one that does not answer does so when it is back."""
    if copy.why == "deleted":
        gone, more = leave(view.workspace, view.copies, "deleted", at=view.now, clocks=view.clocks)
        return write(view, gone, *more, due_in_s=0)
    planned = remove(view, stopped)
    is_away = view.node is not None and is_lost(
        view.link, view.node.state_since, now=view.now, clocks=view.clocks
    )
    return stopped(view) if is_away and not planned.changes else planned


def stopped(view: WorkspaceView) -> Planned:
    """Return what to write once nothing of it is on a machine."""
    copy = view.copy
    assert copy is not None  # noqa: S101  nothing is removed before
    rest = rested(view.workspace, copy, at=view.now)
    more = (*dropped(view), *freed(view))
    return write(view, rest, *more, due_in_s=left_s(rest.keep_until, view.now))


def dropped(view: WorkspaceView) -> tuple[Change, ...]:
    """Let the machine that made the copy remove its own; after the workspace, which overtakes."""
    copy, node = view.copy, view.node
    if copy is None or copy.state is not CopyState.KEPT or node is None:
        return ()
    made = view.answer(f"save/{copy.id}")
    if made is None or made.node_id != node.id or node.state is NodeState.GONE:
        return ()
    return (give(view, f"drop/{copy.id}", DropCopy(sha256=copy.sha256)),)


def rest(view: WorkspaceView) -> Planned:
    """Keep a stopped workspace for its time."""
    workspace = view.workspace
    if workspace.keep_until is None or view.now < workspace.keep_until:
        return Planned(due_in_s=left_s(workspace.keep_until, view.now))
    return write(view, workspace.moved(WorkspaceState.DELETING, at=view.now), due_in_s=0)


def lost(view: WorkspaceView) -> tuple[Change, ...]:
    """Return what becomes of a copy that was being made as its machine went."""
    copy = view.copy
    if copy is None or copy.state is not CopyState.WANTED:
        return ()
    failed = copy.moved(CopyState.FAILED, at=view.now, error=reason("node_lost"))
    return (Update(failed), _told_of_failure(view, copy, "node_lost"))
