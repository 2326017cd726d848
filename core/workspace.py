"""A workspace: a devcontainer with the repository in it, on a node."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from core.ids import NodeId, PersonId, ProjectId, RunId, TaskId, WorkspaceId
from core.moves import Moves, moved
from core.project import Size


class WorkspaceState(StrEnum):
    """Where a workspace is."""

    REQUESTED = "requested"
    BUILDING = "building"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"
    DELETING = "deleting"
    GONE = "gone"


LIVE = tuple(state for state in WorkspaceState if state is not WorkspaceState.GONE)
_DOWN = {WorkspaceState.DELETING}
MOVES: Moves[WorkspaceState] = {
    WorkspaceState.REQUESTED: frozenset({WorkspaceState.BUILDING, WorkspaceState.STOPPED} | _DOWN),
    WorkspaceState.BUILDING: frozenset({WorkspaceState.READY, WorkspaceState.STOPPING} | _DOWN),
    WorkspaceState.READY: frozenset({WorkspaceState.BUILDING, WorkspaceState.STOPPING} | _DOWN),
    WorkspaceState.STOPPING: frozenset({WorkspaceState.STOPPED, WorkspaceState.BUILDING} | _DOWN),
    WorkspaceState.STOPPED: frozenset({WorkspaceState.REQUESTED} | _DOWN),
    WorkspaceState.DELETING: frozenset({WorkspaceState.GONE}),
    WorkspaceState.GONE: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """A checkout in a container.

    Attributes:
        task_id: The task it was made for; empty for one that was made by hand.
        node_id: Where it is; empty while it is stopped or waits for a machine.
        run_id: The run that works in it now; None between runs.
        attempt: Counts rebuilds; logs, labels and errors belong to one.
        base: Branch that the work started from.
        base_commit: Commit that the work started from.
        token_hash: SHA-256 of the workspace token, empty once revoked.
        recovered: Why a fall-back image is used; empty if the repository's own one is.
        notes: Sentences for the card.
        steps: `[{step, state, at, text}]` of this attempt, oldest first.
        code: Why it cannot be made, saved or removed, for machines.
        error: The same as a sentence.
        keep_until: Until when it stays without a run; of a stopped one, until when it is kept.
        active_at: When somebody last did something with it by hand; what runs do does not count.
        discarded_by: Who threw its work away: it goes without a copy. None for nobody.
    """

    id: WorkspaceId
    project: ProjectId
    task_id: TaskId
    node_id: NodeId
    size: Size
    branch: str
    state: WorkspaceState
    state_since: datetime
    created_at: datetime
    deadline_at: datetime | None = None
    run_id: RunId | None = None
    attempt: int = 1
    container: str = ""
    user: str = ""
    folder: str = ""
    base: str = ""
    base_commit: str = ""
    token_hash: str = ""
    recovered: str = ""
    notes: tuple[str, ...] = ()
    steps: tuple[dict[str, str], ...] = ()
    code: str = ""
    error: str = ""
    keep_until: datetime | None = None
    version: int = 0
    active_at: datetime | None = None
    discarded_by: PersonId | None = None

    def moved(self, to: WorkspaceState, *, at: datetime, **values: Any) -> "Workspace":
        """Return this workspace in state `to`, or raise `TransitionError`."""
        return moved(self, to, MOVES, at=at, **values)
