"""A decision: a question, permission, plan or budget that waits for a person."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from core.ids import DecisionId, PersonId, RunId, SessionId, TaskId
from core.moves import Moves, moved

DecisionKind = Literal["question", "permission", "plan", "budget", "repository"]


class DecisionState(StrEnum):
    """Whether it still waits."""

    OPEN = "open"
    ANSWERED = "answered"
    WITHDRAWN = "withdrawn"


MOVES: Moves[DecisionState] = {
    DecisionState.OPEN: frozenset({DecisionState.ANSWERED, DecisionState.WITHDRAWN}),
    DecisionState.ANSWERED: frozenset(),
    DecisionState.WITHDRAWN: frozenset(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Something that only a person can say.

    Attributes:
        request: The coding agent's id of it; empty for our own questions.
        questions: `[{text, header, options: [{label, description}], multiple}]`.
        detail: What is asked about: a command, a plan; Markdown.
        allow: The answer to a permission, plan or budget.
        answers: Question text to answer text.
        surface: Where it was answered.
        delivered_at: When people could first see it; reminders count from here.
    """

    id: DecisionId
    task_id: TaskId
    run_id: RunId
    kind: DecisionKind
    title: str
    state: DecisionState
    state_since: datetime
    created_at: datetime
    session_id: SessionId | None = None
    request: str = ""
    questions: tuple[dict[str, Any], ...] = ()
    detail: str = ""
    allow: bool | None = None
    answers: dict[str, str] | None = None
    answered_by: PersonId | None = None
    surface: str = ""
    is_sent: bool = False
    reminders: int = 0
    delivered_at: datetime | None = None
    version: int = 0

    def moved(self, to: DecisionState, *, at: datetime, **values: Any) -> "Decision":
        """Return this decision in state `to`, or raise `TransitionError`."""
        return moved(self, to, MOVES, at=at, **values)
