"""What all plans for a workspace share: what they look at, and how a step is written. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from core.clocks import Clocks
from core.ids import RunId, TerminalId
from core.message import Thread
from core.node import Link, Node, NodeState
from core.order import NodeOrder, order
from core.place import Placement, is_lost, is_up
from core.plan.step import Planned, left_s, told
from core.ports.store import Change, Insert, Touch, Update, Wake
from core.project import Project
from core.rescue import CURRENT, RescueCopy
from core.task import Task
from core.wire import DeleteWorkspace, OrderBody
from core.workspace import Workspace, WorkspaceState

NOT_REMOVED = "not_removed"
"""Why a workspace that leaves is still on its machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceView:
    """All that a plan for a workspace may look at.

    Attributes:
        node: Where it is; None while it is on no machine.
        orders: Of this workspace, by id.
        url: Where its repository is fetched, without credentials.
        image: The default image.
        terminals: Those in it that have not ended.
        chats: The runs of chats in it that have not ended.
        recordings: Those of its terminals that are still on the node alone.
        copies: Its rescue copies, oldest first.
        placement: Only while it waits for a machine; so is `new_node`, see `RunView`.
        task: The one that it was made for, with its thread; only while it is stopped.
    """

    workspace: Workspace
    project: Project
    node: Node | None
    link: Link | None
    orders: Mapping[str, NodeOrder]
    now: datetime
    fence: int
    clocks: Clocks
    url: str
    image: str
    terminals: tuple[TerminalId, ...] = ()
    chats: tuple[RunId, ...] = ()
    recordings: tuple[TerminalId, ...] = ()
    copies: tuple[RescueCopy, ...] = ()
    placement: Placement | None = None
    new_node: Node | None = None
    nodes_max: int = 1
    task: Task | None = None
    thread: Thread | None = None

    @property
    def copy(self) -> RescueCopy | None:
        """The copy that is being made, or that holds all of the workspace's work."""
        return current(self.copies)

    def answer(self, name: str) -> NodeOrder | None:
        """Return the workspace's order of this name."""
        return self.orders.get(f"{self.workspace.id}/{name}")


def current(copies: tuple[RescueCopy, ...]) -> RescueCopy | None:
    """Return the one of a workspace's copies that is being made or holds all of its work."""
    return next((copy for copy in copies if copy.state in CURRENT), None)


def write(view: WorkspaceView, new: Workspace, *more: Change, due_in_s: float | None) -> Planned:
    """Move the workspace; wake who waits for it."""
    task_id = new.task_id or None
    about = f"workspace:{new.id}"
    changes: list[Change] = [
        Update(new),
        told(
            f"workspace.{new.state}",
            about,
            at=view.now,
            task_id=task_id,
            run_id=new.run_id,
            code=new.code,
        ),
    ]
    changes += [Touch(task_id)] if task_id else []
    run_id = new.run_id or view.workspace.run_id
    changes += [Wake("run", run_id)] if run_id else []
    changes += [Wake("terminal", terminal) for terminal in view.terminals]
    changes += [Wake("run", chat) for chat in view.chats]
    return Planned(changes=(*changes, *more), due_in_s=due_in_s)


def give(view: WorkspaceView, name: str, body: OrderBody) -> Insert:
    """Return the order of this name to the workspace's node."""
    new = order(
        body,
        id=f"{view.workspace.id}/{name}",
        node=view.workspace.node_id,
        subject=("workspace", view.workspace.id),
        fence=view.fence,
        at=view.now,
    )
    return Insert(new, once=True)


def is_node_lost(view: WorkspaceView) -> bool:
    """Whether its machine was silent for so long that it is given up."""
    return view.node is not None and is_lost(
        view.link, view.node.state_since, now=view.now, clocks=view.clocks
    )


def freed(view: WorkspaceView) -> tuple[Change, ...]:
    """Return who is woken when the workspace has left its machine."""
    node = view.workspace.node_id
    return (*([Wake("node", node)] if node else ()), Wake("admission", "all"))


def failed_removals(view: WorkspaceView) -> list[NodeOrder]:
    """Return the removals that failed since the workspace began to leave, oldest first."""
    since, name = view.workspace.state_since, f"{view.workspace.id}/delete/"
    orders = [one for one in view.orders.values() if one.id.startswith(name) and one.ok is False]
    return sorted(
        (one for one in orders if one.created_at >= since), key=lambda one: one.created_at
    )


def remove(view: WorkspaceView, then: Callable[[WorkspaceView], Planned]) -> Planned:
    """Order the removal until it is confirmed: one that failed later each time.

    Meanwhile the page of the workspace has what its machine says.
    """
    workspace, name = view.workspace, f"delete/{view.workspace.attempt}"
    if view.node is None or view.node.state is NodeState.GONE:
        return then(view)
    answer = view.answer(name)
    if answer is None and _waits_for_recordings(view):
        return Planned(due_in_s=_recorded_in_s(view))
    if answer is None:
        return Planned(changes=(_removal(view, name),), due_in_s=view.clocks.publish_s)
    if answer.ok:
        is_noted = workspace.code == NOT_REMOVED
        done = replace(workspace, code="", error="") if is_noted else workspace
        return then(replace(view, workspace=done))
    if answer.ok is False:
        return _again(view, answer)
    return Planned(due_in_s=view.clocks.publish_s)


def _removal(view: WorkspaceView, name: str) -> Insert:
    workspace = view.workspace
    body = DeleteWorkspace(
        workspace=workspace.id,
        discard=workspace.discarded_by is not None,
        keeps_volumes=workspace.state is WorkspaceState.STOPPING,
    )
    return give(view, name, body)


def _again(view: WorkspaceView, failed: NodeOrder) -> Planned:
    """Wait, each time twice as long, and order the removal under the next attempt."""
    workspace, tries = view.workspace, len(failed_removals(view))
    wait_s = min(view.clocks.stop_s * 2 ** min(tries - 1, 10), view.clocks.workspace_s)
    left = left_s((failed.answered_at or failed.created_at) + timedelta(seconds=wait_s), view.now)
    if not left:
        again = replace(workspace, attempt=workspace.attempt + 1)
        ordered = _removal(view, f"delete/{again.attempt}")
        return Planned(changes=(Update(again), ordered), due_in_s=view.clocks.publish_s)
    error = f"It could not be removed from {failed.node_id} yet, and is tried again: {failed.text}"
    noted = replace(workspace, code=NOT_REMOVED, error=error)
    is_news = workspace.code in {"", NOT_REMOVED} and noted != workspace
    return Planned(changes=(Update(noted),) if is_news else (), due_in_s=left)


def _waits_for_recordings(view: WorkspaceView) -> bool:
    """Whether what its terminals wrote is still to be fetched, and may be."""
    is_owed = bool(view.terminals or view.recordings)
    is_node_up = view.node is not None and is_up(
        view.node, view.link, now=view.now, clocks=view.clocks
    )
    return is_owed and is_node_up and _recorded_in_s(view) > 0


def _recorded_in_s(view: WorkspaceView) -> float:
    until = view.workspace.state_since + timedelta(seconds=view.clocks.stop_s)
    return left_s(until, view.now) or 0.0
