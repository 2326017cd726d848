"""A run: one execution of a task by a coding agent in a workspace."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from core.ids import NodeId, PersonId, RunId, SessionId, TaskId, WorkspaceId
from core.moves import Moves, moved


class RunState(StrEnum):
    """Where a run is. Forward only, but for `working` and `asking`."""

    PLACING = "placing"
    PREPARING = "preparing"
    STARTING = "starting"
    WORKING = "working"
    ASKING = "asking"
    CHECKING = "checking"
    PUBLISHING = "publishing"
    ENDED = "ended"


class Outcome(StrEnum):
    """How a run ended."""

    PULL_REQUEST = "pull_request"
    PUSHED = "pushed"
    ANSWER = "answer"
    NO_CHANGE = "no_change"
    BLOCKED = "blocked"
    FAILED = "failed"
    CANCELLED = "cancelled"


LIVE = tuple(state for state in RunState if state is not RunState.ENDED)
_LATE = {RunState.CHECKING, RunState.PUBLISHING, RunState.ENDED}
MOVES: Moves[RunState] = {
    RunState.PLACING: frozenset({RunState.PREPARING, RunState.ENDED}),
    RunState.PREPARING: frozenset({RunState.STARTING} | _LATE),
    RunState.STARTING: frozenset({RunState.WORKING} | _LATE),
    RunState.WORKING: frozenset({RunState.ASKING} | _LATE),
    RunState.ASKING: frozenset({RunState.WORKING} | _LATE),
    RunState.CHECKING: frozenset({RunState.PUBLISHING, RunState.ENDED}),
    RunState.PUBLISHING: frozenset({RunState.ENDED}),
    RunState.ENDED: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One attempt at a task.

    Attributes:
        deadline_at: When the state is over time; None in `asking` and `ended`, and while a chat
            waits for its workspace or works.
        verdict: The outcome that is decided and not yet reached: work is being saved.
        reason: One sentence for people: why it ended so and what they can do.
        code: The same for machines; empty when all went well.
        cancel_by: Who asked to stop, empty while nobody did.
        budget_usd: Cap for the model, raised by a person's answer.
        looks: How often a silent coding agent was looked after, or its machine waited for.
        heard_at: When the coding agent was last heard of.
        marks: When each state was first entered, ISO 8601 by state.
        paused_s: Seconds spent in `asking`; the clocks of a run stand still there.
        nudges: How often the coding agent was asked to finish properly.
        summary: What the coding agent says it did.
        measured: What we measured: commit, files, checks (see `core.receipt`).
        node_id: Where the workspace is; of a chat, once its coding agent is started there.
        chat_in: Of a chat, the workspace that it works in without claiming it.
    """

    id: RunId
    task_id: TaskId
    asked_by: PersonId
    number: int
    state: RunState
    state_since: datetime
    created_at: datetime
    deadline_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    node_id: NodeId | None = None
    workspace_id: WorkspaceId | None = None
    session_id: SessionId | None = None
    verdict: Outcome | None = None
    reason: str = ""
    code: str = ""
    cancel_by: str = ""
    budget_usd: Decimal = Decimal(3)
    paused_s: float = 0.0
    nudges: int = 0
    looks: int = 0
    heard_at: datetime | None = None
    summary: str = ""
    measured: dict[str, Any] | None = None
    marks: dict[str, str] | None = None
    version: int = 0
    chat_in: WorkspaceId | None = None

    def moved(self, to: RunState, *, at: datetime, **values: Any) -> "Run":
        """Return this run in state `to`, or raise `TransitionError`."""
        return moved(self, to, MOVES, at=at, **values)

    @property
    def is_over(self) -> bool:
        """Whether it ended; an end is final."""
        return self.state is RunState.ENDED

    @property
    def stop_code(self) -> str:
        """Why it ends when a person stops it: a chat that was closed says so."""
        return self.code or "cancelled"
