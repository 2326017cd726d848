"""Which node takes which run. Pure."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta

from core.clocks import Clocks
from core.ids import NodeId, WorkspaceId
from core.node import Link, Node, NodeState
from core.project import SIZES, Size
from core.workspace import Workspace, WorkspaceState

ACTIVE_S = 300.0
"""A workspace in which somebody did something lately does not give way. A guess."""
_LEAVING = {WorkspaceState.STOPPING, WorkspaceState.DELETING}


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A node for a run, or why there is none yet.

    Attributes:
        is_coming: Whether a node that could take it is on its way.
        is_full: Whether there are nodes, and others have their room.
        idle: The workspace without a run that would be missed least, if its room is needed.
    """

    node: Node | None
    reason: str
    is_coming: bool = False
    is_full: bool = False
    idle: Workspace | None = None


def is_up(node: Node, link: Link | None, *, now: datetime, clocks: Clocks) -> bool:
    """Whether the node's agent answered lately enough to be given work."""
    if node.state is not NodeState.READY or link is None or link.seen_at is None:
        return False
    return link.replica is not None and now - link.seen_at < timedelta(seconds=clocks.stale_s)


def is_lost(link: Link | None, since: datetime, *, now: datetime, clocks: Clocks) -> bool:
    """Whether the node's agent was silent for so long that its work is given up."""
    seen = since if link is None or link.seen_at is None else max(link.seen_at, since)
    return now - seen > timedelta(seconds=clocks.lost_s)


def room(node: Node, workspaces: Sequence[Workspace]) -> tuple[float, int]:
    """Return the processors and mebibytes that the node's workspaces leave."""
    cpus, memory = node.cpus, node.memory_mb
    for workspace in workspaces:
        if workspace.node_id == node.id and workspace.state is not WorkspaceState.GONE:
            cpus -= SIZES[workspace.size][0]
            memory -= SIZES[workspace.size][1]
    return cpus, memory


def place(
    size: Size,
    nodes: Sequence[Node],
    links: Mapping[NodeId, Link],
    workspaces: Sequence[Workspace],
    *,
    chats: Set[WorkspaceId] = frozenset(),
    now: datetime,
    clocks: Clocks,
) -> Placement:
    """Choose the fullest node that still has room, so that others can be let go.

    A node smaller than the size that is asked for takes one workspace when it is empty:
    this computer is what it is, and its limits hold the workspace to what there is. A workspace
    with an open chat (`chats`) does not give way.
    """
    cpus, memory = SIZES[size]
    best: tuple[tuple[float, int], Node] | None = None
    full: set[NodeId] = set()
    for node in nodes:
        if not is_up(node, links.get(node.id), now=now, clocks=clocks):
            continue
        free = room(node, workspaces)
        is_empty = free == (node.cpus, node.memory_mb)
        if not is_empty and (free[0] < cpus or free[1] < memory):
            full.add(node.id)
        elif best is None or free < best[0]:
            best = (free, node)
    if best is not None:
        return Placement(node=best[1], reason=f"{best[1].supplier} node {best[1].id} has room")
    coming = any(n.state in {NodeState.REQUESTED, NodeState.BOOTING} for n in nodes)
    if full:
        return Placement(
            node=None,
            reason=f"all {len(full)} nodes are full",
            is_coming=coming,
            is_full=True,
            idle=_idle(
                [one for one in workspaces if one.node_id in full and one.id not in chats],
                now=now,
                clocks=clocks,
            ),
        )
    return Placement(node=None, reason="no node is up", is_coming=coming)


def _idle(workspaces: Sequence[Workspace], *, now: datetime, clocks: Clocks) -> Workspace | None:
    """Return the workspace to let go for another: the one that would be the first to sleep.

    None also while one is on its way out; one that does not get out is not waited for.
    """
    lately = now - timedelta(seconds=clocks.save_s)
    if any(w.state in _LEAVING and w.state_since > lately for w in workspaces):
        return None
    active = now - timedelta(seconds=ACTIVE_S)
    kept = [w for w in workspaces if w.state is WorkspaceState.READY and w.run_id is None]
    kept = [w for w in kept if w.active_at is None or w.active_at <= active]
    return min(kept, key=lambda w: w.keep_until or now, default=None)
