"""A node: one machine that runs the node agent and Docker.

Its row, its server and its link are three facts; they are compared and never merged.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from core.ids import NodeId, ReplicaId
from core.moves import Moves, moved
from core.project import Size


class NodeState(StrEnum):
    """What we want of a node."""

    REQUESTED = "requested"
    BOOTING = "booting"
    READY = "ready"
    DRAINING = "draining"
    DELETING = "deleting"
    GONE = "gone"


_DOWN = {NodeState.DELETING}
MOVES: Moves[NodeState] = {
    NodeState.REQUESTED: frozenset({NodeState.BOOTING} | _DOWN),
    NodeState.BOOTING: frozenset({NodeState.READY} | _DOWN),
    NodeState.READY: frozenset({NodeState.DRAINING} | _DOWN),
    NodeState.DRAINING: frozenset({NodeState.READY} | _DOWN),
    NodeState.DELETING: frozenset({NodeState.GONE}),
    NodeState.GONE: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One machine.

    Attributes:
        supplier: `local`, or `joined` for one that somebody enrolled by hand.
        size: Of the workspace that it was wished for; its supplier may have given more.
        server: The supplier's name for the machine; empty until it is known.
        cpus: Processors for workspaces in all.
        memory_mb: Mebibytes for workspaces in all.
        warm_until: Until when it is kept without a workspace.
        active_at: When somebody last worked on it; bookkeeping never writes it.
        error: Why it is being deleted, as a sentence.
    """

    id: NodeId
    supplier: str
    state: NodeState
    state_since: datetime
    created_at: datetime
    deadline_at: datetime | None = None
    size: Size = "small"
    server: str = ""
    cpus: float = 0.0
    memory_mb: int = 0
    token_hash: str = ""
    warm_until: datetime | None = None
    active_at: datetime | None = None
    error: str = ""
    version: int = 0

    def moved(self, to: NodeState, *, at: datetime, **values: Any) -> "Node":
        """Return this node in state `to`, or raise `TransitionError`."""
        return moved(self, to, MOVES, at=at, **values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What a node's agent told us; never written together with the node's row.

    Attributes:
        replica: Which control plane process holds the connection; None while there is none.
        spool: Name of the agent's spool; a new one means that it lost its memory.
        received: Highest number of its durable messages that we stored.
        delivered: Highest number of our orders that it stored.
        seen_at: Last heartbeat.
    """

    node_id: NodeId
    replica: ReplicaId | None = None
    spool: str = ""
    received: int = 0
    delivered: int = 0
    agent: str = ""
    load: float = 0.0
    memory_free_mb: int = 0
    disk_free_mb: int = 0
    seen_at: datetime | None = None
