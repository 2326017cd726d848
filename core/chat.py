"""A chat: a conversation with a coding agent in a workspace, beside the task it was made for."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from core.ids import PersonId, TaskId, WorkspaceId
from core.run import Run, RunState
from core.session import AgentSession, SessionState
from core.task import Task, TaskState

CHATS_MAX = 8
"""Open chats of one workspace. A coding agent takes some hundred megabytes there."""
Activity = Literal["starting", "idle", "busy", "asking", "ending", "ended"]
"""What a conversation is at, as people see it."""
_NOT_YET = frozenset({RunState.PLACING, RunState.PREPARING, RunState.STARTING})
_NO_MORE = frozenset({RunState.CHECKING, RunState.PUBLISHING, RunState.ENDED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A tab of a workspace in which people talk to a coding agent.

    It is a task of its own, whose runs work in this workspace and claim none. All chats of a
    workspace, its task's run and its shells share one working tree.

    Attributes:
        id: The task: what is said, asked, done and spent is that task's.
        title: As its tab shows it; people may change it.
        position: Place among the chats of its workspace, from left to right.
        is_closed: Whether its tab was closed.
    """

    id: TaskId
    workspace_id: WorkspaceId
    title: str
    position: int
    opened_by: PersonId
    created_at: datetime
    is_closed: bool = False
    version: int = 0


def activity(task: Task, run: Run | None, session: AgentSession | None) -> Activity:
    """Say what a task's conversation is at, from its newest run and that run's session."""
    if task.state.is_over:
        return "ended"
    is_queued = task.state is TaskState.QUEUED
    if is_queued or run is None or run.state in _NOT_YET or session is None:
        return "starting"
    if run.state in _NO_MORE:
        return "ending"
    if run.state is RunState.ASKING:
        return "asking"
    return "idle" if session.state is SessionState.IDLE else "busy"
