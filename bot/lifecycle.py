"""What people can do with a whole workspace, as changes: stop, restart, rebuild, delete."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from bot import replies
from core.access import Verb
from core.clocks import Clocks
from core.errors import UserError
from core.ids import PersonId
from core.plan.leaving import leave, restarted, thrown_away
from core.plan.step import told
from core.plan.workspace_step import current
from core.ports.store import Change, Reader, Touch, Update, Wake
from core.rescue import RescueCopy
from core.run import LIVE, Run
from core.workspace import Workspace, WorkspaceState

What = Literal["stop", "restart", "rebuild", "delete", "discard"]
NEEDS: Mapping[What, Verb] = {
    "stop": "stop",
    "restart": "steer",
    "rebuild": "steer",
    "delete": "manage",
    "discard": "manage",
}
"""What somebody must be allowed for it."""
OVER = frozenset({WorkspaceState.DELETING, WorkspaceState.GONE})
_REMOVE = frozenset({"delete", "discard"})
_COMING = frozenset({WorkspaceState.REQUESTED, WorkspaceState.BUILDING})
_Next = tuple[Workspace, tuple[Change, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A workspace of which something is asked.

    Attributes:
        copies: Its rescue copies, oldest first.
        has_chats: Whether a chat is open in it.
    """

    workspace: Workspace
    copies: tuple[RescueCopy, ...]
    has_chats: bool
    by: PersonId
    at: datetime
    clocks: Clocks


async def asked(
    reader: Reader, workspace: Workspace, *, by: PersonId, at: datetime, clocks: Clocks
) -> Asked:
    """Read what is decided from."""
    return Asked(
        workspace=workspace,
        copies=tuple(await reader.find(RescueCopy, workspace_id=workspace.id)),
        has_chats=bool(await reader.find(Run, chat_in=workspace.id, state=LIVE, limit=1)),
        by=by,
        at=at,
        clocks=clocks,
    )


def gone(workspace: Workspace) -> UserError:
    """Return what is said of a workspace that is gone."""
    say = replies.gone_workspace if workspace.discarded_by is None else replies.discarded_workspace
    sentence = say(workspace.id, workspace.branch, workspace.task_id)
    return UserError(sentence, code="workspace_gone")


def not_ready(workspace: Workspace) -> UserError:
    """Return what is said where only a ready workspace will do."""
    return UserError(
        replies.workspace_not_ready(workspace.id, workspace.state), code="workspace_not_ready"
    )


def changes(what: What, asked: Asked) -> Sequence[Change]:
    """Return what is to be written; nothing if it is so already.

    Raises:
        UserError: It cannot be done now; the sentence says what to do first.
    """
    known = asked.workspace
    if known.state in OVER:
        if what not in _REMOVE:
            raise gone(known)
        if what == "delete" or known.state is WorkspaceState.GONE or known.discarded_by:
            return []
    if known.run_id is not None:
        raise UserError(replies.workspace_busy(known.id), code="busy")
    if asked.has_chats:
        raise UserError(f"A chat is open in {known.id}. Close it first.", code="busy")
    new, more = _DO[what](asked)
    if new == known and not more:
        return []
    about, task_id = f"workspace:{known.id}", known.task_id or None
    written: list[Change] = [Update(new), *more]
    if new.state is not known.state:
        written.append(
            told(f"workspace.{new.state}", about, at=asked.at, task_id=task_id, code=new.code)
        )
    written.append(
        told("workspace.asked", about, at=asked.at, task_id=task_id, what=what, by=asked.by)
    )
    written += [Touch(task_id)] if task_id else []
    return [*written, Wake("workspace", known.id)]


def _stop(asked: Asked) -> _Next:
    known = asked.workspace
    if known.state in {WorkspaceState.STOPPING, WorkspaceState.STOPPED}:
        return known, ()
    if known.state in _COMING and current(asked.copies) is None:
        raise not_ready(known)
    return leave(_anew(known), asked.copies, "stopped", at=asked.at, clocks=asked.clocks)


def _anew(workspace: Workspace) -> Workspace:
    """Forget why something did not work before."""
    return replace(workspace, code="", error="")


def _restart(asked: Asked) -> _Next:
    known = asked.workspace
    if known.state is WorkspaceState.STOPPED:
        until = asked.at + timedelta(seconds=asked.clocks.node_ready_s)
        again = restarted(known, at=asked.at)
        return replace(again, deadline_at=until, active_at=asked.at), ()
    if known.state is WorkspaceState.READY:
        raise UserError(replies.workspace_runs(known.id), code="workspace_runs")
    if known.state in _COMING:
        return known, ()
    raise not_ready(known)


def _rebuild(asked: Asked) -> _Next:
    known = asked.workspace
    if known.state is not WorkspaceState.READY:
        raise not_ready(known)
    anew = _anew(known).moved(
        WorkspaceState.BUILDING,
        at=asked.at,
        attempt=known.attempt + 1,
        steps=(),
        keep_until=None,
        deadline_at=asked.at + timedelta(seconds=asked.clocks.workspace_s),
    )
    return anew, ()


def _delete(asked: Asked) -> _Next:
    known, copy = asked.workspace, current(asked.copies)
    if known.state is WorkspaceState.STOPPING and copy is not None:
        is_known = copy.why == "deleted"
        return known, () if is_known else (Update(replace(copy, why="deleted")),)
    if known.state in _COMING and copy is None and known.base_commit:
        raise not_ready(known)
    return leave(_anew(known), asked.copies, "deleted", at=asked.at, clocks=asked.clocks)


def _discard(asked: Asked) -> _Next:
    known = asked.workspace
    if known.state is WorkspaceState.DELETING:  # Its machine has no room for what it would keep.
        return replace(known, discarded_by=asked.by), ()
    return thrown_away(_anew(known), asked.copies, asked.by, at=asked.at, clocks=asked.clocks)


_DO: Mapping[What, Callable[[Asked], _Next]] = {
    "stop": _stop,
    "restart": _restart,
    "rebuild": _rebuild,
    "delete": _delete,
    "discard": _discard,
}
