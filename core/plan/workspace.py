"""What a workspace does next. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

from core.node import NodeState
from core.plan.leaving import leave, renewed
from core.plan.placing import claimed, make_room
from core.plan.step import Planned, left_s, soonest
from core.plan.stopping import dropped, lost, rest, stop, useless
from core.plan.workspace_step import WorkspaceView, freed, give, is_node_lost, remove, write
from core.ports.store import Change, Insert, Update
from core.project import SIZES
from core.reasons import reason
from core.rescue import CopyState, Why
from core.wire import CreateWorkspace, WorkspaceReady, from_json
from core.workspace import WorkspaceState


def plan_workspace(view: WorkspaceView) -> Planned:
    """Return what to write for the workspace now, and when to look again."""
    phase = _PHASES.get(view.workspace.state)
    if phase is None:
        return Planned()
    is_gone = view.node is not None and view.node.state is NodeState.GONE
    planned = _gone_with_its_node(view) if is_gone else phase(view)
    return replace(planned, changes=(*planned.changes, *useless(view)))


def _making(view: WorkspaceView) -> str:
    """Name the order that makes the workspace, or makes sure of it for a later run.

    It is made sure of after each copy that failed, too: containers are stopped for a copy.
    """
    workspace = view.workspace
    failed = sum(copy.state is CopyState.FAILED for copy in view.copies)
    again = f"/{failed}" if failed else ""
    return f"create/{workspace.attempt}/{workspace.run_id}{again}"


def _ask(view: WorkspaceView) -> Planned:
    if not view.workspace.node_id:
        return _find_place(view)
    building = view.workspace.moved(WorkspaceState.BUILDING, at=view.now)
    due_in_s = left_s(view.workspace.deadline_at, view.now)
    return write(view, building, _create(view), due_in_s=due_in_s)


def _find_place(view: WorkspaceView) -> Planned:
    """Take a machine with room, wish for one, or wait for others to leave theirs."""
    workspace, placement = view.workspace, view.placement
    if placement is not None and placement.node is not None:
        until = view.now + timedelta(seconds=view.clocks.workspace_s)
        placed = replace(workspace, node_id=placement.node.id, deadline_at=until)
        asked = _ask(replace(view, workspace=placed, node=placement.node))
        room = claimed(placement.node, at=view.now)
        return replace(asked, changes=(*asked.changes, room))
    if workspace.deadline_at is None or view.now < workspace.deadline_at:
        room_changes = make_room(placement, view.new_node, nodes_max=view.nodes_max, at=view.now)
        left = left_s(workspace.deadline_at, view.now)
        return Planned(changes=room_changes, due_in_s=soonest([left, view.clocks.stale_s]))
    if placement is not None and placement.is_full:
        until = view.now + timedelta(seconds=view.clocks.node_ready_s)
        waits = Update(replace(workspace, deadline_at=until))
        return Planned(changes=(waits,), due_in_s=view.clocks.stale_s)
    return _give_up(view, "no_machine", reason("no_machine"))


def _create(view: WorkspaceView) -> Insert:
    workspace, project, node = view.workspace, view.project, view.node
    assert node is not None  # noqa: S101  it has a place
    cpus, memory_mb = SIZES[workspace.size]
    body = CreateWorkspace(
        workspace=workspace.id,
        attempt=workspace.attempt,
        repository=project.repository,
        url=view.url,
        base=project.branch,
        branch=workspace.branch,
        cpus=min(cpus, node.cpus or cpus),
        memory_mb=min(memory_mb, node.memory_mb or memory_mb),
        devcontainer=project.devcontainer,
        image=view.image,
        allow=project.allow,
        restore="" if view.copy is None else view.copy.sha256,
    )
    return give(view, _making(view), body)


def _build(view: WorkspaceView) -> Planned:
    workspace = view.workspace
    answer = view.answer(_making(view))
    if answer is not None and answer.ok:
        return _ready(view, from_json(WorkspaceReady, answer.result))
    if answer is not None and answer.ok is False:
        return _give_up(view, answer.code, answer.text)
    if workspace.deadline_at is not None and view.now >= workspace.deadline_at:
        return _give_up(view, "workspace_timeout", reason("workspace_timeout"))
    if is_node_lost(view):
        return _give_up(view, "node_lost", reason("node_lost"))
    due_in_s = soonest([left_s(workspace.deadline_at, view.now), view.clocks.lost_s])
    changes = () if answer is not None else (_create(view),)
    return Planned(changes=changes, due_in_s=due_in_s)


def _ready(view: WorkspaceView, ready: WorkspaceReady) -> Planned:
    workspace = view.workspace
    warm = None if workspace.run_id else view.now + timedelta(seconds=view.clocks.warm_s)
    is_awaited = workspace.active_at is not None and workspace.run_id is None
    new = workspace.moved(
        WorkspaceState.READY,
        at=view.now,
        deadline_at=None,
        container=ready.container,
        user=ready.user,
        folder=ready.folder,
        base=ready.base,
        base_commit=ready.base_commit,
        token_hash=ready.token_hash,
        recovered=ready.recovered,
        notes=(*ready.notes, *ready.restored),
        keep_until=workspace.keep_until or warm,
        active_at=view.now if is_awaited else workspace.active_at,
    )
    copy = view.copy
    more: tuple[Change, ...] = ()
    if copy is not None:
        kept = renewed(copy, at=view.now, clocks=view.clocks)
        more = (Update(kept.moved(CopyState.RESTORED, at=view.now)),)
    return write(view, new, *more, due_in_s=None if new.run_id else 0)


def _give_up(view: WorkspaceView, code: str, text: str) -> Planned:
    """Let go of what cannot be made, or not be made anew: its work is saved before it is removed.

    What could not be saved just before stays, and so does what is on a machine that does not
    answer: that may come back.
    """
    workspace = replace(view.workspace, code=code, error=text)
    holds_work = bool(workspace.base_commit) and view.copy is None
    cannot_save = code == "node_lost" or bool(view.workspace.code)
    if cannot_save and holds_work and workspace.state is WorkspaceState.BUILDING:
        stays = workspace.moved(WorkspaceState.READY, at=view.now, deadline_at=None)
        return write(view, stays, due_in_s=0)
    return _leave(replace(view, workspace=workspace), "stopped")


def _leave(view: WorkspaceView, why: Why) -> Planned:
    new, more = leave(view.workspace, view.copies, why, at=view.now, clocks=view.clocks)
    return write(view, new, *more, due_in_s=0)


def _keep(view: WorkspaceView) -> Planned:
    """Keep a workspace without a run for a while, then let it sleep."""
    workspace = view.workspace
    if workspace.run_id is not None or view.chats:
        return Planned()
    if is_node_lost(view):
        return Planned(due_in_s=view.clocks.lost_s)
    is_draining = view.node is not None and view.node.state is not NodeState.READY
    until = (view.now if is_draining else workspace.keep_until) or view.now
    failed = [copy.state_since for copy in view.copies if copy.state is CopyState.FAILED]
    if failed:
        until = max(until, failed[-1] + timedelta(seconds=view.clocks.publish_s))
    if view.now < until:
        return Planned(due_in_s=left_s(until, view.now))
    return _leave(replace(view, workspace=replace(workspace, code="", error="")), "slept")


def _delete(view: WorkspaceView) -> Planned:
    return remove(view, _gone)


def _gone(view: WorkspaceView) -> Planned:
    new = view.workspace.moved(
        WorkspaceState.GONE, at=view.now, deadline_at=None, token_hash="", run_id=None
    )
    return write(view, new, *dropped(view), *freed(view), due_in_s=None)


def _gone_with_its_node(view: WorkspaceView) -> Planned:
    if view.workspace.state is WorkspaceState.DELETING:
        return _gone(view)
    workspace = replace(view.workspace, code="node_lost", error=reason("node_lost"))
    view = replace(view, workspace=workspace)
    copy = view.copy
    if copy is not None and copy.state is CopyState.KEPT:
        is_stopping = workspace.state is WorkspaceState.STOPPING
        return stop(view) if is_stopping else _leave(view, "stopped")
    new = workspace.moved(WorkspaceState.DELETING, at=view.now, deadline_at=None)
    return write(view, new, *lost(view), due_in_s=0)


_PHASES: Mapping[WorkspaceState, Callable[[WorkspaceView], Planned]] = {
    WorkspaceState.REQUESTED: _ask,
    WorkspaceState.BUILDING: _build,
    WorkspaceState.READY: _keep,
    WorkspaceState.STOPPING: stop,
    WorkspaceState.STOPPED: rest,
    WorkspaceState.DELETING: _delete,
}
