"""What a node does next. Pure: our row, the supplier's list and the link are compared."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from core.clocks import Clocks
from core.node import Link, Node, NodeState
from core.plan.step import Planned, left_s, told
from core.ports.store import Change, Update, Wake
from core.workspace import Workspace

_PLACING = Wake("admission", "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """All that a plan for a node may look at.

    Attributes:
        workspaces: Those on the node that are not gone.
    """

    node: Node
    link: Link | None
    workspaces: Sequence[Workspace]
    now: datetime
    clocks: Clocks


def is_to_be_created(view: NodeView) -> bool:
    """Whether the supplier is to be asked for the machine now."""
    return view.node.state is NodeState.REQUESTED and not _is_late(view)


def is_to_be_destroyed(view: NodeView) -> bool:
    """Whether the machine is to be destroyed now: nothing of value is on it any more."""
    return view.node.state is NodeState.DELETING and not view.workspaces


def plan_node(view: NodeView) -> Planned:
    """Return what to write for the node now, and when to look again."""
    node = view.node
    if node.state in {NodeState.REQUESTED, NodeState.BOOTING}:
        return _boot(view)
    if node.state is NodeState.DRAINING and not view.workspaces:
        return _write(view, node.moved(NodeState.DELETING, at=view.now), due_in_s=0)
    if node.state in {NodeState.DRAINING, NodeState.DELETING}:
        waking = tuple(Wake("workspace", w.id) for w in view.workspaces if w.run_id is None)
        return Planned(changes=waking, due_in_s=view.clocks.sweep_s)
    return Planned(due_in_s=None if node.state is NodeState.GONE else view.clocks.lost_s)


def _is_late(view: NodeView) -> bool:
    return view.node.deadline_at is not None and view.now >= view.node.deadline_at


def _boot(view: NodeView) -> Planned:
    node = view.node
    is_linked = view.link is not None and view.link.replica is not None
    if node.state is NodeState.BOOTING and is_linked:
        ready = node.moved(NodeState.READY, at=view.now, deadline_at=None, active_at=view.now)
        return _write(view, ready, _PLACING, due_in_s=view.clocks.lost_s)
    if _is_late(view):
        return not_created(view, "It did not answer in time. Look at its log, then try again.")
    return Planned(due_in_s=left_s(node.deadline_at, view.now))


def _write(view: NodeView, new: Node, *more: Change, due_in_s: float | None) -> Planned:
    fact = told(f"node.{new.state}", f"node:{new.id}", at=view.now, error=new.error)
    return Planned(changes=(Update(new), fact, *more), due_in_s=due_in_s)


def created(view: NodeView, server: str) -> Planned:
    """Return what to write once the supplier has the machine.

    Its node agent may have linked before this is written; so it is looked at again at once.
    """
    booting = view.node.moved(NodeState.BOOTING, at=view.now, server=server)
    return _write(view, booting, due_in_s=0)


def not_created(view: NodeView, error: str) -> Planned:
    """Return what to write when there will be no machine."""
    deleting = view.node.moved(NodeState.DELETING, at=view.now, deadline_at=None, error=error)
    return _write(view, deleting, _PLACING, due_in_s=0)


def destroyed(view: NodeView) -> Planned:
    """Return what to write once the machine is gone."""
    gone = replace(view.node, token_hash="").moved(NodeState.GONE, at=view.now)
    return _write(view, gone, _PLACING, due_in_s=None)


def deadline(now: datetime, clocks: Clocks) -> datetime:
    """Return until when a node asked for now must answer."""
    return now + timedelta(seconds=clocks.node_ready_s)
