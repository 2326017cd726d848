"""A task: what a person asked for, from the message to the merged pull request."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from core.ids import PersonId, ProjectId, TaskId, ThreadId
from core.moves import Moves, moved

TaskKind = Literal["task", "question"]


class TaskState(StrEnum):
    """Where a task is. Whether its pull request is open or merged is a fact, not a state."""

    QUEUED = "queued"
    ACTIVE = "active"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        """Whether nothing works on it; a follow-up queues it again."""
        return self in {TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED}


_ENDS = frozenset({TaskState.DONE, TaskState.FAILED, TaskState.CANCELLED})
MOVES: Moves[TaskState] = {
    TaskState.QUEUED: frozenset({TaskState.ACTIVE, TaskState.FAILED, TaskState.CANCELLED}),
    TaskState.ACTIVE: _ENDS | {TaskState.WAITING},
    TaskState.WAITING: _ENDS | {TaskState.ACTIVE},
    TaskState.DONE: frozenset({TaskState.QUEUED}),
    TaskState.FAILED: frozenset({TaskState.QUEUED}),
    TaskState.CANCELLED: frozenset({TaskState.QUEUED}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One piece of work that somebody asked for.

    Attributes:
        prompt: The person's words.
        slug: Part of the branch name: lower-case letters, digits, hyphens.
        branch: `samovar/{id}-{slug}`, decided when the task is written.
        runs: How many runs there were.
        priority: Higher ones go first.
        pull_number: 0 while there is no pull request.
    """

    id: TaskId
    project: ProjectId
    thread: ThreadId
    asked_by: PersonId
    kind: TaskKind
    title: str
    slug: str
    prompt: str
    branch: str
    state: TaskState
    state_since: datetime
    created_at: datetime
    runs: int = 0
    priority: int = 0
    pull_number: int = 0
    pull_url: str = ""
    pull_state: str = ""
    pull_draft: bool = False
    version: int = 0

    def moved(self, to: TaskState, *, at: datetime, **values: Any) -> "Task":
        """Return this task in state `to`, or raise `TransitionError`."""
        return moved(self, to, MOVES, at=at, **values)
