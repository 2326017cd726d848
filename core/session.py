"""An agent session: a conversation of a coding agent in a workspace."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

from core.ids import PersonId, RunId, SessionId, TaskId, TerminalId, WorkspaceId


class SessionState(StrEnum):
    """What the coding agent does, as its events tell."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    IN_TERMINAL = "in_terminal"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSession:
    """What we know of a conversation: its events up to `seen`, folded.

    Attributes:
        seen: Offset of the last event that was folded in; -1 before the first.
        background: How many background tasks the coding agent runs.
        is_complete: Whether it said that it is done since the last prompt.
        summary: What it said it did.
        answer: What it answered, for questions.
        turn_ok: Whether its last turn ended well; None before the first end.
        turn_code: Why not, in the words of `turn.end`.
        turn_text: Its last words.
        ended: Why the process ended, as a sentence; empty while it lives.
        cost_usd: The coding agent's own estimate.
        terminal_id: The terminal that the conversation was left to, in `in_terminal` alone.
    """

    id: SessionId
    run_id: RunId
    task_id: TaskId
    workspace_id: WorkspaceId
    model: str
    state: SessionState
    created_at: datetime
    continues: SessionId | None = None
    seen: int = -1
    background: int = 0
    is_complete: bool = False
    summary: str = ""
    answer: str = ""
    progress: str = ""
    turn_ok: bool | None = None
    turn_code: str = ""
    turn_text: str = ""
    ended: str = ""
    cost_usd: float = 0.0
    terminal_id: TerminalId | None = None
    version: int = 0


PromptState = Literal[
    "pending", "sent", "queued", "started", "completed", "cancelled", "ambiguous", "lost"
]
DELIVERED: frozenset[PromptState] = frozenset({"queued", "started", "completed"})
"""States that prove that the coding agent has a prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What a person said to a coding agent, with its receipt.

    Attributes:
        id: A UUID4; the coding agent gives it back in its receipts.
        when_idle: Whether it waits for the next idle moment instead of steering.
    """

    id: str
    task_id: TaskId
    run_id: RunId
    by: PersonId
    text: str
    state: PromptState
    created_at: datetime
    session_id: SessionId | None = None
    when_idle: bool = False
    version: int = 0
