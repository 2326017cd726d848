"""What a workspace does next. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from core.clocks import Clocks
from core.ids import TerminalId
from core.node import Link, Node, NodeState
from core.order import NodeOrder, order
from core.place import is_lost
from core.plan.step import Planned, left_s, soonest, told
from core.ports.store import Change, Insert, Touch, Update, Wake
from core.project import SIZES, Project
from core.reasons import reason
from core.wire import CreateWorkspace, DeleteWorkspace, OrderBody, WorkspaceReady, from_json
from core.workspace import Workspace, WorkspaceState


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceView:
    """All that a plan for a workspace may look at.

    Attributes:
        orders: Of this workspace, by id.
        url: Where its repository is fetched, without credentials.
        image: The default image.
        terminals: Those in it that have not ended.
    """

    workspace: Workspace
    project: Project
    node: Node
    link: Link | None
    orders: Mapping[str, NodeOrder]
    now: datetime
    fence: int
    clocks: Clocks
    url: str
    image: str
    terminals: tuple[TerminalId, ...] = ()


def plan_workspace(view: WorkspaceView) -> Planned:
    """Return what to write for the workspace now, and when to look again."""
    phase = _PHASES.get(view.workspace.state)
    if phase is None:
        return Planned()
    return _gone_with_its_node(view) if view.node.state is NodeState.GONE else phase(view)


def _write(view: WorkspaceView, new: Workspace, *more: Change, due_in_s: float | None) -> Planned:
    changes: list[Change] = [
        Update(new),
        told(
            f"workspace.{new.state}",
            f"workspace:{new.id}",
            at=view.now,
            task_id=new.task_id,
            run_id=new.run_id,
            code=new.code,
        ),
        Touch(new.task_id),
    ]
    if new.run_id is not None:
        changes.append(Wake("run", new.run_id))
    changes += [Wake("terminal", terminal) for terminal in view.terminals]
    return Planned(changes=(*changes, *more), due_in_s=due_in_s)


def _order(view: WorkspaceView, name: str, body: OrderBody) -> Insert:
    new = order(
        body,
        id=f"{view.workspace.id}/{name}",
        node=view.workspace.node_id,
        subject=("workspace", view.workspace.id),
        fence=view.fence,
        at=view.now,
    )
    return Insert(new, once=True)


def _making(workspace: Workspace) -> str:
    """Name the order that makes the workspace, or makes sure of it for a later run."""
    return f"create/{workspace.attempt}/{workspace.run_id}"


def _ask(view: WorkspaceView) -> Planned:
    building = view.workspace.moved(WorkspaceState.BUILDING, at=view.now)
    due_in_s = left_s(view.workspace.deadline_at, view.now)
    return _write(view, building, _create(view), due_in_s=due_in_s)


def _create(view: WorkspaceView) -> Insert:
    workspace, project = view.workspace, view.project
    cpus, memory_mb = SIZES[workspace.size]
    body = CreateWorkspace(
        workspace=workspace.id,
        attempt=workspace.attempt,
        repository=project.repository,
        url=view.url,
        base=project.branch,
        branch=workspace.branch,
        cpus=min(cpus, view.node.cpus or cpus),
        memory_mb=min(memory_mb, view.node.memory_mb or memory_mb),
        devcontainer=project.devcontainer,
        image=view.image,
        allow=project.allow,
    )
    return _order(view, _making(workspace), body)


def _build(view: WorkspaceView) -> Planned:
    workspace = view.workspace
    answer = view.orders.get(f"{workspace.id}/{_making(workspace)}")
    if answer is not None and answer.ok:
        return _ready(view, from_json(WorkspaceReady, answer.result))
    if answer is not None and answer.ok is False:
        return _give_up(view, answer.code, answer.text)
    if workspace.deadline_at is not None and view.now >= workspace.deadline_at:
        return _give_up(view, "workspace_timeout", reason("workspace_timeout"))
    if is_lost(view.link, view.node.state_since, now=view.now, clocks=view.clocks):
        return _give_up(view, "node_lost", reason("node_lost"))
    due_in_s = soonest([left_s(workspace.deadline_at, view.now), view.clocks.lost_s])
    changes = () if answer is not None else (_create(view),)
    return Planned(changes=changes, due_in_s=due_in_s)


def _ready(view: WorkspaceView, ready: WorkspaceReady) -> Planned:
    new = view.workspace.moved(
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
        notes=ready.notes,
    )
    return _write(view, new, due_in_s=None if new.run_id else 0)


def _deleting(view: WorkspaceView, *, code: str = "", error: str = "") -> Workspace:
    deadline_at = view.now + timedelta(seconds=view.clocks.publish_s)
    return view.workspace.moved(
        WorkspaceState.DELETING, at=view.now, deadline_at=deadline_at, code=code, error=error
    )


def _give_up(view: WorkspaceView, code: str, text: str) -> Planned:
    return _write(view, _deleting(view, code=code, error=text), due_in_s=0)


def _keep(view: WorkspaceView) -> Planned:
    """Keep a workspace without a run for a while; a reply finds its conversation there."""
    workspace = view.workspace
    if workspace.run_id is not None:
        return Planned()
    until = workspace.keep_until or view.now
    if view.now < until and view.node.state is NodeState.READY:
        return Planned(due_in_s=left_s(until, view.now))
    return _write(view, _deleting(view), due_in_s=0)


def _delete(view: WorkspaceView) -> Planned:
    """Order the removal, again under the next attempt if it failed, until it is confirmed."""
    workspace = view.workspace
    name = f"delete/{workspace.attempt}"
    answer = view.orders.get(f"{workspace.id}/{name}")
    if answer is None:
        made = _order(view, name, DeleteWorkspace(workspace=workspace.id))
        return Planned(changes=(made,), due_in_s=view.clocks.publish_s)
    if answer.ok:
        return _gone(view)
    if answer.ok is False:
        again = replace(workspace, attempt=workspace.attempt + 1)
        return Planned(changes=(Update(again),), due_in_s=view.clocks.stop_s)
    return Planned(due_in_s=view.clocks.publish_s)


def _gone(view: WorkspaceView) -> Planned:
    new = view.workspace.moved(
        WorkspaceState.GONE, at=view.now, deadline_at=None, token_hash="", run_id=None
    )
    more = [Wake("node", new.node_id), Wake("admission", "all")]
    if view.workspace.run_id is not None:
        more.append(Wake("run", view.workspace.run_id))
    return _write(view, new, *more, due_in_s=None)


def _gone_with_its_node(view: WorkspaceView) -> Planned:
    if view.workspace.state is WorkspaceState.DELETING:
        return _gone(view)
    return _give_up(view, "node_lost", reason("node_lost"))


_PHASES: Mapping[WorkspaceState, Callable[[WorkspaceView], Planned]] = {
    WorkspaceState.REQUESTED: _ask,
    WorkspaceState.BUILDING: _build,
    WorkspaceState.READY: _keep,
    WorkspaceState.DELETING: _delete,
}
